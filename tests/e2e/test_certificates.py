"""A CA of the control plane's own at a real API server: made, published, rotated and mended while streams go on."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from controlplane.certificates.stored import CONFIG_MAP, FILE, LEASE, SECRET
from deltaplane import certificates
from tests.certificates import openssl
from tests.e2e.conftest import Cluster
from tests.e2e.test_identity import COMMAND, HEALTH, METRICS, NAMESPACE, PORT, Place, started
from tests.streams.programs import Fleet, Program
from tools.lab.manifests import Object, port, service
from tools.lab.rest import Refused, Rest
from tools.lab.rules import run

KINDS = {SECRET: ("Secret", "v1"), CONFIG_MAP: ("ConfigMap", "v1"), LEASE: ("Lease", "coordination.k8s.io/v1")}
LIFETIMES = ("--authority-lifetime=40s", "--certificate-lifetime=10s")
PATIENCE = 90.0


class Own(Place):
    """Two replicas that make their certificates themselves. `bundle`: the file that a kubelet would keep."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        super().__init__(cluster, folder)
        self.bundle = folder / "bundle" / FILE
        self.bundle.parent.mkdir()
        self.addresses = [f"{self.host.v4}:{PORT + number}" for number in (10, 20)]
        self.address = self.addresses[0]
        self.planes = [self._plane(number) for number in (10, 20)]

    def _plane(self, number: int) -> Program:
        return Program(
            "-c", COMMAND, "controlplane", f"--kubeconfig={self.cluster.kubeconfig}",
            f"--listen={self.host.v4}:{PORT + number}", f"--metrics-listen=127.0.0.1:{METRICS + number}",
            f"--health-listen=127.0.0.1:{HEALTH + number}", "--certificates=own",
            "--certificate-names=replicas.test", *LIFETIMES, space=self.host.space,
        )  # fmt: skip

    def fleet(self, node: str, *servers: str) -> Fleet:
        file = self.folder / f"{node}-own"
        file.write_text(self.token(node))
        flags = (f"--server-ca-file={self.bundle}", f"--token-file={file}")
        return Fleet(servers or self.addresses, [node], flags=flags, space=self.host.space)

    def get(self, name: str) -> Object | None:
        kind, api = KINDS[name]
        try:
            return self.cluster.api.admin.get(kind, name, NAMESPACE, api)
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise

    def delete(self, *names: str) -> None:
        for name in names:
            kind, api = KINDS[name]
            metadata = {"name": name, "namespace": NAMESPACE}
            self.cluster.api.admin.delete({"apiVersion": api, "kind": kind, "metadata": metadata})

    def authorities(self) -> dict[str, bytes]:
        """The keys of the CAs in the Secret, by name."""
        data = (self.get(SECRET) or {}).get("data") or {}
        return {name: base64.b64decode(value) for name, value in data.items() if name.endswith(".key")}

    def published(self) -> str:
        return str(((self.get(CONFIG_MAP) or {}).get("data") or {}).get(FILE, ""))

    async def kubelet(self) -> None:
        """Keeps the file as the ConfigMap is, a little late."""
        while True:
            text = ""
            with suppress(OSError):  # the API server may be away
                text = await asyncio.to_thread(self.published)
            if text and (not self.bundle.exists() or text != self.bundle.read_text()):
                new = self.bundle.with_suffix(".new")
                new.write_text(text)
                new.rename(self.bundle)
            await asyncio.sleep(0.5)

    async def served(self, number: int) -> bytes:
        """The certificate that a replica serves now (DER), believed by what is published. Raises where it is not."""
        return await asyncio.to_thread(self._served, number)

    def _served(self, number: int) -> bytes:
        host, _, at = self.addresses[number].rpartition(":")
        context = ssl.create_default_context(cafile=str(self.bundle))
        context.set_alpn_protocols(["h2"])
        with self.host.space.socket(socket.AF_INET, socket.SOCK_STREAM) as plain:
            plain.settimeout(20)
            plain.connect((host, int(at)))
            with context.wrap_socket(plain, server_hostname=host) as secure:
                return secure.getpeercert(binary_form=True) or b""

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(true):  # noqa: ASYNC110 - the API server is asked
                await asyncio.sleep(0.2)

    def said(self, text: str) -> list[str]:
        return [line for plane in self.planes for line in plane.lines if text in line]


@asynccontextmanager
async def mirrored(own: Own) -> AsyncIterator[None]:
    task = asyncio.create_task(own.kubelet())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def own(cluster: Cluster, objects: Rest, tmp_path: Path) -> AsyncIterator[Own]:
    made = Own(cluster, tmp_path)
    made.delete(*KINDS)
    async with started(*made.planes), mirrored(made):
        for plane in made.planes:
            await plane.until(lambda plane=plane: any(" serving " in line for line in plane.lines))  # type: ignore[misc]
        yield made
    made.delete(*KINDS)
    for pod in made.pods:
        cluster.api.admin.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}",
                               {"gracePeriodSeconds": 0})  # fmt: skip


async def test_from_nothing_one_authority_is_made_and_agents_connect_by_what_is_published(own: Own) -> None:
    assert len(own.authorities()) == 1
    assert len(certificates.authorities(own.published())) == 1
    assert not own.said("are not as they should be")
    await own.until(own.bundle.exists)
    for number in range(2):
        await own.served(number)
    for node, address in zip(own.nodes, own.addresses, strict=False):
        async with started(agent := own.fleet(node, address)):
            await agent.until(lambda state: state.services > 0)
    assert "PRIVATE" not in own.published()


