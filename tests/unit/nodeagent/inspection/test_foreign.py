"""What other programs' nftables tables may do, in an agent's answer."""

from __future__ import annotations

import pytest

from deltaplane.v1 import agent_pb2
from nodeagent.doctor.facts import Foreign
from nodeagent.doctor.nftables import Nftables
from nodeagent.errors import DataplaneUnavailable
from nodeagent.inspection.service import note_foreign

EDGE = Foreign("inet edgefilter", "filter", "forward", ("drops",))


def test_names_the_chains_and_kube_proxys_tables() -> None:
    found = agent_pb2.GetAgentResponse()
    tables = frozenset({"ip6 kube-proxy", "ip kube-proxy", "ip deltaplane", "inet edgefilter"})
    note_foreign(found, lambda: Nftables(tables, foreign=(EDGE,)))
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
    note_foreign(found, refused)
    assert why in found.foreign_error
    assert "Errno" not in found.foreign_error
    assert not found.foreign
