"""TLS between real programs: what is believed, what is not, and certificates that change while streams are open."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc.experimental import session_cache

from deltaplane import tls
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.config.security import Security
from nodeagent.stream.channel import METHOD, OPTIONS
from nodeagent.stream.credentials import Secure
from tests.certificates import Authority, Pair
from tests.streams.programs import ControlPlane, Fleet, Manifests, Program

NODE = "node-1"
COMMAND = "import sys; from deltaplane.cli import main; sys.exit(main())"


class Parties:
    """An authority, a replica's pair and a node's, and the bundle that both ends believe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifests = Manifests(folder / "manifests")
        self.manifests.folder.mkdir()
        self.manifests.add()
        self.authority = Authority(folder)
        self.server = self.authority.sign("server", "IP:127.0.0.1")
        self.node = self.authority.sign("node", f"URI:spiffe://deltaplane.dev/node/{NODE}")
        self.bundle = folder / "bundle.pem"
        self.bundle.write_bytes(self.authority.certificate.read_bytes())
        self.known = self.bundle  # what agents believe
        self.plane = ControlPlane(self.manifests.folder, *self.server.flags(), f"--client-ca-file={self.bundle}")

    def fleet(self, *flags: str, pair: Pair | None = None) -> Fleet:
        known = (f"--server-ca-file={self.known}", *(pair or self.node).flags())
        return Fleet([self.plane.address], [NODE], flags=(*known, *flags))

    def command(self) -> Program:
        """The control plane as people start it."""
        listen, folder = f"--listen={self.plane.address}", f"--manifests={self.manifests.folder}"
        known = (*self.server.flags(), f"--client-ca-file={self.bundle}")
        return Program("-c", COMMAND, "controlplane", "--source=manifests", folder, listen, *known)

    def other_authority(self) -> Authority:
        folder = self.folder / "other"
        folder.mkdir()
        return Authority(folder, "other")


@pytest.fixture
def parties(tmp_path: Path) -> Parties:
    return Parties(tmp_path)


@asynccontextmanager
async def started(*programs: ControlPlane | Fleet | Program) -> AsyncIterator[None]:
    try:
        for program in programs:
            await program.start()
        yield
    finally:
        for program in programs:
            await program.stop()


async def refused(fleet: Fleet, word: str) -> None:
    """Waits until an agent says that it is not connected, for this reason."""
    (program,) = fleet.programs
    await program.until(lambda: any("not connected" in line for line in program.lines))
    said = [line for line in program.lines if "not connected" in line]
    assert word in said[0], said
    assert not any(state.connected for states in fleet.history.values() for state in states)


