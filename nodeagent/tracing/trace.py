"""Follows one packet: marks the flow, hears what the kernel tells, sends the packet where that can be done here."""

from __future__ import annotations

import selectors
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

from nodeagent.linux.iptables.programs import legacy_tables
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.socket import NetlinkProtocol, NetlinkSocket
from nodeagent.linux.nft.kernel import NetlinkKernel
from nodeagent.tracing import events, sending
from nodeagent.tracing.flow import Destination, Flow, Step, Traced, Translated
from nodeagent.tracing.marking import ANSWERS, TABLE, marked
from nodeagent.tracing.texts import Texts

DROP = "drop"  # the verdict at which a packet ends
QUIET = 0.3  # seconds without a word after which a packet's way is at its end
_BUFFER = 1 << 20  # bytes; a ceiling
LEGACY = "rules of iptables-legacy are not shown: that flavour writes its trace to the kernel log alone (dmesg, TRACE:)"
IPVS = "IPVS has no tracing of its own: rules are shown up to the chain INPUT, then the connection that it made"


class Heard:
    """What was told so far of the flow."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self.steps: list[Step] = []
        self.destinations: dict[int, Destination] = {}  # the last one of each packet
        self.translated: Translated | None = None
        self.at = 0.0

    def take(self, message: wire.Message, now: float) -> None:
        step = events.step(message)
        if step is not None:
            self.steps.append(step)
            self.at = now
        going = events.destination(message)
        if going is not None:
            self.destinations[going.packet] = going
        found = events.translated(message, self._flow)
        if found is not None:
            self.translated, self.at = self.translated or found, now

    def ways(self, *, of_answers: bool = False) -> list[list[Step]]:
        """The way of each packet, in the order they came, but for the rules that have them traced."""
        found: dict[int, list[Step]] = {}
        answers: set[int] = set()
        for step in self.steps:
            way = found.setdefault(step.packet, [])
            if step.table.partition(" ")[2] != TABLE:
                way.append(step)
            elif step.handle and step.chain.startswith(ANSWERS):  # its policy is every packet's
                answers.add(step.packet)
        return [way for packet, way in found.items() if (packet in answers) == of_answers]


def trace(flow: Flow, timeout: float, *, wait: bool = False) -> Traced:
    """What the kernel does with the flow's next packet, within `timeout` seconds.

    `wait`: it comes by itself; else it is sent from here, and waited for where nobody here has the source's address.
    Raises KernelUnavailable, OSError.
    """
    heard, notes = Heard(flow), list(_notes(flow))
    groups = events.TRACE_GROUP, events.CONNECTIONS_GROUP
    sent: Future[str] | None = None
    hearing = NetlinkSocket(NetlinkProtocol.NETFILTER, groups, receive_buffer=_BUFFER)
    with closing(hearing) as ear, marked(flow), ThreadPoolExecutor(1, "packet") as pool:
        try:
            sent = None if wait else pool.submit(sending.sent, flow, sending.opened(flow), timeout)
        except sending.NotHere as error:
            notes.append(f"{error}: the packet was waited for")
        _listen(ear, heard, timeout, sent)
    outcome = "" if sent is None else sent.result()
    with closing(NetlinkKernel()) as kernel:
        texts, ways = Texts(kernel), heard.ways()
        steps = texts.shown(ways[0]) if ways else ()
        lost = texts.shown(step for way in heard.ways(of_answers=True) for step in way if step.verdict == DROP)
    dropped = next((step for step in steps if step.verdict == DROP), None)
    going = heard.destinations.get(ways[0][0].packet) if dropped else None
    to = _place(going.address, going.port) if going else ""
    ends = _ends(heard.translated)
    return Traced(len(ways), steps, outcome, *ends, dropped, to, next(iter(lost), None), tuple(notes))


def _listen(ear: NetlinkSocket, heard: Heard, timeout: float, sent: Future[str] | None) -> None:
    """Until the packet's way is at its end, or the time is over."""
    deadline, done = time.monotonic() + timeout, sent is None
    with selectors.DefaultSelector() as selector:
        selector.register(ear, selectors.EVENT_READ)
        while (now := time.monotonic()) < deadline or not done:
            done = sent is None or sent.done()
            if heard.steps and done and now - heard.at > QUIET:
                return
            if selector.select(QUIET):
                for data in ear.heard()[0]:
                    for message in wire.messages(data):
                        heard.take(message, time.monotonic())


def _ends(found: Translated | None) -> tuple[str, str]:
    if found is None:
        return "", ""
    return _place(found.endpoint, found.port), str(ip_address(found.seen))


def _place(packed: bytes, port: int) -> str:
    address = ip_address(packed)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _notes(flow: Flow) -> Sequence[str]:
    """What cannot be seen on this machine."""
    found = [LEGACY] if legacy_tables(flow.family) else []
    return [*found, IPVS] if Path("/proc/thread-self/net/ip_vs").exists() else found
