"""Which mode is taken, by what works and what was asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nodeagent.dataplane.modes import Choice, candidates, choose
from nodeagent.errors import AgentError, DataplaneUnavailable


def only(*working: str) -> Callable[[str], None]:
    def probe(mode: str) -> None:
        if mode not in working:
            raise DataplaneUnavailable(f"{mode}: not here")

    return probe


@pytest.mark.parametrize(
    "asked, scheduler, working, mode",
    [
        ("auto", False, ("nftables", "ipvs", "iptables", "userspace"), "nftables"),
        ("auto", True, ("ipvs", "iptables", "userspace"), "ipvs"),
        ("auto", False, ("ipvs", "iptables", "userspace"), "iptables"),
        ("auto", False, ("userspace",), "userspace"),
        ("iptables", False, ("nftables", "iptables"), "iptables"),
        ("ipvs", False, ("ipvs", "nftables"), "ipvs"),
        ("ipvs", False, ("iptables", "nftables"), "nftables"),
        ("nftables", False, ("ipvs", "userspace"), "userspace"),
        ("nftables", True, ("ipvs", "userspace"), "ipvs"),
        ("userspace", False, ("nftables",), "nftables"),
    ],
)
def test_the_first_that_works(asked: str, scheduler: bool, working: tuple[str, ...], mode: str) -> None:
    choice = choose(asked, only(*working), scheduler=scheduler)

    assert (choice.asked, choice.mode) == (asked, mode)
    assert choice.fell_back == (asked not in ("auto", mode))
    tried = candidates(asked, scheduler=scheduler)
    assert choice.reasons == tuple(f"{one}: not here" for one in tried[: tried.index(mode)])


def test_a_strict_mode_is_had_or_is_an_error() -> None:
    assert choose("ipvs", only("ipvs"), strict=True) == Choice("ipvs", "ipvs")
    with pytest.raises(AgentError, match=r"\Aipvs: not here\Z"):
        choose("ipvs", only("nftables"), strict=True)
    assert choose("auto", only("iptables"), strict=True).mode == "iptables"


def test_where_nothing_works_every_reason_is_in_the_one_line() -> None:
    with pytest.raises(AgentError) as raised:
        choose("auto", only())

    assert str(raised.value) == (
        "no proxy mode works here: nftables: not here; iptables: not here; userspace: not here"
    )
