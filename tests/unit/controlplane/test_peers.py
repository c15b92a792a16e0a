"""Where the other replicas are, and how they are reached and believed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from controlplane import peers_flags
from controlplane.cluster import Cluster
from controlplane.identity.door import Door
from controlplane.identity.flags import Security
from controlplane.identity.listener import Listener
from controlplane.identity.peer import Way
from controlplane.log import Log
from controlplane.replica_places import FRESH, Named, OfService, Remembered, Unfound
from controlplane.server import Server
from controlplane.settings import parse
from controlplane.source.replicas import _places, _Slice
from controlplane.trace import NoTracing
from deltaplane import tls
from deltaplane.flags import UsageError
from deltaplane.model import Kind
from deltaplane.v1 import inspection_pb2 as inspection
from tests.certificates import Authority
from tools.lab.ports import free_port

TLS = ["--tls-cert-file=/c", "--tls-private-key-file=/k"]


async def test_a_list_is_resolved_and_an_address_stands_once() -> None:
    assert await Named(["127.0.0.1:2", "127.0.0.1:2", "[::1]:1"]).find() == ["127.0.0.1:2", "[::1]:1"]
    with pytest.raises(Unfound, match=r"--replicas=no.such.invalid:1"):
        await Named(["no.such.invalid:1"]).find()


async def test_a_name_that_does_not_resolve_hides_none_of_the_others_and_keeps_what_it_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named = Named(["no.such.invalid:1", "localhost:2", "127.0.0.1:3"])
    with pytest.raises(Unfound, match=r"no\.such\.invalid") as told:
        await named.find()
    assert {"127.0.0.1:2", "127.0.0.1:3"} <= set(told.value.places)

    async def fails(*_: Any, **__: Any) -> None:
        raise OSError(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fails)
    with pytest.raises(Unfound) as again:
        await named.find()
    assert again.value.places == told.value.places


async def test_the_endpoints_of_a_headless_service_are_the_replicas_ready_or_not() -> None:
    async def ask() -> list[tuple[str, int]]:
        return [("10.0.0.2", 50051), ("fd00::1", 50051), ("10.0.0.2", 50051)]

    assert await OfService(ask).find() == ["10.0.0.2:50051", "[fd00::1]:50051"]

    text = b'{"ports":[{"name":"grpc","port":5}],"endpoints":[{"addresses":["a"],"conditions":{"ready":false}}]}'
    assert _places(msgspec.json.decode(text, type=_Slice)) == [("a", 5)]
    assert _places(msgspec.json.decode(b'{"ports":null,"endpoints":null}', type=_Slice)) == []


async def test_what_was_found_counts_for_a_while_and_on_while_nobody_answers() -> None:
    class Finder:
        asked = 0

        async def find(self) -> list[str]:
            self.asked += 1
            if self.asked == 2:
                raise Unfound("no answer")
            return [f"a:{self.asked}"]

    now, finder = 0.0, Finder()
    remembered = Remembered(finder, lambda: now)
    assert [await remembered.find() for _ in range(3)] == [["a:1"]] * 3
    now += FRESH
    assert await remembered.find() == ["a:1"]
    now += FRESH
    assert await remembered.find() == ["a:3"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--insecure", "--replicas=service:a"], "'service:a' is not service:NAMESPACE/NAME"),
        (["--insecure", "--peers=a"], "'a' is not HOST:PORT"),
        ([*TLS, "--peers=a:1"], "--peer-ca-file=FILE is missing, by which the replicas in --peers"),
        ([*TLS, "--replicas=a:1"], "--peer-ca-file=FILE is missing, by which the replicas in --replicas"),
        (["--listen=unix:///a", "--replicas=a:1"], "--replicas does not go with a unix socket"),
        (["--insecure", "--source=manifests", "--manifests=/m", "--replicas=service:a/b"], "has not"),
    ],
)
def test_peers_that_could_not_be_found_or_believed_are_refused_at_the_start(arguments: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=text.replace("(", r"\(")):
        parse(arguments)


class Secured:
    """A replica that demands certificates, as those of a folder of manifests do."""

    def __init__(self, authority: Authority, port: int, ports: list[int], name: str) -> None:
        pair = authority.sign(f"replica-{port}", "IP:127.0.0.1", f"URI:spiffe://deltaplane.dev/{name}")
        files = tls.Files(str(pair.certificate), str(pair.key), str(authority.certificate))
        security = Security(Way.TLS, files)
        where = peers_flags.Where(tuple(f"127.0.0.1:{each}" for each in ports), ca_file=str(authority.certificate))
        self.cluster, address = Cluster(Log(), NoTracing()), f"127.0.0.1:{port}"
        self.server = Server(
            address, self.cluster, NoTracing(), listener=Listener(address, security), door=Door(security),
            finder=peers_flags.finder(where, None), dial=peers_flags.dial(where, security),
        )  # fmt: skip
        for kind in Kind:
            self.cluster.synced(kind)

    async def replicas(self) -> list[inspection.ReplicaStatus]:
        asked = await self.server._peers.ask("GetStatus", inspection.GetStatusRequest(this_replica=True))
        return [each.status for each in asked]


async def test_a_replica_is_believed_by_its_certificate_and_a_nodes_certificate_is_none(tmp_path: Path) -> None:
    authority, ports = Authority(tmp_path), [free_port(), free_port()]
    names = ["replica/cp-0", "node/n1"]
    made = [Secured(authority, port, ports, name) for port, name in zip(ports, names, strict=True)]
    for each in made:
        await each.server.start()
    try:
        (seen,) = await made[0].replicas()
        refused: Any = await made[1].replicas()
    finally:
        await asyncio.gather(*(each.server.stop() for each in made))
    assert (seen.error, seen.head_rev) == ("", 1)
    assert {each.error.partition(":")[0] for each in refused} == {"PERMISSION_DENIED"}
