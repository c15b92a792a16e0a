"""What other programs' nftables tables may do, in an agent's answer and in what `deltaplane status` shows."""

from __future__ import annotations

from deltaplane.v1 import agent_pb2
from nodeagent.doctor.facts import Foreign
from nodeagent.doctor.nftables import Nftables
from nodeagent.inspection.service import note_foreign


def test_names_the_chains() -> None:
    found = agent_pb2.GetAgentResponse()
    note_foreign(found, lambda: Nftables(foreign=(Foreign("inet edgefilter", "filter", "forward", ("drops",)),)))
    assert [(each.table, each.chain, each.hook, list(each.does)) for each in found.foreign] == [
        ("inet edgefilter", "filter", "forward", ["drops"])
    ]


def test_says_why_they_could_not_be_read() -> None:
    def refused() -> Nftables:
        raise OSError(1, "Operation not permitted")

    found = agent_pb2.GetAgentResponse()
    note_foreign(found, refused)
    assert "not permitted" in found.foreign_error
    assert not found.foreign
