"""Through a kubeconfig: which replica, by what certificate it is believed, whose token is shown, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1 import inspection_pb2_grpc
from operatorcli.connect import token
from tests.certificates import Authority
from tests.operatorcli import fake_cluster
from tests.operatorcli.fake_cluster import Api, kubeconfig
from tests.operatorcli.world import Command

AUDIENCE = "deltaplane.dev/control-plane"


class Replica(inspection_pb2_grpc.InspectionServiceServicer):
    """Answers as a replica with one node; keeps what callers showed, and what they waited for."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.awaited: list[pb.WaitAppliedRequest] = []

    def GetStatus(self, request: pb.GetStatusRequest, context: Any) -> pb.GetStatusResponse:  # noqa: N802
        self.shown.append(dict(context.invocation_metadata()).get("authorization", ""))
        return pb.GetStatusResponse(server_id="r1", head_rev=7)

    def ListNodes(self, request: pb.ListNodesRequest, context: Any) -> pb.ListNodesResponse:  # noqa: N802
        return pb.ListNodesResponse(head_rev=7)

    def WaitApplied(self, request: pb.WaitAppliedRequest, context: Any) -> Iterator[pb.WaitAppliedResponse]:  # noqa: N802
        self.awaited.append(request)
        yield pb.WaitAppliedResponse(done=True, applied=True, chosen_nodes=1, nodes_applied=1, rev=7)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def replica() -> Replica:
    return Replica()  # type: ignore[abstract] # the generated class refuses the other questions


@pytest.fixture
def api(authority: Authority, replica: Replica) -> Iterator[Api]:
    """A replica in TLS, whose certificate is for its Pod's address, and the API server before it."""
    pair = authority.sign("server", "IP:192.0.2.77")
    server = grpc.server(ThreadPoolExecutor(4))
    credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.certificate.read_bytes())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    inspection_pb2_grpc.add_InspectionServiceServicer_to_server(replica, server)
    server.start()
    yield Api(authority.certificate.read_text(), port)
    server.stop(0).wait()


@pytest.fixture
def deltaplane(
    api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Command]:
    with fake_cluster.serving(api, tmp_path) as config:
        yield Command({"KUBECONFIG": str(config)}, capsys, monkeypatch)


def test_a_ready_replicas_pod_is_asked_with_a_token_of_the_inspectors_account(
    deltaplane: Command, api: Api, replica: Replica
) -> None:
    said = deltaplane("status")

    assert (said.code, said.err) == (0, "")
    assert "r1 at pod deltaplane-system/deltaplane-controlplane-1" in said.out
    assert api.tokens == [{"audiences": [AUDIENCE], "expirationSeconds": 600}]
    (shown,) = replica.shown
    assert token.fits(shown.removeprefix("Bearer "), AUDIENCE, 0.0)


