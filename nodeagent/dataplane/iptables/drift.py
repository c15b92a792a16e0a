"""Noticing that another program changed our chains: by the kernel's word (nft), by counting (legacy).

The nft flavour's tables are nftables' own, whose every change the kernel tells. The legacy flavour's are silent: how
many entries and bytes each table has is asked for, without running anything, every few seconds.
"""

from __future__ import annotations

import ctypes
import logging
import os
import socket
from collections.abc import Iterable
from struct import Struct as Layout

from nodeagent.dataplane.iptables import naming as n
from nodeagent.linux.iptables.programs import Flavour, families
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import objects
from nodeagent.linux.nft.expressions import NFPROTO
from nodeagent.linux.nft.monitor import Notifications
from nodeagent.linux.timerfd import Timer

INTERVAL, LONGEST = 5, 80  # seconds between two counts; doubled for as long as they find nothing that is ours
_GET_INFO = 64  # IPT_SO_GET_INFO, IP6T_SO_GET_INFO
_INFO = Layout("=32sI5I5III")  # struct ipt_getinfo of linux/netfilter_ipv4/ip_tables.h
_BUILT_IN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
_CHAIN_NAME = {objects.DELETE_CHAIN: 3}  # NFTA_CHAIN_NAME; of a rule it is attribute 2
_RULES = (objects.NEW_RULE, objects.DELETE_RULE)

log = logging.getLogger(__name__)


class Watch:
    """What the dataplane asks and tells, and is told of each restore of ours; this one hears nothing."""

    def before(self, process: int) -> None:
        """See `Around.before`."""

    def after(self) -> None:
        """See `Around.after`."""

    def fileno(self) -> int:
        """Readable when something may have happened; -1: never."""
        return -1

    def drifted(self) -> bool:
        """Whether our chains may have been changed since the last repair."""
        return False

    def begin(self) -> None:
        """A repair reads the tables from now on: what happened before is known by it."""

    def repaired(self, *, fruitful: bool) -> None:
        """The repair is done; `fruitful`: something had to be written."""

    def close(self) -> None:
        """Hears no more."""


def listen(flavour: Flavour) -> Watch:
    """The watch for this flavour, in the network namespace of the calling thread; deaf where it cannot be had."""
    try:
        return Notices() if flavour is Flavour.NFT else Counts(families(flavour))
    except OSError as error:
        log.warning("iptables: what others change will not be noticed (%s)", os.strerror(error.errno or 0))
        return Watch()


class Notices(Watch):
    """The nft flavour: the kernel tells; what our own restores do is dropped inside the kernel.

    What is heard after `begin` stays until the next one: a repair may have read the tables before.
    """

    def __init__(self) -> None:
        self._hearing = Notifications()
        self._suspect = False

    def before(self, process: int) -> None:
        """The next changes are a process's of our own: iptables binds its socket to its process id."""
        self._suspect = self.drifted()
        self._hearing.ignore(process)

    def fileno(self) -> int:
        return self._hearing.fileno()

    def drifted(self) -> bool:
        heard = self._hearing.heard()
        self._suspect = self._suspect or heard is None or damaged(heard)
        return self._suspect

    def begin(self) -> None:
        self._hearing.heard()
        self._suspect = False

    def after(self) -> None:
        """The number may become another process's: the kernel has told all of ours by the time that it ends."""
        self._hearing.ignore(0)

    def close(self) -> None:
        self._hearing.close()


def damaged(messages: Iterable[wire.Message]) -> bool:
    """Whether any of them may be about what is ours: our chains, or rules gone from the kernel's own chains."""
    return any(_is_ours(message) for message in messages)


def _is_ours(message: wire.Message) -> bool:
    kind = message.type & 0xFF
    if message.family not in NFPROTO.values() or message.type >> 8 != wire.SUBSYSTEM:
        return False
    attributes = wire.attributes(message.body)
    if wire.as_text(attributes.get(1, b"")) not in n.TABLES:
        return False
    if kind == objects.DELETE_TABLE:
        return True
    if kind not in (*_RULES, objects.DELETE_CHAIN):
        return False
    chain = wire.as_text(attributes.get(_CHAIN_NAME.get(kind, 2), b""))
    return _is_our_chain(chain) or (kind == objects.DELETE_RULE and chain in _BUILT_IN)


def _is_our_chain(name: str) -> bool:
    ours = (n.SERVICES, n.EXTERNAL_SERVICES, n.NODE_PORTS, n.POSTROUTING, n.MARK_MASQ, n.FORWARD, n.PROXY_FIREWALL)
    return n.is_of_services(name) or name in (*ours, n.CANARY, n.KUBELET_FIREWALL)


class Counts(Watch):
    """The legacy flavour: entries and bytes of every table, compared with what they were after our last change."""

    def __init__(self, families: Iterable[int]) -> None:
        self._sockets = {
            family: socket.socket(_DOMAINS[family], socket.SOCK_RAW, socket.IPPROTO_RAW) for family in families
        }
        self._interval = INTERVAL
        self._timer = Timer(INTERVAL)
        self._known: dict[tuple[int, str], bytes] | None = None
        self._suspect = False

    def before(self, process: int) -> None:
        """What others did until now must not pass for ours."""
        self._look()

    def after(self) -> None:
        self._known = self._count()

    def fileno(self) -> int:
        return self._timer.fileno()

    def drifted(self) -> bool:
        if self._timer.ticked():
            self._look()
        return self._suspect

    def begin(self) -> None:
        self._suspect = False
        self._known = self._count()

    def repaired(self, *, fruitful: bool) -> None:
        self._interval = INTERVAL if fruitful else min(2 * self._interval, LONGEST)
        self._timer.start(self._interval)

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()
        self._timer.close()

    def _look(self) -> None:
        self._suspect = self._suspect or (self._known is not None and self._count() != self._known)

    def _count(self) -> dict[tuple[int, str], bytes]:
        return {
            (family, table): _size(held, family, table) for family, held in self._sockets.items() for table in n.TABLES
        }


_DOMAINS = {4: socket.AF_INET, 6: socket.AF_INET6}
_LEVELS = {4: socket.IPPROTO_IP, 6: socket.IPPROTO_IPV6}


def _size(held: socket.socket, family: int, table: str) -> bytes:
    """Where the table's chains begin, its entries and its bytes, as the kernel packs them; b"": it is not there."""
    asked = bytearray(_INFO.pack(table.encode(), *[0] * 13))
    size = ctypes.c_uint32(len(asked))
    buffer = (ctypes.c_char * len(asked)).from_buffer(asked)
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.getsockopt(held.fileno(), _LEVELS[family], _GET_INFO, buffer, ctypes.byref(size))
    return b"" if failed else bytes(asked)
