"""Whatever is wrong is said in one line: what, where and what to do. Nothing that was served is lost by it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from controlplane.cluster import WATCHED
from tests.e2e import tables
from tests.e2e.conftest import Cluster
from tests.e2e.shop import LIMIT, SLICE_PORTS, Shop, names, reached
from tools.lab import manifests
from tools.lab.client import until
from tools.lab.deltaplane import COMMAND, Agent, ControlPlane, Deployment
from tools.lab.netns import Namespace
from tools.lab.process import Process

USAGE, RUN_TIME = 2, 1
AGENT = ("agent", "--insecure", "--server=198.51.100.3:50051", "--hostname-override=node-1")
PLANE = ("controlplane", "--insecure", "--listen=127.0.0.1:0")

# Runs the agent where opening the netfilter netlink socket fails as it does on a kernel without that code. The filter
# is four instructions of classic BPF: socket(AF_NETLINK, ..., NETLINK_NETFILTER) -> EPROTONOSUPPORT.
WITHOUT_NETFILTER = """
import ctypes, errno, platform, struct, sys
number = {"x86_64": 41, "aarch64": 198}[platform.machine()]
steps = [(0x20, 0, 0, 0), (0x15, 0, 5, number), (0x20, 0, 0, 16), (0x15, 0, 3, 16), (0x20, 0, 0, 32),
         (0x15, 0, 1, 12), (0x06, 0, 0, 0x00050000 | errno.EPROTONOSUPPORT), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program, 0, 0) == 0