def shown(address: str, parties: Parties, *, least: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> int:
    """The serial number of the certificate that a new connection gets. Raises ssl.SSLError."""
    host, port = address.split(":")
    context = ssl.create_default_context(cafile=str(parties.bundle))
    context.maximum_version = least
    context.load_cert_chain(parties.node.certificate, parties.node.key)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        found = connection.getpeercert()
        assert found
        if not connection.recv(1):  # whether the client is believed comes out last: by an answer, or by the end
            raise ssl.SSLError("the connection ended without an answer")
        return int(str(found["serialNumber"]), 16)


async def test_agents_with_certificates_are_served(parties: Parties) -> None:
    fleet = parties.fleet()
    async with started(parties.plane, fleet):
        await fleet.until(lambda state: state.services == 1)


@pytest.mark.parametrize(("name", "believed"), [("replicas.test", True), ("other.test", False)])
async def test_an_address_of_a_name_is_believed_by_the_certificate_of_that_name(
    parties: Parties, name: str, believed: bool
) -> None:
    parties.server.replace(parties.authority.sign("named", "DNS:replicas.test"))
    files = tls.Files(str(parties.node.certificate), str(parties.node.key), str(parties.bundle), "server-ca-file")
    hello = pb.Hello(node_name=NODE, protocol_min=1, protocol_max=1)
    async with (
        started(parties.plane),
        Secure(Security(False, files)).channel(parties.plane.address, OPTIONS, name) as to,
    ):
        call: Any = to.stream_stream(METHOD)()
        if believed:
            await call.write(pb.WatchRequest(hello=hello).SerializeToString())
            assert pb.WatchResponse.FromString(await call.read()).HasField("welcome")
        else:
            with pytest.raises(grpc.aio.AioRpcError, match=r"CERTIFICATE_VERIFY_FAILED|Hostname Verification"):
                await call.wait_for_connection()
        call.cancel()


async def test_certificates_of_a_new_authority_count_and_no_stream_ends(parties: Parties) -> None:
    fleet = parties.fleet()
    async with started(parties.plane, fleet):
        await fleet.until(lambda state: state.services == 1)
        new = parties.other_authority()
        parties.bundle.write_bytes(parties.authority.certificate.read_bytes() + new.certificate.read_bytes())
        for _ in range(40):
            new.sign("spare", "IP:127.0.0.1")  # so that serial numbers differ
        parties.server.replace(new.sign("server", "IP:127.0.0.1"))
        assert await asyncio.to_thread(shown, parties.plane.address, parties) == 41

        parties.manifests.add()
        await fleet.until(lambda state: state.services == 2)
        assert [state.connects for state in fleet.states] == [1]

        late = parties.fleet(pair=new.sign("node", f"URI:spiffe://deltaplane.dev/node/{NODE}"))
        async with started(late):
            await late.until(lambda state: state.services == 2)


async def test_a_pair_that_does_not_match_is_told_once_and_the_last_good_one_stays(parties: Parties) -> None:
    async with started(parties.plane):
        before = await asyncio.to_thread(shown, parties.plane.address, parties)
        parties.authority.sign("next", "IP:127.0.0.1")
        parties.server.key.write_bytes((parties.folder / "next.key").read_bytes())
        told = "certificates stay as they were"
        await parties.plane.until(lambda: any(told in line for line in parties.plane.lines))

        for _ in range(3):
            assert await asyncio.to_thread(shown, parties.plane.address, parties) == before
        assert sum(told in line for line in parties.plane.lines) == 1

        parties.server.certificate.write_bytes((parties.folder / "next.pem").read_bytes())
        assert await asyncio.to_thread(shown, parties.plane.address, parties) != before


async def test_nothing_below_tls_1_3_is_spoken(parties: Parties) -> None:
    plane = parties.command()
    async with started(plane):
        await plane.until(lambda: any("serving" in line for line in plane.lines))
        assert await asyncio.to_thread(shown, parties.plane.address, parties)
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(shown, parties.plane.address, parties, least=ssl.TLSVersion.TLSv1_2)


def accepted(listening: socket.socket, parties: Parties, most: ssl.TLSVersion) -> str | None:
    """Answers one connection, as a server that speaks nothing newer; what they agreed on. Raises ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(parties.server.certificate, parties.server.key)
    context.maximum_version = most
    context.set_alpn_protocols(["h2"])
    plain, _ = listening.accept()
    with plain, context.wrap_socket(plain, server_side=True) as connection:
        return connection.version()


async def test_an_agent_speaks_nothing_below_tls_1_3_either(parties: Parties) -> None:
    host, port = parties.plane.address.split(":")
    fleet = parties.fleet()
    with socket.create_server((host, int(port))) as listening:
        listening.settimeout(60)
        async with started(fleet):
            assert await asyncio.to_thread(accepted, listening, parties, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
            with pytest.raises(ssl.SSLError):
                await asyncio.to_thread(accepted, listening, parties, ssl.TLSVersion.TLSv1_2)


async def test_a_replica_whose_certificate_has_ended_is_not_believed_and_does_not_start(parties: Parties) -> None:
    parties.server.replace(parties.authority.sign("ended", "IP:127.0.0.1", days=-1))
    host, port = parties.plane.address.split(":")
    fleet = parties.fleet()
    with socket.create_server((host, int(port))) as listening:
        listening.settimeout(60)
        async with started(fleet):
            with pytest.raises(ssl.SSLError):
                await asyncio.to_thread(accepted, listening, parties, ssl.TLSVersion.TLSv1_3)
            await refused(fleet, "CERTIFICATE_VERIFY_FAILED")
    plane = parties.command()
    async with started(plane), asyncio.timeout(60), plane.news:
        await plane.news.wait_for(lambda: not plane.running)
    assert "the certificate ended at" in plane.lines[-1]


async def test_a_client_whose_certificate_has_ended_is_not_served(parties: Parties) -> None:
    async with started(parties.plane):
        assert await asyncio.to_thread(shown, parties.plane.address, parties)
        parties.node = parties.authority.sign("ended", f"URI:spiffe://deltaplane.dev/node/{NODE}", days=-1)
        with pytest.raises(ssl.SSLError, match="ended without an answer"):
            await asyncio.to_thread(shown, parties.plane.address, parties)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00"])
async def test_a_connection_that_does_not_finish_its_handshake_is_closed(parties: Parties, said: bytes) -> None:
    flags = (*parties.server.flags(), f"--client-ca-file={parties.bundle}")
    plane = ControlPlane(parties.manifests.folder, *flags, keepalive=1000)
    async with started(plane):
        await plane.until(lambda: any("serving" in line for line in plane.lines))
        host, port = plane.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(said)
        async with asyncio.timeout(30):
            assert await reader.read(1) == b""
        writer.close()


async def test_a_certificate_counts_on_the_connection_that_it_was_checked_on_alone(parties: Parties) -> None:
    parties.server.replace(parties.authority.sign("localhost", "DNS:localhost"))  # sessions are kept by name
    files = tls.Files(*map(str, (parties.node.certificate, parties.node.key, parties.bundle)))
    sessions: Any = session_cache
    options = (*OPTIONS, ("grpc.ssl_session_cache", sessions.ssl_session_cache_lru(1)))
    hello = pb.Hello(node_name=NODE, protocol_min=1, protocol_max=1, max_message_bytes=2**22)
    async with started(parties.plane):
        await parties.plane.until(lambda: any("serving" in line for line in parties.plane.lines))
        place = parties.plane.address.replace("127.0.0.1", "localhost")
        ended = []
        for _ in range(2):
            async with grpc.aio.secure_channel(
                place, tls.channel_credentials(tls.Kept(files)), options=options
            ) as channel:
                call: Any = channel.stream_stream(METHOD)()
                await call.write(pb.WatchRequest(hello=hello).SerializeToString())
                try:
                    ended.append("answered" if await call.read() else "")
                except grpc.aio.AioRpcError as error:
                    ended.append(error.details() or "")
    first, second = ended
    assert first == "answered"
    assert "checked on an earlier connection" in second


async def test_a_replica_with_another_name_is_not_believed(parties: Parties) -> None:
    parties.server.replace(parties.authority.sign("elsewhere", "DNS:plane.example", "IP:127.0.0.2"))
    fleet, named = parties.fleet(), parties.fleet("--server-name=plane.example")
    async with started(parties.plane, fleet, named):
        await refused(fleet, "Hostname Verification Check failed")
        await named.until(lambda state: state.services == 1)


async def test_a_replica_of_an_unknown_authority_is_not_believed(parties: Parties) -> None:
    parties.server.replace(parties.other_authority().sign("server", "IP:127.0.0.1"))
    fleet = parties.fleet()
    async with started(parties.plane, fleet):
        await refused(fleet, "CERTIFICATE_VERIFY_FAILED")


async def test_an_agent_of_an_unknown_authority_is_not_served(parties: Parties) -> None:
    forged = parties.other_authority().sign("node", f"URI:spiffe://deltaplane.dev/node/{NODE}")
    fleet = parties.fleet(pair=forged)
    async with started(parties.plane, fleet):
        await refused(fleet, "UNAVAILABLE")


NODE_URI = "spiffe://deltaplane.dev/node/"


@pytest.mark.parametrize(
    ("names", "status"),
    [
        ((f"URI:{NODE_URI}node-2",), "PERMISSION_DENIED"),
        ((f"URI:{NODE_URI}{NODE}", f"URI:{NODE_URI}node-2"), "UNAUTHENTICATED"),
        ((f"DNS:{NODE_URI}{NODE}",), "UNAUTHENTICATED"),
        ((f"URI:spiffe://deltaplane.dev.example/node/{NODE}",), "UNAUTHENTICATED"),
        ((f"DNS:{NODE}",), "UNAUTHENTICATED"),
        ((), "UNAUTHENTICATED"),
    ],
)
async def test_a_certificate_speaks_for_the_node_that_its_uri_names_and_no_other(
    parties: Parties, names: tuple[str, ...], status: str
) -> None:
    fleet, good = parties.fleet(pair=parties.authority.sign("some", *names)), parties.fleet()
    async with started(parties.plane, good):
        await good.until(lambda state: state.services == 1)
        async with started(fleet):
            await refused(fleet, status)
        (told,) = (line for line in parties.plane.lines if " refused " in line)
        assert f"status={status}" in told
        assert all(state.connected and state.connects == 1 for state in good.states)


async def test_an_agent_whose_files_cannot_be_used_says_which_and_goes_on(parties: Parties) -> None:
    key = parties.node.key.read_bytes()
    parties.node.key.write_bytes(b"")
    fleet = parties.fleet()
    async with started(parties.plane, fleet):
        await refused(fleet, f"--tls-private-key-file={parties.node.key}")
        parties.node.key.write_bytes(key)
        await fleet.until(lambda state: state.services == 1)


def another_nodes(parties: Parties) -> Callable[[], None]:
    """The agent shows the certificate of another node; what mends it."""
    right = parties.authority.sign("right", f"URI:{NODE_URI}{NODE}")
    parties.node.replace(parties.authority.sign("wrong", f"URI:{NODE_URI}node-2"))
    return lambda: parties.node.replace(right)


def another_authoritys(parties: Parties) -> Callable[[], None]:
    """The agent believes another authority; what mends it."""
    parties.known = parties.folder / "known.pem"
    parties.known.write_bytes(parties.other_authority().certificate.read_bytes())
    return lambda: write(parties.known, parties.bundle.read_bytes())


def half_written(parties: Parties) -> Callable[[], None]:
    """There is no key in the key's file; what mends it."""
    right = parties.node.key.read_bytes()
    parties.node.key.write_bytes(b"")
    return lambda: write(parties.node.key, right)


def write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "said", "flag"),
    [
        (another_nodes, "PERMISSION_DENIED", "tls-cert-file,tls-private-key-file"),
        (another_authoritys, "CERTIFICATE_VERIFY_FAILED", "server-ca-file"),
        (half_written, "there is no private key", "tls-private-key-file"),
    ],
)
async def test_an_agent_whose_file_is_mended_tries_again_at_once(
    parties: Parties, spoil: Callable[[Parties], Callable[[], None]], said: str, flag: str
) -> None:
    """It would wait for hours."""
    mend = spoil(parties)
    fleet = parties.fleet("--patient")
    (program,) = fleet.programs
    async with started(parties.plane, fleet):
        await refused(fleet, said)
        mend()
        await fleet.until(lambda state: state.services == 1)
        (told,) = (line for line in program.lines if "own files changed" in line)
        assert flag in told