@pytest.mark.slow
async def test_certificates_and_authority_rotate_and_no_stream_ends(own: Own, objects: Rest) -> None:
    await own.until(own.bundle.exists)
    first = await own.served(0)
    (old,) = own.authorities().values()
    node = own.nodes[0]
    async with started(agent := own.fleet(node)):
        await agent.until(lambda state: state.services > 0)
        before = agent.states[0].services
        seen = {first}
        async with asyncio.timeout(PATIENCE):
            while old in own.authorities().values():  # until it has ended
                for number in range(2):
                    seen.add(await own.served(number))  # whatever is served is believed
                await asyncio.sleep(1)
        assert len(seen) > 6  # of two replicas, several each
        assert len(own.said("another_authority=True")) >= 4  # the first and the second of each
        objects.apply(service("rotated", [port(80)]))
        await agent.until(lambda state: state.services > before)
        assert [state.connects for state in agent.states] == [1]
        late = own.fleet(own.nodes[1])
        async with started(late):
            await late.until(lambda state: state.services > 0)


@pytest.mark.parametrize("what", ["the Secret", "the ConfigMap", "both", "everything"])
async def test_what_is_deleted_is_told_and_written_again_and_no_stream_ends(own: Own, what: str) -> None:
    names = {"the Secret": [SECRET], "the ConfigMap": [CONFIG_MAP], "both": [SECRET, CONFIG_MAP]}.get(what, [*KINDS])
    await own.until(own.bundle.exists)
    before, published = own.authorities(), own.published()
    async with started(agent := own.fleet(own.nodes[0])):
        await agent.until(lambda state: state.services > 0)
        own.delete(*names)
        await own.until(lambda: all(own.get(name) is not None for name in names))
        await own.until(lambda: before.items() <= own.authorities().items() and published in own.published())
        for name in set(names) - {LEASE}:
            assert own.said(f"{KINDS[name][0]} {name}: there is no CA in it")
        await own.served(0)
        await own.served(1)
        assert [state.connects for state in agent.states] == [1]


@pytest.mark.parametrize("kind", ["a key of another authority", "half a certificate", "no key", "emptied"])
async def test_a_secret_edited_badly_is_told_counted_and_mended(own: Own, kind: str) -> None:
    (name,) = own.authorities()
    before = own.authorities()
    certificate = name.replace(".key", ".crt")
    data: dict[str, str | None] | None
    match kind:
        case "a key of another authority":
            key = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
            data = {name: base64.b64encode(key).decode()}
        case "half a certificate":
            whole = base64.b64decode((own.get(SECRET) or {})["data"][certificate])
            data = {certificate: base64.b64encode(whole[: len(whole) // 2]).decode()}
        case "no key":
            data = {name: None}
        case _:
            data = None
    own.cluster.api.admin.patch("Secret", SECRET, {"data": data}, namespace=NAMESPACE)
    await own.until(lambda: bool(own.said(f"Secret {SECRET}: ")))
    await own.until(lambda: before.items() <= own.authorities().items() and bool(own.said("certificates: over")))

    assert (own.get(SECRET) or {})["data"].keys() == {name, certificate}
    urls = (f"http://127.0.0.1:{METRICS + number}/metrics" for number in (10, 20))
    pages = await asyncio.gather(*(asyncio.to_thread(run, own.host.space, "curl", "-s", url) for url in urls))
    assert any("deltaplane_certificate_failures_total 1.0" in page for page in pages)
    await own.until(own.bundle.exists)
    await own.served(0)


async def test_a_bundle_edited_badly_is_mended_and_what_others_put_there_stays(own: Own) -> None:
    published = own.published()
    others = own.authority.certificate.read_text()
    own.cluster.api.admin.patch("ConfigMap", CONFIG_MAP, {"data": {FILE: others + published[: len(published) // 2]}},
                                namespace=NAMESPACE)  # fmt: skip
    await own.until(lambda: published in own.published() and others.strip() in own.published())

    assert own.said(f"ConfigMap {CONFIG_MAP}: {FILE} has more than whole certificates")
    await own.until(lambda: own.bundle.exists() and own.bundle.read_text() == own.published())
    await own.served(0)


async def test_an_operator_asks_for_another_authority_by_an_annotation(own: Own) -> None:
    annotated = {"metadata": {"annotations": {"deltaplane.dev/renew-authority": "now"}}}
    own.cluster.api.admin.patch("Secret", SECRET, annotated, namespace=NAMESPACE)
    await own.until(lambda: len(own.authorities()) == 2)
    await own.until(lambda: len(certificates.authorities(own.published())) == 2)

    assert not ((own.get(SECRET) or {})["metadata"].get("annotations"))


async def test_without_the_api_server_a_replica_goes_on_renewing_its_certificate(own: Own) -> None:
    await own.until(own.bundle.exists)
    first = await own.served(0)
    await asyncio.to_thread(own.cluster.api.stop)
    try:
        async with asyncio.timeout(PATIENCE):
            while await own.served(0) == first:  # noqa: ASYNC110 - the replica is asked
                await asyncio.sleep(0.5)
    finally:
        await asyncio.to_thread(own.cluster.api.start)
    await own.until(lambda: bool(own.said("certificates: over")))


async def test_a_replica_that_may_not_write_says_which_permission_is_missing(own: Own) -> None:
    named = ("RoleBinding", "deltaplane-controlplane-certificates", NAMESPACE, "rbac.authorization.k8s.io/v1")
    binding = own.cluster.api.admin.get(*named)
    own.cluster.api.admin.delete(binding)
    try:
        await own.until(lambda: bool(own.said("grant get on secrets/deltaplane-controlplane-ca")))
        await own.until(own.bundle.exists)
        await own.served(0)
    finally:
        binding["metadata"] = {key: binding["metadata"][key] for key in ("name", "namespace")}
        own.cluster.api.admin.create(binding)