from deltaplane.cli import main
sys.exit(main())
"""


def run(space: Namespace | None, *arguments: str, command: Sequence[str] = COMMAND) -> tuple[int, list[str]]:
    """Exit code and the lines the program printed."""
    words = [*command, *arguments]

    def act() -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)

    done = space.run(act) if space else act()
    assert "Traceback" not in done.stderr
    return done.returncode, (done.stdout + done.stderr).strip().splitlines()


@pytest.mark.parametrize(
    "arguments, said",
    [
        pytest.param(["agnet"], "unknown command 'agnet'", id="unknown command"),
        pytest.param([*AGENT, "--proxy-mod=nftables"], "unrecognized arguments: --proxy-mod", id="agent flag"),
        pytest.param([*PLANE, "--kubeconf=x"], "unrecognized arguments: --kubeconf", id="control plane flag"),
        pytest.param([*AGENT, "--proxy-mode=pigeon"], '"pigeon": must be iptables', id="unknown mode"),
        pytest.param([*AGENT, "--cluster-cidr=10.0.0.0/33"], "10.0.0.0/33", id="bad CIDR"),
        pytest.param([*AGENT, "--server=198.51.100.3"], "'198.51.100.3' is not HOST:PORT", id="server without port"),
        pytest.param([*PLANE, "--source=etcd"], "invalid choice: 'etcd'", id="unknown source"),
        pytest.param([*PLANE, "--source=manifests"], "--manifests=DIR", id="manifests without directory"),
        pytest.param([*PLANE, "--trace-sample-ratio=2"], "2 is not between 0 and 1", id="ratio"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], said: str) -> None:
    code, lines = run(None, *arguments)
    assert (code, len(lines)) == (USAGE, 1)
    assert said in lines[0]
    assert "--help" in lines[0]


@pytest.mark.parametrize(
    "content, said",
    [
        pytest.param(None, "cannot read kubeconfig {file}: No such file or directory: check --kubeconfig", id="absent"),
        pytest.param(b"clusters: [", "kubeconfig {file} is not YAML", id="not YAML"),
        pytest.param(b"\xff\xfe\x00binary", "kubeconfig {file} is not YAML", id="binary"),
        pytest.param(b"a: b", "kubeconfig {file} has no clusters: check --kubeconfig", id="something else"),
        pytest.param(b"clusters: [{name: a}]", "kubeconfig {file} is not usable", id="no context"),
    ],
)
def test_an_unreadable_kubeconfig_is_one_line_and_exit_code_1(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_bytes(content)
    code, lines = run(None, *PLANE, f"--kubeconfig={file}")
    assert code == RUN_TIME
    assert [line for line in lines if " INFO " not in line] == [lines[-1]]
    assert lines[-1].startswith(f"deltaplane controlplane: {said.format(file=file)}")


def test_outside_a_pod_without_a_kubeconfig_says_what_to_give() -> None:
    code, lines = run(None, *PLANE)
    assert code == RUN_TIME
    assert "not in a Pod; give --kubeconfig=FILE" in lines[-1]


def test_an_absent_manifests_directory_says_which(tmp_path: Path) -> None:
    code, lines = run(None, *PLANE, "--source=manifests", f"--manifests={tmp_path / 'none'}")
    assert code == RUN_TIME
    assert f"{tmp_path / 'none'}: No such file or directory: check --manifests" in lines[-1]


def test_a_port_that_is_taken_says_which(line: Deployment) -> None:
    space, taken = line.fabric.controlplane.space, f"--listen={line.controlplane.address}"
    code, lines = run(space, *PLANE, taken, "--source=manifests", "--manifests=/")
    assert (code, len(lines)) == (RUN_TIME, 1)
    assert f"{taken}: cannot bind; is the port taken" in lines[0]


def test_a_wrong_server_address_is_one_line_and_loses_no_rule(shop: Shop, tmp_path: Path) -> None:
    """The agent keeps trying: the server may come. Meanwhile what is in the kernel stays."""
    address = _open(shop)
    node = shop.fabric.nodes[0]
    shop.line.agents[node.name].stop()
    before = tables.generation(node.space)
    wrong = Agent(node, f"{shop.fabric.controlplane.v4}:1", tmp_path)
    try:
        process = wrong.start()
        process.wait_log(f"not connected; retrying server={shop.fabric.controlplane.v4}:1 reason=")
        process.wait_log("reason=.*([Rr]efused|[Ff]ailed to connect)")
        assert len(_complaints(process)) == 1
        assert reached(node.clients[0].space, address, 80, "tcp") == names(shop.fabric.pods)
    finally:
        wrong.stop()
        shop.line.agents[node.name].start()
        shop.line.wait_applied()
    assert tables.generation(node.space) == before


def test_a_wrong_api_server_address_is_one_line_and_loses_no_rule(shop: Shop, cluster: Cluster, tmp_path: Path) -> None:
    """Agents are told that this replica does not know the cluster; they keep what they have."""
    address = _open(shop)
    wrong = tmp_path / "kubeconfig"
    wrong.write_text(cluster.kubeconfig.read_text().replace(":6443", ":6444"))
    plane = ControlPlane(shop.fabric.controlplane, tmp_path, f"--kubeconfig={wrong}")
    shop.line.controlplane.stop()
    before = tables.generation(shop.fabric.nodes[0].space)
    process = shop.line.agents["node-1"].process
    assert process is not None
    said = len(process.output())
    try:
        plane.start()
        assert plane.process is not None
        plane.process.wait_log(
            f"cannot (list|watch) .* at API server https://{cluster.api.host.v4}:6444.*check its address in"
        )
        process.wait_log("not yet seen the whole cluster state", after=said)
        assert reached(shop.clients["pod"], address, 80, "tcp") == names(shop.fabric.pods)
        complaints = partial(_complaints, plane.process)
        until(lambda: len(complaints()) >= len(WATCHED), LIMIT, what=lambda: "\n".join(complaints()))
        assert len(complaints()) == len(WATCHED)
    finally:
        plane.close()
        shop.line.controlplane.start()
        shop.line.wait_applied(timeout=60)
    assert tables.generation(shop.fabric.nodes[0].space) == before


def test_an_agent_without_net_admin_says_so_and_loses_no_rule(shop: Shop) -> None:
    _open(shop)
    node = shop.fabric.nodes[0]
    before = tables.steady(node.space, 4)
    drop = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--", *COMMAND)
    code, lines = run(node.space, *AGENT, "--proxy-mode=nftables", "--strict-mode", command=drop)
    assert (code, len(lines)) == (RUN_TIME, 1)
    assert lines[0].startswith("deltaplane agent: nftables: ")
    assert "Operation not permitted" in lines[0]
    assert lines[0].endswith("give the agent CAP_NET_ADMIN in this network namespace")
    assert tables.steady(node.space, 4) == before


def test_a_kernel_without_netfilter_says_so(shop: Shop) -> None:
    command = (sys.executable, "-c", WITHOUT_NETFILTER)
    code, lines = run(shop.fabric.nodes[0].space, *AGENT, "--proxy-mode=nftables", "--strict-mode", command=command)
    assert (code, len(lines)) == (RUN_TIME, 1)
    assert "this kernel has no netfilter netlink (Protocol not supported)" in lines[0]
    assert "load the module nf_tables or choose another proxy mode" in lines[0]


def test_a_slice_with_a_nil_port_is_named_and_its_other_port_serves(shop: Shop) -> None:
    address = _open(shop)
    part = manifests.slices("my-service", shop.fabric.pods, SLICE_PORTS)[0]
    part["ports"] = [{"name": "dns", "protocol": "UDP"}, SLICE_PORTS[0]]  # no number: every port
    with _says(shop, r"cannot use object .*my-service-v4.*ports\[\d\].port: None is not 1..65535; port skipped"):
        shop.rest.replace(part)
    shop.settle()
    assert reached(shop.clients["pod"], address, 80, "tcp") == names(shop.fabric.pods)
    assert (4, address, "udp", 80) in tables.read(shop.fabric.nodes[0].space).refused


def test_a_slice_of_names_is_named_and_the_others_serve(shop: Shop) -> None:
    address = _open(shop)
    names_only = manifests.endpoint_slice(
        "my-service", [manifests.endpoint("pod.example.com")], SLICE_PORTS, name="fqdn"
    )
    with _says(shop, r"cannot use object .*fqdn.*addressType: 'FQDN' cannot be forwarded to; use IPv4 or IPv6"):
        shop.rest.create(names_only | {"addressType": "FQDN"})
    shop.endpoints(shop.fabric.pods[:3])  # what comes after it arrives
    shop.settle()
    assert reached(shop.clients["pod"], address, 80, "tcp") == names(shop.fabric.pods[:3])


def _open(shop: Shop) -> str:
    """A Service that serves; its IPv4 address."""
    return shop.sell()[0]


@contextmanager
def _says(shop: Shop, pattern: str) -> Iterator[None]:
    """What is done inside makes the control plane log this line."""
    process = shop.line.controlplane.process
    assert process is not None
    before = len(process.output())
    yield
    process.wait_log(pattern, after=before)
    assert "Traceback" not in process.output()


def _complaints(process: Process) -> list[str]:
    """What it logged above INFO, but for the laboratory's bridges; each a line of its own."""
    output = process.output()
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if " WARNING " in line or " ERROR " in line]
    return [line for line in lines if " nodeagent.node.bridges: " not in line]
