"""A real agent on a kernel of its own, asked by its own socket: what it wants, and what the kernel has."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.operatorcli.test_examples import EXAMPLES, ON_A_NODE
from tests.operatorcli.world import COMMAND, Command, node, web
from tools.lab import manifests, netns
from tools.lab.deltaplane import LEAVE_THE_MACHINE
from tools.lab.process import Process
from tools.lab.rules import nft

pytestmark = pytest.mark.kernel
SPACE = f"{netns.PREFIX}-opcli"


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of an agent that has the shop in its kernel."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    folder = tmp_path_factory.mktemp("agent")
    (folder / "manifests").mkdir()
    manifests.write(folder / "manifests" / "shop.yaml", node("node-a", 1), *web())
    server, asked = f"unix://{folder}/plane.sock", f"unix://{folder}/agent.sock"
    program = [sys.executable, "-c", COMMAND]
    flags = ["--source=manifests", f"--manifests={folder / 'manifests'}", f"--listen={server}"]
    plane = Process("controlplane", [*program, "controlplane", *flags], folder / "controlplane.log")
    space = netns.create(SPACE)
    agent = Process(
        "agent",
        [*program, "agent", f"--server={server}", "--hostname-override=node-a", f"--inspect-socket={asked}",
         "--cluster-cidr=10.244.0.0/16", *LEAVE_THE_MACHINE],
        folder / "agent.log", space,
    )  # fmt: skip
    try:
        agent.wait_until((folder / "agent.sock").exists, 60, "asked at its socket")
        yield asked
    finally:
        agent.stop()
        plane.stop()
        netns.delete(space)


@pytest.fixture
def here(socket: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command({"DELTAPLANE_SERVER": socket}, capsys, monkeypatch)


def eventually(here: Command, *words: str) -> str:
    """What it prints once that is a yes: the agent needs a moment for its first state."""
    for _ in range(200):
        said = here(*words)
        if said.code == 0:
            return said.out
    raise AssertionError(said)


def test_status_is_the_agents_own(here: Command) -> None:
    said = eventually(here, "status")

    assert "of node-a" in said
    assert "nftables" in said
    assert "The kernel has all of it" in said


def test_status_and_explain_name_what_other_programs_tables_do_and_whose_they_are(here: Command) -> None:
    eventually(here, "status")
    space = netns.Namespace(netns.owned(SPACE))
    nft(space, "add table ip kube-proxy; add table inet edgefilter; add chain inet edgefilter judge { drop; }")
    nft(space, "add chain inet edgefilter forwarded { type filter hook forward priority 10; policy accept; }")
    nft(space, "add rule inet edgefilter forwarded ip daddr vmap { 10.180.1.12 : jump judge, 10.180.1.13 : accept }")
    try:
        said = eventually(here, "status")
        explained = {source: here("explain", source, "10.96.0.10:80").out for source in ("10.244.1.7", "127.0.0.1")}
    finally:
        nft(space, "delete table inet edgefilter; delete table ip kube-proxy")

    wanted = "ip kube-proxy (kube-proxy's own); inet edgefilter (forward, forwarded: drops); deltaplane trace"
    assert wanted in " ".join(said.split())
    assert f"other programs' rules: {wanted}" in " ".join(explained["10.244.1.7"].split())
    assert "rules: ip kube-proxy (kube-proxy's own); deltaplane trace" in " ".join(explained["127.0.0.1"].split())
    assert "other tables" not in eventually(here, "status")


def test_a_service_is_what_is_wanted_and_what_the_kernel_has(here: Command) -> None:
    eventually(here, "status")

    said = here("get", "svc", "web", "-n", "shop")

    assert said.code == 0, said.err
    wanted, kernel = said.out.split("In the kernel")
    assert "10.244.1.7:8080" in wanted
    assert "10.244.1.7:8080" in kernel
    assert "The kernel has exactly this." in kernel


def test_the_node_may_be_named_that_the_agent_is_on(here: Command) -> None:
    eventually(here, "status")

    said = here("explain", "10.244.1.7", "svc/shop/web", "--node=node-a")
    other = here("get", "svc/shop/web", "--node=node-b")

    assert said.code == 0, said.err
    assert "reaches svc/shop/web" in said.out
    assert (other.code, "is node-a's, and not node-b's" in other.err) == (2, True)


def test_an_explanation_is_compared_with_the_kernel(here: Command) -> None:
    eventually(here, "status")

    said = here("explain", "10.244.1.7", "10.96.0.10:80")

    assert said.code == 0, said.err
    assert "reaches svc/shop/web" in said.out
    assert "The kernel has exactly this." in said.out


@pytest.mark.parametrize("example", [each for each in EXAMPLES if each.startswith(ON_A_NODE)])
def test_an_example_of_trace_runs_on_the_node(example: str, here: Command, socket: str) -> None:
    eventually(here, "status")

    words = [f"--server={socket}" if each.startswith("--server=") else each for each in example.split()]
    with netns.Namespace(netns.owned(SPACE)).entered():  # what it starts is there, too
        said = here(*words)

    assert said.code == 1, said.err  # nobody has the addresses, so no packet comes
    assert "No packet of this flow came in time." in said.out


def test_trace_asks_for_the_agents_socket_and_a_time_that_can_be(here: Command) -> None:
    said = here("trace", "10.244.1.7", "10.96.0.10:80", "--server=127.0.0.1:1", "--insecure")
    assert (said.code, "trace needs the agent's own socket" in said.err) == (2, True)

    said = here("trace", "10.244.1.7", "10.96.0.10:80", "--node=node-b", "--server=127.0.0.1:1", "--insecure")
    assert (said.code, "Run it as root on node-b" in said.err) == (2, True)

    said = here("trace", "10.244.1.7", "10.96.0.10:80", "--node=node-b")
    assert (said.code, "is node-a's, and not node-b's" in said.err) == (2, True)

    said = here("trace", "10.244.1.7", "10.96.0.10:80", "--timeout=2m")
    assert (said.code, "at most 60 s" in said.err) == (2, True)


def test_a_question_for_replicas_says_who_can_answer_it(here: Command) -> None:
    said = here("nodes")

    assert said.code == 5
    assert "An agent's socket answers status, get svc NAME, explain and trace only" in said.err
