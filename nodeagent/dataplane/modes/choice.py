"""Which mode runs: the one that is asked for, or the first that works on this machine. Pure; the probes are given."""

from __future__ import annotations

from collections.abc import Callable, Collection

from msgspec import Struct

from nodeagent.config.defaults import AUTO
from nodeagent.errors import AgentError, DataplaneUnavailable

ORDER = ("nftables", "ipvs", "iptables", "userspace")
"""From the best to the last resort."""

Probe = Callable[[str], None]
"""Tries a mode on this kernel; raises `DataplaneUnavailable` with a line of reason."""


class Choice(Struct, frozen=True):
    """`mode` is in use; `reasons` say, a line each, why no mode before it is."""

    asked: str  # as --proxy-mode has it, auto among them
    mode: str
    reasons: tuple[str, ...] = ()

    @property
    def fell_back(self) -> bool:
        """Whether a mode was named and another is in use."""
        return self.asked not in (AUTO, self.mode)

    @property
    def reason(self) -> str:
        return "; ".join(self.reasons)


def choose(
    asked: str, probe: Probe, *, scheduler: bool = False, strict: bool = False, never: Collection[str] = ()
) -> Choice:
    """The first mode of `candidates` whose probe succeeds. Raises AgentError where none does.

    `strict`: a mode that is named works, or that is an error. `never`: modes that are not tried.
    """
    reasons: list[str] = []
    for mode in candidates(asked, scheduler=scheduler, strict=strict):
        if mode in never:
            continue
        try:
            probe(mode)
        except DataplaneUnavailable as error:
            reasons.append(str(error))
        else:
            return Choice(asked, mode, tuple(reasons))
    said = f"no proxy mode works here: {'; '.join(reasons)}" if len(reasons) > 1 else reasons[0]
    raise AgentError(said)


def candidates(asked: str, *, scheduler: bool, strict: bool = False) -> tuple[str, ...]:
    """The modes to try, best first: ipvs only where it is named, or asked for by naming a `scheduler`."""
    if asked != AUTO and strict:
        return (asked,)
    usual = tuple(mode for mode in ORDER if scheduler or mode != "ipvs")
    return usual if asked == AUTO else (asked, *(mode for mode in usual if mode != asked))
