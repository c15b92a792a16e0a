"""What others did to what is ours, judged from notices and, when the clock ticks, from looking.

The kernel tells of addresses and links only. So every tick the rules and the list of virtual servers are compared
whole, real servers and sets a part at a time: with 5,000 Services every real server is seen once in 25 minutes. The
tick is also when endpoints that drain are let go.
"""

from __future__ import annotations

import logging
import time
from itertools import cycle, islice

from deltaplane.model import WIDTHS
from nodeagent.dataplane.ipvs import inventory, names, sets
from nodeagent.dataplane.ipvs.ensure_base import Base
from nodeagent.dataplane.ipvs.kernel import Channel
from nodeagent.dataplane.ipvs.names import ADDRESS, Element
from nodeagent.dataplane.ipvs.netlink_batch import Order
from nodeagent.dataplane.ipvs.objects import VirtualKey
from nodeagent.dataplane.ipvs.watch import Heard, Notice
from nodeagent.dataplane.ipvs.writer import Writer
from nodeagent.dataplane.outcome import Drifted
from nodeagent.errors import KernelUnavailable

log = logging.getLogger(__name__)

RULES_SHARE = 50
AT_A_TIME = 100  # virtual servers whose real servers are looked at in one tick


class Drift:
    """Remembers that something was seen until it is put right."""

    def __init__(self, writer: Writer, base: Base) -> None:
        self._writer, self._base = writer, base
        self._seen = False
        self._turn: list[VirtualKey] = []  # whose real servers are still to be looked at
        self._names = cycle(names.TYPES)
        self._rules_at = 0.0  # not before

    def settled(self) -> None:
        """All was read and put right."""
        self._seen = False

    def judge(self, heard: Heard) -> bool:
        """Whether there is something to put right."""
        if heard.notices is None:
            self._seen = True
        for notice in heard.notices or ():
            self._take(notice)
        if heard.ticked and not self._seen:
            self._look()
        return self._seen

    # ------------------------------------------------------------ notices

    def _take(self, notice: Notice) -> None:
        state = self._writer.state
        if notice.address is None:
            self._seen |= notice.link == state.link
        elif notice.link == state.link:
            self._seen |= self._surprises(notice)
        else:
            self._move(notice)

    def _surprises(self, notice: Notice) -> bool:
        """An address of ours that is gone, or one on our link that is not ours."""
        found = notice.address
        if found is None or inventory.is_automatic(found.address):
            return False
        ours = Element(found.family, ADDRESS, found.address) in self._writer.state.elements
        return ours is notice.gone

    def _move(self, notice: Notice) -> None:
        state, found = self._writer.state, notice.address
        if found is None or inventory.is_automatic(found.address):
            return
        others = state.others - {found.address} if notice.gone else state.others | {found.address}
        if others != state.others:
            state.others = others
            self._writer.desired.put_addresses(others)

    # ------------------------------------------------------------ looking

    def _look(self) -> None:
        try:
            self._writer.drain(list(self._writer.draining))
            self._seen = self._servers_differ() or self._sets_differ() or self._rules_differ()
        except Drifted:
            self._seen = True
        except (OSError, KernelUnavailable) as error:
            log.warning("ipvs: looking for what others changed failed: %s", error)

    def _servers_differ(self) -> bool:
        state, batch = self._writer.state, self._writer.batch
        found = {key: held for key, held in inventory.keys(batch).items() if state.is_ours(key)}
        if found.keys() != state.virtuals.keys():
            return True
        if any(found[key].manner != held.manner for key, held in state.virtuals.items()):
            return True
        self._turn = self._turn or list(state.virtuals)
        now, self._turn = self._turn[:AT_A_TIME], self._turn[AT_A_TIME:]
        there = (key for key in now if key in state.virtuals)
        return any(inventory.read_reals(batch, key) != state.virtuals[key].reals for key in there)

    def _sets_differ(self) -> bool:
        return any(self._set_differs(name) for name in islice(self._names, 2))

    def _set_differs(self, name: str) -> bool:
        state, batch = self._writer.state, self._writer.batch
        for family in self._base.families:
            order = Order(sets.LIST, sets.about(names.named(family, name)))
            width = WIDTHS[family]
            found = {
                key
                for body in batch.ask(Channel.SETS, order)
                for key, _ in sets.read_elements(names.TYPES[name], width, body)
            }
            if found != {e.key for e in state.elements if e.set == name and e.family == family}:
                return True
        return False

    def _rules_differ(self) -> bool:
        """Listing takes long where others have many rules; it shall never take more than a fiftieth of the time."""
        began = time.monotonic()
        if began < self._rules_at:
            return False
        kernel = self._writer.batch.kernel
        differ = any(self._base.lacking(kernel, family) for family in self._base.families)
        ended = time.monotonic()
        self._rules_at = ended + (ended - began) * RULES_SHARE
        return differ
