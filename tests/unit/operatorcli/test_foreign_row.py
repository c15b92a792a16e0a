"""The row of `deltaplane status` on a node that names other programs' nftables tables."""

from __future__ import annotations

from deltaplane.v1 import agent_pb2
from operatorcli.views import node


def _shown(found: agent_pb2.GetAgentResponse) -> str:
    return str(node.here(found, 0.0)[0].blocks)


def test_names_table_hook_chain_and_the_command() -> None:
    each = agent_pb2.ForeignChain(table="inet edgefilter", chain="filter", hook="forward", does=["drops"])
    shown = _shown(agent_pb2.GetAgentResponse(foreign=[each]))
    assert "inet edgefilter (forward, filter: drops); deltaplane trace" in shown


def test_says_why_they_were_not_read() -> None:
    assert "not read: no right" in _shown(agent_pb2.GetAgentResponse(foreign_error="no right"))


def test_is_silent_without_any() -> None:
    assert "not read" not in _shown(agent_pb2.GetAgentResponse())
