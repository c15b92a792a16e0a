"""What other programs' nftables tables may do, in an agent's answer."""

from __future__ import annotations

import pytest

from deltaplane.v1 import agent_pb2, views_pb2
from nodeagent.doctor.facts import Foreign
from nodeagent.doctor.nftables import Nftables
from nodeagent.errors import DataplaneUnavailable
from nodeagent.inspection.foreign import Way, note_foreign
from tests.unit.nodeagent.inspection.test_inspection import World

EDGE = Foreign("inet edgefilter", "filter", "forward", ("drops",))
NODE, POD, ELSEWHERE = "192.168.0.1", "10.0.0.9", "10.0.1.9"
OWN = frozenset({bytes((192, 168, 0, 1)), bytes(15) + b"\1"})


def way(source: str, *endpoints: str) -> Way:
    connection = views_pb2.Connection(source=source, address="::" if ":" in source else "10.96.0.1", port=80)
    choices = [views_pb2.Choice(endpoint=each) for each in endpoints]
    return Way.of(views_pb2.Explanation(connection=connection, choices=choices), OWN)


def test_names_the_chains_and_kube_proxys_tables() -> None:
    found = agent_pb2.GetAgentResponse()
    tables = frozenset({"ip6 kube-proxy", "ip kube-proxy", "ip deltaplane", "inet edgefilter"})
    note_foreign(found, read=lambda: Nftables(tables, foreign=(EDGE,)))
    assert [(each.table, each.chain, each.hook, list(each.does)) for each in found.foreign] == [
        ("inet edgefilter", "filter", "forward", ["drops"])
    ]
    assert list(found.kube_proxy_tables) == ["ip kube-proxy", "ip6 kube-proxy"]
    assert not found.foreign_error


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (PermissionError(1, "Operation not permitted"), "Operation not permitted"),
        (TimeoutError(110, "more than can be read"), "more than can be read"),
        (DataplaneUnavailable("nftables: this kernel has none"), "nftables: this kernel has none"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "invalid start byte"),
    ],
)
def test_says_why_they_could_not_be_read(error: Exception, why: str) -> None:
    def refused() -> Nftables:
        raise error

    found = agent_pb2.GetAgentResponse()
    note_foreign(found, read=refused)
    assert why in found.foreign_error
    assert "Errno" not in found.foreign_error
    assert not found.foreign


@pytest.mark.parametrize(
    ("of", "hooks"),
    [
        (way(POD, f"{ELSEWHERE}:80"), ["prerouting", "input", "forward"]),
        (way(POD, f"{ELSEWHERE}:80", f"{NODE}:80"), ["prerouting", "input", "forward", "output"]),
        (way(NODE, f"{ELSEWHERE}:80"), ["prerouting", "input", "output"]),
        (way(POD), ["prerouting", "input", "forward", "output"]),  # may be an address of the node
        (way("::1", "[::1]:80"), ["prerouting", "input", "output"]),
        (way("127.0.0.1", f"{ELSEWHERE}:80"), ["prerouting", "input", "output"]),
    ],
)
def test_a_connection_and_its_answers_meet_no_chain_that_is_not_on_their_way(of: Way, hooks: list[str]) -> None:
    everywhere = ("prerouting", "input", "forward", "output")
    assert [hook for hook in everywhere if of.may_meet("inet edgefilter", hook)] == hooks


def test_the_other_familys_tables_do_not_see_it() -> None:
    four, six = way(POD), way("fd00::9")
    assert (four.may_meet("ip nat"), four.may_meet("ip6 nat"), four.may_meet("inet x")) == (True, False, True)
    assert (six.may_meet("ip nat"), six.may_meet("ip6 nat"), six.may_meet("inet x")) == (False, True, True)


async def test_explain_here_has_those_that_the_packet_may_meet_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = frozenset({"ip6 kube-proxy", "ip kube-proxy", "inet edgefilter"})
    output, other = Foreign("ip own", "out", "output", ("drops",)), Foreign("ip6 six", "in", "input", ("drops",))
    known = Nftables(tables, foreign=(EDGE, output, other))
    monkeypatch.setattr("nodeagent.doctor.nftables.read", lambda **_: known)
    connection = views_pb2.Connection(source=POD, address="10.96.0.1", port=80)

    inspection = World().inspection()
    answer = await inspection.ExplainHere(agent_pb2.ExplainHereRequest(connection=connection), None)  # type: ignore[arg-type]
    itself = await inspection.GetAgent(agent_pb2.GetAgentRequest(), None)  # type: ignore[arg-type]
    brief = await inspection.GetAgent(agent_pb2.GetAgentRequest(without_foreign=True), None)  # type: ignore[arg-type]

    assert [each.table for each in answer.foreign] == ["inet edgefilter"]
    assert list(answer.kube_proxy_tables) == ["ip kube-proxy"]
    assert (len(itself.foreign), len(brief.foreign), len(brief.kube_proxy_tables)) == (3, 0, 0)
