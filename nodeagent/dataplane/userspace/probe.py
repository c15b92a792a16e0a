"""Whether this machine can bring traffic to listeners of ours, really tried, with nothing left behind."""

from __future__ import annotations

import os

from nodeagent.dataplane.userspace.program import program
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.errors import DataplaneUnavailable
from nodeagent.linux.iptables import trial
from nodeagent.linux.iptables.programs import Flavour
from nodeagent.linux.iptables.saved import FILTER, NAT
from nodeagent.linux.iptables.trial import Rule
from nodeagent.linux.nft import tables

USUAL = ("nft", "iptables")  # best first; iptables in the flavour that this machine uses
WAYS = ("nft", "iptables", "iptables-nft", "iptables-legacy")


def probe(settings: Settings | None = None) -> None:
    """Raises DataplaneUnavailable where no way works that these settings allow."""
    first_working(settings or Settings())


def first_working(settings: Settings) -> tuple[str, tuple[str, ...]]:
    """The way to take, and why none before it. Raises DataplaneUnavailable."""
    if settings.redirect and settings.redirect not in WAYS:
        raise DataplaneUnavailable(f"userspace: no way to redirect is called {settings.redirect!r}: {', '.join(WAYS)}")
    reasons: list[str] = []
    for name in (settings.redirect,) if settings.redirect else USUAL:
        try:
            _try(name)
        except DataplaneUnavailable as error:
            reasons.append(str(error))
        else:
            return name, tuple(reasons)
    raise DataplaneUnavailable("; ".join(reasons))


def _try(name: str) -> None:
    """Raises DataplaneUnavailable."""
    if name == "nft":
        _try_nft()
    else:
        _, _, flavour = name.partition("-")
        trial.probe(kinds(4), Flavour(flavour) if flavour else None)


def _try_nft() -> None:
    """Offers the IPv4 program. Raises DataplaneUnavailable."""
    batch = tables.trial()
    batch.install(program(4, Settings(table=tables.TRIED)))
    code = tables.offered(batch)
    if code:
        raise DataplaneUnavailable(
            f"userspace: this kernel refuses the nft redirects ({os.strerror(code)}): give the agent CAP_NET_ADMIN, "
            "load nf_tables with NAT, maps and fib, or install iptables"
        )


def kinds(family: int) -> list[Rule]:
    """One rule of each kind that `lines` writes; a test holds the two together."""
    to = "192.0.2.1:1" if family == 4 else "[2001:db8::1]:1"
    local = "-m addrtype --src-type LOCAL"
    return [
        (NAT, f"{local} -j ACCEPT"),
        (NAT, "-m mark ! --mark 0x4000/0x4000 -j ACCEPT"),
        *((NAT, f"-p {name} -m {name} --dport 1 -j DNAT --to-destination {to}") for name in ("tcp", "udp")),
        (FILTER, "-m conntrack --ctstate NEW -p tcp -m tcp --dport 1 -j DROP"),
        (FILTER, f"{local} -p udp -m udp --dport 1 -j DROP"),
    ]