def test_a_persons_own_token_for_the_audience_is_shown_and_none_is_made(
    deltaplane: Command, api: Api, replica: Replica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = fake_cluster.jwt(aud=[AUDIENCE, "https://kubernetes.default.svc"])
    monkeypatch.setattr(fake_cluster, "BEARER", own)
    kubeconfig(tmp_path / "kubeconfig", api.url, own)

    said = deltaplane("status")

    assert said.code == 0, said.err
    assert replica.shown == [f"Bearer {own}"]
    assert api.tokens == []


def test_a_token_file_comes_before_the_kubeconfigs_user(
    deltaplane: Command, api: Api, replica: Replica, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("mine\n")

    assert deltaplane("status", f"--token-file={tmp_path / 'token'}").code == 0
    assert replica.shown == ["Bearer mine"]
    assert api.tokens == []


def test_a_replica_of_another_authority_is_not_believed_and_gets_no_token(
    deltaplane: Command, replica: Replica, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")

    said = deltaplane("status", f"--ca-file={other.certificate}")

    assert said.code == 3
    assert "no TLS with the replica at pod deltaplane-system/deltaplane-controlplane-1" in said.err
    assert "--ca-file" in said.err
    assert replica.shown == []


@pytest.mark.parametrize(
    ("end", "code", "wanted"),
    [
        ("/pods", 403, (4, "list pods in namespace deltaplane-system")),
        ("/deltaplane-ca", 403, (4, "get configmaps deltaplane-ca in deltaplane-system")),
        ("/token", 403, (4, "create serviceaccounts/token deltaplane-inspector")),
        ("/portforward", 403, (4, "get and create pods/portforward")),
        ("/pods", 401, (4, "does not accept the credentials (401)")),
        ("/deltaplane-ca", 404, (3, "--ca-file")),
        ("/token", 404, (3, "--account")),
        ("/pods", 500, (3, "kubectl get nodes")),
    ],
)
def test_what_the_api_server_refuses_is_named_with_the_right_that_is_missing(
    end: str, code: int, wanted: tuple[int, str], deltaplane: Command, api: Api
) -> None:
    api.refused[end] = code

    found = deltaplane("status", "--request-timeout=5")

    assert found.code == wanted[0], found.err
    assert wanted[1] in found.err
    assert "Traceback" not in found.err


def test_what_the_kubelet_says_of_the_port_is_told(deltaplane: Command, api: Api) -> None:
    api.closed = "error forwarding port 50051 to pod: dial tcp4 127.0.0.1:50051: connect: connection refused"

    said = deltaplane("status", "--request-timeout=5")

    assert said.code == 3
    assert "cannot forward a port to pod deltaplane-system/deltaplane-controlplane-1" in said.err
    assert "connect: connection refused" in said.err


def test_no_ready_replica_is_said_with_how_to_see_why(deltaplane: Command, api: Api) -> None:
    api.pods = api.pods[:1]

    said = deltaplane("nodes")

    assert said.code == 3
    assert "no replica in namespace deltaplane-system is ready: deltaplane-controlplane-0" in said.err
    assert "kubectl -n deltaplane-system describe pod deltaplane-controlplane-0" in said.err


def test_no_replica_at_all_asks_for_the_namespace(deltaplane: Command, api: Api) -> None:
    api.pods = []

    said = deltaplane("nodes")

    assert said.code == 3
    assert "--system-namespace" in said.err


def test_a_replica_that_is_named_has_to_be_ready(deltaplane: Command) -> None:
    assert deltaplane("status", "--replica=deltaplane-controlplane-1").code == 0
    said = deltaplane("status", "--replica=deltaplane-controlplane-0")
    assert said.code == 1
    assert "Those that are ready: deltaplane-controlplane-1" in said.err


def test_a_wait_is_for_the_version_that_the_api_server_has(deltaplane: Command, replica: Replica) -> None:
    said = deltaplane("wait", "svc/web", "--timeout=1s")

    assert (said.code, said.out) == (0, "svc/shop/web@4711 is applied: on 1 node after 0.0s (revision 7).\n")
    (request,) = replica.awaited
    assert (request.object.key.namespace, request.object.resource_version) == ("shop", "4711")


def test_a_pods_name_is_its_addresses_of_both_families(deltaplane: Command, replica: Replica) -> None:
    assert deltaplane("wait", "svc/web", "--for=removed=web-1", "--timeout=1s").code == 0
    assert [asked.removed_address for asked in replica.awaited] == ["10.244.1.7", "fd00:10:244:1::7"]


def test_a_pods_addresses_are_all_waited_for(deltaplane: Command, replica: Replica) -> None:
    assert deltaplane("wait", "svc/web", "--for=removed=10.0.0.9,fd00::9", "--timeout=1s").code == 0
    assert [asked.removed_address for asked in replica.awaited] == ["10.0.0.9", "fd00::9"]


def test_a_kubeconfig_that_is_not_there_is_named(deltaplane: Command, tmp_path: Path) -> None:
    said = deltaplane("status", f"--kubeconfig={tmp_path / 'none'}")

    assert said.code == 3
    assert str(tmp_path / "none") in said.err
    assert "--kubeconfig" in said.err
