"""Brings the kernel to what is wanted: only what differs, in an order in which every packet on the way is served.

Sets first, so that the first packet is masqueraded as it should be; then virtual servers, then marks, then addresses;
and taking away goes the other way round. What is refused is somebody's failure and tried again with the next write.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from deltaplane.forwarding import Target
from nodeagent.dataplane.ipvs import sets
from nodeagent.dataplane.ipvs import wire as codec
from nodeagent.dataplane.ipvs.desired import Desired
from nodeagent.dataplane.ipvs.kernel import Channel
from nodeagent.dataplane.ipvs.names import ADDRESS, OUTSIDE_MARK, Element, place
from nodeagent.dataplane.ipvs.netlink_batch import NetlinkBatch, Order, reason
from nodeagent.dataplane.ipvs.objects import BY_MARK, Held, Server, Virtual, VirtualKey, mark_key, served_at
from nodeagent.dataplane.ipvs.state import State
from nodeagent.dataplane.ipvs.steps import CONTRADICTIONS, Step, explained, order, steps_to
from nodeagent.dataplane.outcome import Drifted
from nodeagent.linux.netlink import rtnetlink as rt
from nodeagent.linux.netlink import wire

Thing = VirtualKey | Element
_NO_SET = errno.ENOENT
PATIENCE, PAUSE = 100, 0.001  # how often, and how long in seconds, an address of IPv6 is waited for


class Writer:
    """`failed` says of everything that was refused why; `draining` has the virtual servers with leaving endpoints.

    `keeps` tells the virtual servers that are never to be deleted.
    """

    def __init__(
        self, desired: Desired, state: State, batch: NetlinkBatch, keeps: Callable[[VirtualKey], bool]
    ) -> None:
        self.desired, self.state, self.batch = desired, state, batch
        self.failed: dict[Thing, str] = {}
        self.draining: set[VirtualKey] = set()
        self._keeps = keeps

    def write(self) -> None:
        """Raises KernelUnavailable and Drifted; what was wanted stays to be written."""
        wanted = self.desired.wanted
        self.failed = {}
        keys, elements = list(self.desired.virtuals.pending), list(self.desired.elements.pending)
        plain = [element for element in elements if element.set != ADDRESS]
        addresses = [element for element in elements if element.set == ADDRESS]
        gone = [key for key in keys if not _served(wanted(key))]
        self._add(plain)
        self._bring([key for key in keys if _served(wanted(key))])
        self._change_addresses([e for e in addresses if self._lacks(e)], rt.NEW_ADDRESS)
        self._unmark(gone)
        self._run([step for key in gone for step in self._removal(key)])
        self._change_addresses([e for e in addresses if self._superfluous(e)], rt.DEL_ADDRESS)
        self._delete(plain)
        self._settled(keys, elements)

    def forget(self) -> None:
        """The kernel was read again: who drains is told by the weights."""
        self.draining = {key for key, held in self.state.virtuals.items() if 0 in held.reals.values()}

    def _settled(self, keys: Iterable[VirtualKey], elements: Iterable[Element]) -> None:
        """What failed stays pending."""
        for key in keys:
            if key not in self.failed:
                self.desired.virtuals.settle(key, self.desired.wanted(key))
        for element in elements:
            if element not in self.failed:
                self.desired.elements.settle(element, present=element in self.state.elements)

    # ------------------------------------------------------------ sets and addresses

    def _lacks(self, element: Element) -> bool:
        return element in self.desired.elements and element not in self.state.elements

    def _superfluous(self, element: Element) -> bool:
        return element not in self.desired.elements and element in self.state.elements

    def _add(self, elements: Iterable[Element]) -> None:
        self._change_sets([(e, 0) for e in elements if self._lacks(e)], sets.ADD)

    def _delete(self, elements: Iterable[Element]) -> None:
        self._change_sets([(e, 0) for e in elements if self._superfluous(e)], sets.DEL)

    def _change_sets(self, elements: Sequence[tuple[Element, int]], command: int) -> None:
        """Many in one message; where that is refused, one by one, so that the bad one alone is left out."""
        parts = list(_parts(elements))
        refused = self._send_sets(parts, command)
        bad: set[Element] = set()
        singles = [[item] for number in refused for item in parts[number]]
        for number, code in self._send_sets(singles, command).items():
            if code == _NO_SET:
                raise Drifted
            self.failed.setdefault(_cause(singles[number][0][0]), reason(code))
            bad.add(singles[number][0][0])
        for element, _ in elements:
            if element not in bad:
                self._settle_element(element, there=command == sets.ADD)

    def _send_sets(self, parts: Sequence[Sequence[tuple[Element, int]]], command: int) -> dict[int, int]:
        orders = []
        for part in parts:
            family, name, _ = part[0][0]
            body = sets.change(family, name, [(element.key, mark) for element, mark in part])
            orders.append(Order(command, body))
            self.batch.sent.elements += len(part)
        return self.batch.send(Channel.SETS, orders)

    def _settle_element(self, element: Element, *, there: bool) -> None:
        (self.state.elements.add if there else self.state.elements.discard)(element)

    def _change_addresses(self, elements: Sequence[Element], command: int) -> None:
        adding = command == rt.NEW_ADDRESS
        flags = wire.CREATE | wire.EXCLUSIVE if adding else 0
        link = self.state.link
        orders = [Order(command, rt.address(rt.Address(e.family, e.key, link)), flags) for e in elements]
        self.batch.sent.elements += len(orders)
        refused = self.batch.send(Channel.ROUTE, orders)
        for number, element in enumerate(elements):
            code = refused.get(number, 0)
            if code == errno.ENODEV:
                raise Drifted
            if code in (0, errno.EEXIST if adding else errno.EADDRNOTAVAIL):
                self._settle_element(element, there=adding)
            else:
                self.failed[element] = reason(code)
        last = next((e for e in reversed(elements) if e.family == 6 and e in self.state.elements), None)
        if adding and last is not None:
            self._await(rt.Address(6, last.key, link))

    def _await(self, address: rt.Address) -> None:
        """IPv6 makes an address this machine's a moment after it took it; addresses one after the other."""
        order = Order(rt.GET_ROUTE, rt.route(address.address))
        for _ in range(PATIENCE):
            with contextlib.suppress(OSError):  # no route at all is no local one
                if rt.is_local(next(self.batch.ask(Channel.ROUTE, order, listing=False))):
                    return
            time.sleep(PAUSE)

    # ------------------------------------------------------------ virtual servers

    def _bring(self, keys: Sequence[VirtualKey]) -> None:
        steps: list[Step] = []
        marks: list[tuple[Element, int]] = []
        for key in keys:
            virtual = self.desired.wanted(key)
            if virtual is None or virtual.targets is None:
                continue
            steps += steps_to(key, key, Server(virtual.manner, virtual.targets), self.state.virtuals.get(key))
            if virtual.outside is not None:
                mark = self.state.mark(key)
                at = mark_key(key.family, mark)
                steps += steps_to(at, key, Server(virtual.outside_manner, virtual.outside), self.state.virtuals.get(at))
                marks.append((_marking(key), mark))
        self._run(steps)
        self._change_sets([item for item in marks if item[0] not in self.state.elements], sets.ADD)
        unmarked = [key for key in keys if _unmarked(self.desired.wanted(key))]
        self._unmark(unmarked)
        self._run([step for key in unmarked for step in self._mark_removal(key)])
        self.drain({step.at for step in steps if step.command == codec.SET_DEST and not step.weight})

    def _removal(self, key: VirtualKey) -> Iterator[Step]:
        yield from self._mark_removal(key)
        if key in self.state.virtuals and not self._keeps(key):
            yield Step(codec.DEL_SERVICE, key, key)

    def _mark_removal(self, key: VirtualKey) -> Iterator[Step]:
        mark = self.state.marks.get(key)
        if mark is not None:
            self.state.forget_mark(key)
            at = mark_key(key.family, mark)
            if at in self.state.virtuals:
                yield Step(codec.DEL_SERVICE, at, key)

    def _unmark(self, keys: Iterable[VirtualKey]) -> None:
        marked = (_marking(key) for key in keys if key.protocol != BY_MARK)
        there = [element for element in marked if element in self.state.elements]
        self._change_sets([(element, 0) for element in there], sets.DEL)

    def _run(self, steps: Sequence[Step]) -> None:
        refused = self.batch.send(Channel.IPVS, [order(step) for step in steps])
        self.batch.sent.elements += len(steps)
        broken: set[VirtualKey] = set()  # what follows on a virtual server that could not be made says nothing
        for number, step in enumerate(steps):
            code = refused.get(number, 0)
            if not code:
                self._settle(step)
            elif step.at not in broken:
                if code in CONTRADICTIONS[step.command]:
                    raise Drifted
                self.failed.setdefault(step.cause, explained(step, code))
                if step.command == codec.NEW_SERVICE:
                    broken.add(step.at)

    def _settle(self, step: Step) -> None:
        virtuals = self.state.virtuals
        if step.command == codec.DEL_SERVICE:
            virtuals.pop(step.at, None)
            self.draining.discard(step.at)
        elif step.command == codec.NEW_SERVICE and step.server is not None:
            virtuals[step.at] = Held(step.server.manner)
        elif step.command == codec.SET_SERVICE and step.server is not None:
            virtuals[step.at].manner = step.server.manner
        elif step.command == codec.DEL_DEST and step.target is not None:
            virtuals[step.at].reals.pop(step.target, None)
            virtuals[step.at].idle = ()
        elif step.target is not None:
            virtuals[step.at].reals[step.target] = step.weight

    # ------------------------------------------------------------ endpoints that leave

    def drain(self, keys: Iterable[VirtualKey]) -> None:
        """Takes away real servers of weight 0 that have no connection left. Raises KernelUnavailable and Drifted."""
        steps = []
        for key in keys:
            held = self.state.virtuals.get(key)
            leaving = [target for target, weight in held.reals.items() if not weight] if held is not None else []
            if leaving:
                self.draining.add(key)
                idle = self._idle(key)
                steps += [Step(codec.DEL_DEST, key, key, target=target) for target in leaving if target in idle]
        self._run(steps)
        for key in list(self.draining):
            held = self.state.virtuals.get(key)
            if held is None or all(held.reals.values()):
                self.draining.discard(key)

    def _idle(self, key: VirtualKey) -> set[Target]:
        """Those without a connection; a virtual server that has gone has none at all."""
        try:
            bodies = list(self.batch.ask(Channel.IPVS, Order(codec.GET_DEST, codec.service(key))))
        except OSError as error:
            raise Drifted from error
        reals = (codec.read_dest(key.family, body) for body in bodies)
        return {real.target for real in reals if not real.connections}


def _served(virtual: Virtual | None) -> bool:
    return virtual is not None and virtual.targets is not None


def _unmarked(virtual: Virtual | None) -> bool:
    return virtual is not None and virtual.outside is None


def _marking(key: VirtualKey) -> Element:
    return Element(key.family, OUTSIDE_MARK, place(key.address, key.protocol, key.port))


def _cause(element: Element) -> Thing:
    """What is refused with an element: a mark has no owner, it belongs to an address and port."""
    return served_at(element) if element.set == OUTSIDE_MARK else element


def _parts(elements: Sequence[tuple[Element, int]]) -> Iterator[list[tuple[Element, int]]]:
    """Elements of one set, as many as fit a message."""
    by_set: defaultdict[tuple[int, str], list[tuple[Element, int]]] = defaultdict(list)
    for element, mark in elements:
        by_set[element.family, element.set].append((element, mark))
    for members in by_set.values():
        for start in range(0, len(members), sets.PER_MESSAGE):
            yield members[start : start + sets.PER_MESSAGE]
