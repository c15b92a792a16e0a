"""What is known of kube-proxy and of a node, and what is said about them. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from nodeagent.config.schema import KubeProxyConfiguration
from nodeagent.dataplane.modes.choice import ORDER

PARTS = ("agent", "controlplane")


class KubeProxy(Struct, frozen=True):
    """How one is set up. `origin`: where that was read; `file`: the text of its --config, None where it has none."""

    origin: str
    arguments: tuple[str, ...] = ()  # without the program's name
    file: str | None = None
    file_name: str = ""


class Process(Struct, frozen=True):
    """A process in this network namespace; `words` is its command line."""

    pid: int
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        """Of deltaplane, which Python runs, with the part that it is: `deltaplane agent`."""
        if any("deltaplane" in word for word in self.words[:3]):
            part = next((word for word in self.words[1:5] if word in PARTS), "")
            if part:
                return f"deltaplane {part}"
        return self.words[0].rpartition("/")[2] if self.words else ""


class Hook(Struct, frozen=True):
    """A base chain that drops what it does not accept. `family`: ip, ip6 or inet; `point`: input or forward."""

    family: str
    table: str
    chain: str
    point: str


class Foreign(Struct, frozen=True):
    """A base chain of another program, with what it, or a chain that it leads to, may do to a packet.

    `table`: such as "inet filter"; `does`: drops, drops by policy, queues, redirects, rejects.
    """

    table: str
    chain: str
    point: str
    does: tuple[str, ...]


Saved = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Rules by table ("nat") and chain, without the chain's name."""


class Machine(Struct, frozen=True):
    """A node as it is. What could not be read is empty, and `unread` says why, a line each."""

    release: str = ""  # of the kernel; empty: nobody looked
    cores: int = 1
    modes: Mapping[str, str] = field(
        default_factory=lambda: dict.fromkeys(ORDER, "")
    )  # why a proxy mode does not work; empty: it does
    sysctls: Mapping[str, int] = {}  # by name below net, such as ipv4/ip_forward; absent: not there
    links: frozenset[str] = frozenset()
    bridge_ports: frozenset[str] = frozenset()
    tables: frozenset[str] = frozenset()  # nftables', such as "ip deltaplane"
    hooks: tuple[Hook, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    iptables: Mapping[str, Saved] = {}  # by flavour, IPv4 and IPv6 together: nft, legacy
    versions: Mapping[str, str] = {}  # of nft, iptables-nft, iptables-legacy, as "1.8.9"; absent: not installed
    plain: str = ""  # the flavour of the program `iptables`
    processes: tuple[Process, ...] = ()
    listening: Mapping[int, str] = {}  # TCP ports: the program that has it, "" unknown
    files: Mapping[str, str] = {}  # texts of /etc that matter, by path
    unread: tuple[str, ...] = ()

    def runs(self, *programs: str) -> Process | None:
        """The first process of one of these programs."""
        return next((each for each in self.processes if each.program in programs), None)

    def chains(self, table: str, flavour: str = "") -> frozenset[str]:
        """iptables' chains of a table, in one flavour or either."""
        kinds = [flavour] if flavour else list(self.iptables)
        return frozenset(name for kind in kinds for name in self.iptables.get(kind, {}).get(table, {}))

    def rules(self, table: str, chain: str = "") -> tuple[str, ...]:
        """Rules of a chain, or of all chains of the table, in either flavour."""
        found = [saved.get(table, {}) for saved in self.iptables.values()]
        return tuple(rule for one in found for name, rules in one.items() if chain in ("", name) for rule in rules)


class Wanted(Struct, frozen=True):
    """What is to come. `theirs`: kube-proxy's configuration, None where it is unknown; `ours`: the agent's."""

    mode: str
    ours: KubeProxyConfiguration
    theirs: KubeProxyConfiguration | None = None
    cluster: Mapping[
        str, str
    ] = {}  # what the cluster's ConfigMaps say of others, such as "cilium/kube-proxy-replacement"

    @property
    def before(self) -> str:
        """kube-proxy's mode."""
        return self.theirs.mode if self.theirs is not None else ""


class Severity(StrEnum):
    """`ACT`: something does not work, or stops working, until somebody acts; `KNOW`: good to know."""

    ACT = "act"
    KNOW = "know"


class Finding(Struct, frozen=True):
    """`id` is stable, for scripts."""

    id: str
    severity: Severity
    what: str
    do: str = ""


class Change(Struct, frozen=True):
    """A setting: kube-proxy's value, ours, and what becomes of it."""

    setting: str  # as the file has it
    theirs: str
    ours: str
    verdict: str  # same, different, no counterpart
    why: str = ""
    given: bool = False  # kube-proxy was told so: it is not the default


def act(name: str, what: str, do: str) -> Finding:
    return Finding(name, Severity.ACT, what, do)


def know(name: str, what: str, do: str = "") -> Finding:
    return Finding(name, Severity.KNOW, what, do)