async def test_a_replica_of_another_cluster_is_refused_told_and_counted_whoever_signed_its_certificate(
    parties: Parties,
) -> None:
    identity = parties.manifests.folder / "cluster-id"
    identity.write_text("one\n")
    fleet = parties.fleet()
    (program,) = fleet.programs
    async with started(parties.plane, fleet):
        await fleet.until(lambda state: state.services == 1)
        await parties.plane.stop()
        identity.write_text("two\n")
        parties.manifests.add()
        await parties.plane.start()

        await fleet.until(lambda state: bool(state.lost))
        assert "serves cluster two, and this node has the state of cluster one" in fleet.states[0].lost[0]
        assert fleet.states[0].services == 1
        assert any("ANOTHER_CLUSTER" in line for line in program.lines)


async def test_a_control_plane_whose_files_cannot_be_used_ends_with_one_line(parties: Parties) -> None:
    parties.server.key.write_bytes(b"")
    plane = parties.command()
    async with started(plane), asyncio.timeout(60), plane.news:
        await plane.news.wait_for(lambda: not plane.running)
    assert "no private key" in plane.lines[-1]


async def test_a_unix_socket_needs_no_certificates(parties: Parties) -> None:
    plane = ControlPlane(parties.manifests.folder, f"--listen=unix://{parties.folder}/socket")
    fleet = Fleet([f"unix://{parties.folder}/socket"], [NODE], flags=())
    async with started(plane, fleet):
        await fleet.until(lambda state: state.services == 1)
        assert (parties.folder / "socket").stat().st_mode & 0o777 == 0o600
