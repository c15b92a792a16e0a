"""The kinds of rules that the mode writes: one of each is tried before any of them is relied upon.

A kind is a match or target extension with a table, and the option of it that not every kernel has. A test holds this
list against all that `base` and `render` write.
"""

from __future__ import annotations

from typing import NamedTuple

from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.rules import (
    DROP,
    LOCAL_DESTINATION,
    LOCAL_SOURCE,
    REFUSE,
    chance,
    comment,
    counted,
    recent,
)
from nodeagent.linux.iptables import trial
from nodeagent.linux.iptables.programs import Iptables, Refusal
from nodeagent.linux.iptables.trial import Rule


class Option(NamedTuple):
    """What the mode can do without: the rules that need it, what is lost, and what to do about it."""

    rules: tuple[Rule, ...]
    lost: str
    advice: str


def required(family: int) -> list[Rule]:
    """One rule of each kind that there is no doing without."""
    address = "192.0.2.1:1" if family == 4 else "[2001:db8::1]:1"
    said = comment("a probe")
    return [
        (n.FILTER, f"-p udp {said}-m conntrack --ctstate NEW {LOCAL_DESTINATION}-m udp --dport 1 -j DROP"),
        (n.FILTER, f"-p tcp {said}-m tcp --dport 1 -m mark --mark 0x4000/0x4000 -j ACCEPT"),
        (n.NAT, f"-p tcp {said}{LOCAL_DESTINATION}-m tcp --dport 1 -j RETURN"),
        (n.NAT, f"{LOCAL_SOURCE}-m mark ! --mark 0x4000/0x4000 -j RETURN"),
        (n.NAT, f"{chance(3)}-j RETURN"),
        (n.NAT, "-j MARK --set-xmark 0x4000/0x4000"),
        (n.NAT, f"-p tcp -m tcp -j DNAT --to-destination {address}"),
        (n.NAT, f"-p udp -m udp -j DNAT --to-destination {address}"),
        (n.NAT, f"{said}-j MASQUERADE"),
    ]


NFACCT, RECENT, SCTP, REJECT, RANDOM = "nfacct", "recent", "sctp", "REJECT", "--random-fully"


def optional(family: int) -> dict[str, Option]:
    """What the mode goes on without, by its name."""
    counting = f"{counted(n.INVALID_COUNTER)}{DROP}"
    known = recent(family, "--rcheck --seconds 1 --reap", trial.CHAIN)
    sctp = "-p sctp -m sctp --dport 1"
    return {
        NFACCT: Option(((n.FILTER, counting), (n.NAT, f"{counted(n.LOOPBACK_COUNTER)}-j RETURN")),
            "packets are not counted", "load xt_nfacct"),
        RECENT: Option(((n.NAT, f"{known}-j RETURN"),), "session affinity is not kept", "load xt_recent"),
        SCTP: Option(((n.NAT, f"{sctp} -j RETURN"), (n.FILTER, f"{sctp} {DROP}")),
            "Services with SCTP ports are refused", "load xt_sctp"),
        REJECT: Option(((n.FILTER, REFUSE[family]),), "connections without an endpoint are dropped, not refused",
            "load ipt_REJECT and ip6t_REJECT"),
        RANDOM: Option(((n.NAT, "-j MASQUERADE --random-fully"),), "source ports are not chosen at random",
            "use iptables 1.6.2 or newer"),
    }  # fmt: skip


def unwritable(kernel: Iptables, family: int) -> Refusal | None:
    """Why what is required cannot be written. Raises KernelUnavailable."""
    return kernel.attempt(family, trial.trial(required(family)))


def lacking(kernel: Iptables, family: int) -> frozenset[str]:
    """The options that this kernel refuses; all at once are tried first, and one by one only where that fails.

    A kernel that is busy is taken to have all. Raises KernelUnavailable.
    """
    options = optional(family)
    if not all(map(kernel.account, n.COUNTERS)):
        del options[NFACCT]  # nothing to count into: not asked for
    refusal = kernel.attempt(family, trial.trial(rule for option in options.values() for rule in option.rules))
    if refusal is None or refusal.busy:
        return frozenset()
    return frozenset(name for name, option in options.items() if kernel.attempt(family, trial.trial(option.rules)))
