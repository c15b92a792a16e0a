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


def test_names_kube_proxys_tables_as_its_own() -> None:
    shown = _shown(agent_pb2.GetAgentResponse(kube_proxy_tables=["ip kube-proxy", "ip6 kube-proxy"]))
    assert "ip kube-proxy, ip6 kube-proxy (kube-proxy's own); deltaplane trace" in shown


def test_names_twelve_chains_and_counts_the_others() -> None:
    many = [agent_pb2.ForeignChain(table=f"inet t{number}", chain="c", hook="input") for number in range(15)]
    shown = _shown(agent_pb2.GetAgentResponse(foreign=many))
    assert ("inet t11 " in shown, "inet t12 " in shown, "; and 3 more chains;" in shown) == (True, False, True)


def test_says_why_they_were_not_read() -> None:
    assert "not read: no right" in _shown(agent_pb2.GetAgentResponse(foreign_error="no right"))


def test_is_silent_without_any() -> None:
    assert "not read" not in _shown(agent_pb2.GetAgentResponse())
