"""Fault cases 6, 7, 8, 9 and 24: what comes from the other end of a stream, or does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import grpc
import pytest

from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import inspection_pb2 as inspection
from tests.faults.clients import Client, client, kind, relay
from tests.faults.world import World, address, until


def resume(world: World, **fields: object) -> pb.Resume:
    status = world.replicas[0].status()
    known = {"epoch": bytes.fromhex(status.epoch), "applied_rev": status.head_rev, "state_digest": status.digest}
    return pb.Resume(**{**known, **fields})  # type: ignore[arg-type]


def read_nothing(client: Client) -> None:
    pass


def read_the_snapshot(client: Client) -> None:
    client.until("snapshot_end")


@pytest.mark.parametrize("read", [read_nothing, read_the_snapshot])
def test_fault_06_a_reader_that_stops(pair: World, read: Callable[[Client], None]) -> None:
    with client(pair.replicas[0].address, "stuck") as stuck:
        read(stuck)
        for number in range(30):
            pair.put(1, [address(100 + number), address(5)])
        pair.removed(1, address(5))
        pair.holds()

        assert pair.replicas[0].nodes()["stuck"].applied_rev == 0


def test_fault_07_an_agent_acknowledges_what_it_has_not_applied(pair: World) -> None:
    first = pair.replicas[0]
    with client(first.address, "liar") as liar:
        liar.until("snapshot_end")
        liar.acknowledge(first.status().head_rev)
        pair.removed(1, pair.truth[1][0])
        pair.holds()
        liar.acknowledge(first.status().head_rev + 1000)
        with pytest.raises(grpc.RpcError) as ended:
            liar.until("never")

        assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    pair.holds()


def test_fault_07_an_agent_applies_and_acknowledges_nothing(pair: World) -> None:
    first = pair.replicas[0]
    with client(first.address, "mute") as mute:
        mute.until("snapshot_end")
        pair.removed(1, pair.truth[1][0])
        pair.holds()

        assert first.nodes()["mute"].applied_rev == 0
        assert first.nodes()["mute"].state != inspection.NODE_STATE_LIVE


@pytest.mark.slow
def test_fault_07_a_real_agents_acks_are_lost_and_its_kernel_follows_as_far_as_the_window(empty: World) -> None:
    replica, quiet = empty.replica(), [True]

    def said(data: bytes) -> Sequence[bytes]:
        return [] if quiet[0] and pb.WatchRequest.FromString(data).HasField("ack") else [data]

    with relay(empty.folder, replica.address, said=said) as between:
        mute = empty.agent(servers=[between.address])
        empty.agent()
        wanted = empty.wanted()
        until(lambda: empty.has(mute, wanted), "the first state")
        for number in range(100):  # more than the window of one stream
            empty.put(1, [address(100 + number), address(5)])
            until(lambda: empty.has(empty.agents[1], empty.wanted()), empty.state)
        assert replica.nodes()["n0"].applied_rev == 0
        assert replica.nodes()["n0"].state != inspection.NODE_STATE_LIVE
        quiet[0] = False
        empty.put(2, [address(77)])

        empty.holds()


@pytest.mark.slow
def test_fault_07_an_ack_is_forged_for_a_delta_that_its_agent_never_got(empty: World) -> None:
    replica = empty.replica()
    lost: list[int] = []

    def alter(data: bytes) -> Sequence[bytes]:
        if lost or kind(data) != "delta":
            return [data]
        lost.append(pb.WatchResponse.FromString(data).delta.to_rev)
        return []

    def said(data: bytes) -> Sequence[bytes]:
        request = pb.WatchRequest.FromString(data)
        if lost and request.HasField("ack"):
            request.ack.received_rev = request.ack.applied_rev = max(lost[0], request.ack.applied_rev)
        return [request.SerializeToString()]

    with relay(empty.folder, replica.address, alter, said) as between:
        liar = empty.agent(servers=[between.address])
        empty.agent()
        until(empty.settled, "the first state")
        empty.put(1, [address(99)])
        until(lambda: bool(lost), "a delta that is lost")

        until(lambda: empty.has(liar, empty.wanted()), empty.state)  # heartbeats say that something lacks
        empty.removed(1, address(99))
        empty.holds()


def altered(data: bytes, change: Callable[[pb.WatchResponse], None]) -> list[bytes]:
    message = pb.WatchResponse.FromString(data)
    change(message)
    return [message.SerializeToString()]


class Once:
    """Does it to the first message of this kind, and to no other."""

    def __init__(self, on: str, act: Callable[[bytes], Sequence[bytes]]) -> None:
        self._on, self._act = on, act
        self.done = False

    def __call__(self, data: bytes) -> Sequence[bytes]:
        if self.done or kind(data) != self._on:
            return [data]
        self.done = True
        return self._act(data)


def wrong_crc(message: pb.WatchResponse) -> None:
    """Also of a chunk that is small enough to go as it is, and has none."""
    message.snapshot_chunk.crc32 ^= 1


def cut(message: pb.WatchResponse) -> None:
    chunk = message.snapshot_chunk
    if chunk.packed:
        chunk.packed = chunk.packed[:-1]
    else:
        del chunk.ops[-1]


def moved(message: pb.WatchResponse) -> None:
    message.snapshot_chunk.index += 1


FAULTS = {
    "gap": ("delta", lambda data: []),
    "duplicate delta": ("delta", lambda data: [data, data]),
    "truncated message": ("delta", lambda data: [data[:-3]]),
    "lost chunk": ("snapshot_chunk", lambda data: []),
    "reordered chunk": ("snapshot_chunk", lambda data: altered(data, moved)),
    "truncated chunk": ("snapshot_chunk", lambda data: altered(data, cut)),
    "wrong crc": ("snapshot_chunk", lambda data: altered(data, wrong_crc)),
}


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=pytest.mark.slow) if fault == "gap" else fault for fault in FAULTS]
)
def test_fault_08_a_message_is_lost_repeated_moved_cut_or_altered(empty: World, fault: str) -> None:
    replica, once = empty.replica(), Once(*FAULTS[fault])
    with relay(empty.folder, replica.address, once) as between:
        empty.agent(servers=[between.address])
        until(empty.settled, "the first state")
        for number in range(3):
            empty.put(1, [address(100 + number), address(5)])
            empty.holds()

        assert once.done
        empty.removed(1, address(5))
        empty.holds()


@pytest.mark.parametrize(
    "fields, decision",
    [
        ({"epoch": b"x" * 16, "state_digest": 1}, pb.RESUME_DECISION_SNAPSHOT),
        ({"epoch": b"x" * 16}, pb.RESUME_DECISION_DELTA),  # an equal digest, be it by collision: states count as equal
        ({"applied_rev": 1 << 40, "state_digest": 1}, pb.RESUME_DECISION_SNAPSHOT),
        ({"state_digest": 1}, pb.RESUME_DECISION_SNAPSHOT),
    ],
    ids=["unknown epoch", "equal digest of another epoch", "future revision", "stale digest"],
)
def test_fault_09_an_agent_resumes_with(pair: World, fields: dict[str, object], decision: int) -> None:
    with client(pair.replicas[0].address, "odd", resume=resume(pair, **fields)) as odd:
        assert odd.until("welcome").welcome.decision == decision
    pair.removed(1, pair.truth[1][0])
    pair.holds()


def test_fault_24_fifty_agents_connect_at_once(pair: World) -> None:
    first = pair.replicas[0]
    with ExitStack() as stack:
        storm = [stack.enter_context(client(first.address, f"storm-{number}")) for number in range(50)]
        digests = {one.until("snapshot_end").snapshot_end.digest for one in storm}

        assert digests == {first.status().digest}
        pair.removed(1, pair.truth[1][0])
        pair.holds()
