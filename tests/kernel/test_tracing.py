"""One packet followed by the kernel's own tracing: its way, where it ends, and that nothing of the trace stays."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from nodeagent.tracing.marking import TABLE
from tests.flows.columns import BY_NAME
from tests.flows.corpus import scenarios
from tests.flows.interpreter import begin, commit
from tests.flows.machines import machine
from tests.flows.network import Network
from tests.flows.packets import prepare, settle
from tests.flows.product import Product
from tests.flows.scenario import POD
from tests.flows.tiers import opened
from tools.lab.client import until
from tools.lab.netns import Namespace
from tools.lab.rules import nft, run

pytestmark = pytest.mark.kernel
PROGRAM = [sys.executable, "-m", "nodeagent.tracing"]
SERVICE, ENDPOINT = "172.30.0.41", "10.180.0.1:80"


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    yield from opened()


@pytest.fixture(params=["nftables", "iptables"])
def node(request: pytest.FixtureRequest, network: Network) -> Iterator[tuple[str, Namespace]]:
    """A node with a Service of one endpoint, and a pod on it."""
    scenario = next(each for each in scenarios() if each.id == "cluster-ip-general-v4")
    settle(network, scenario)
    product = Product(scenario)
    with machine(network, BY_NAME[request.param], scenario.view) as made:
        begin(made, product)
        commit(made, product, 1, scenario.steps[0], counted=False)
        prepare(network, scenario.steps[0], 4)
        network.host(POD)
        yield request.param, network.node


def traced(space: Namespace, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(space, *PROGRAM, *arguments, check=False))
    return found


def test_a_packet_is_followed_to_its_endpoint_and_one_that_is_refused_to_the_rule(node: tuple[str, Namespace]) -> None:
    mode, space = node
    found = traced(space, POD, SERVICE, "80", "--timeout=20")
    assert (found["endpoint"], found["seen"], found["sent"]) == (ENDPOINT, POD, "connected")
    rules = {step["chain"]: step["rule"] for step in found["steps"]}
    assert ("services" if mode == "nftables" else "KUBE-SERVICES") in rules
    assert TABLE not in str(found)
    assert TABLE not in nft(space, "list", "tables")
    if mode == "nftables":
        refused = traced(space, POD, SERVICE, "81", "--timeout=20")
        assert (refused["endpoint"], refused["sent"]) == ("", "refused")
        assert refused["steps"][-1] == {
            "table": "ip deltaplane", "chain": "reject-chain", "rule": "reject", "verdict": "drop",
        }  # fmt: skip


FOREIGN = """
table inet edgefilter {{
  chain both {{
    type filter hook {hook} priority 10
    {rule} drop
  }}
}}
"""


@pytest.mark.parametrize(
    ("rule", "where"),
    [(f"ip daddr {ENDPOINT[:-3]} ct state new", "dropped"), (f"ip saddr {ENDPOINT[:-3]}", "answer_dropped")],
)
def test_what_another_programs_rule_drops_is_told_apart_of_packets_and_of_answers(
    node: tuple[str, Namespace], rule: str, where: str
) -> None:
    _, space = node
    run(space, "nft", "-f", "-", stdin=FOREIGN.format(hook="forward", rule=rule))
    try:
        found = traced(space, POD, SERVICE, "80", "--timeout=2")
    finally:
        nft(space, "delete", "table", "inet", "edgefilter")
    assert found["sent"] == "no answer"
    assert (found[where]["table"], found[where]["chain"]) == ("inet edgefilter", "both")
    assert found["dropped_to"] == (ENDPOINT if where == "dropped" else "")
    assert {"dropped", "answer_dropped"} - {where} == {
        name for name in ("dropped", "answer_dropped") if not found[name]
    }


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_trace_that_is_ended_leaves_no_rule(how: signal.Signals, network: Network) -> None:
    with network.node.entered():
        child = subprocess.Popen([*PROGRAM, POD, SERVICE, "80", "--wait", "--timeout=50"], stdout=subprocess.PIPE)
    with child:
        until(lambda: TABLE in nft(network.node, "list", "tables"), 60)
        child.send_signal(how)
        child.wait(30)
    until(lambda: TABLE not in nft(network.node, "list", "tables"), 30)


def test_two_traces_at_a_time_are_told_apart(network: Network) -> None:
    with network.node.entered():
        child = subprocess.Popen([*PROGRAM, POD, SERVICE, "80", "--wait", "--timeout=50"], stdout=subprocess.PIPE)
    with child:
        until(lambda: TABLE in nft(network.node, "list", "tables"), 60)
        assert "another trace's that runs on this node" in traced(network.node, POD, SERVICE, "80")["error"]
        child.terminate()
