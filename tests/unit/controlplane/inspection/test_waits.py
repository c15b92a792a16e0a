"""WaitApplied: it never says "everywhere" too early, and names who lacks it and why."""

from __future__ import annotations

import grpc
import pytest

from controlplane.facts import Fact
from deltaplane.model import ObjectKey
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import inspection_pb2 as inspection
from deltaplane.views import key_message
from tests.sessions import objects
from tests.unit.controlplane.inspection.calls import READY, SERVICE, applied, change, reasons, wait
from tests.unit.controlplane.inspection.replica import Aborted, Asked, ack, failures


@pytest.fixture
def asked() -> Asked:
    return Asked()


async def test_it_answers_once_the_last_node_has_it_and_not_before(asked: Asked) -> None:
    one, two = asked.node("a"), asked.node("b")
    change(asked)
    call = wait(asked, object=SERVICE)
    applied(asked, one)
    await call.looked()
    assert not call.task.done()

    applied(asked, two)
    answer = await call.end()

    assert (answer.done, answer.applied, answer.chosen_nodes, answer.nodes_applied) == (True, True, 2, 2)
    assert list(answer.newly_applied) == ["a", "b"]
    assert answer.rev == asked.cluster.log.head


async def test_a_node_that_joins_meanwhile_is_waited_for(asked: Asked) -> None:
    one = asked.node("a")
    change(asked)
    call = wait(asked, object=SERVICE)
    await call.looked()
    joined = asked.node("b")
    applied(asked, one)
    await call.looked()
    assert not call.task.done()

    applied(asked, joined)
    assert (await call.end()).chosen_nodes == 2


async def test_a_node_of_the_cluster_without_an_agent_is_waited_for_and_named(asked: Asked) -> None:
    asked.cluster.update([Fact(ObjectKey(3, "", "b"), objects.named_node("b"))])  # type: ignore[arg-type]
    applied(asked, asked.node("a"))

    answer = await wait(asked, 0.2, object=SERVICE).end()
    assert (answer.applied, reasons(answer)) == (False, {"b": "NO_AGENT"})

    nodes = inspection.NodeSelection(ignore_without_agent=True)
    assert (await wait(asked, object=SERVICE, nodes=nodes).end()).applied


async def test_what_the_replica_has_not_seen_itself_is_waited_for(asked: Asked) -> None:
    session = asked.node("a")
    change(asked, version=1, resource_version="70")
    applied(asked, session)
    newer = inspection.ObjectVersion(key=SERVICE.key, resource_version="80")
    call = wait(asked, object=newer)
    await call.looked()
    assert not call.task.done()

    change(asked, version=2, resource_version="80")
    await call.looked()
    assert not call.task.done()
    applied(asked, session)
    assert (await call.end()).applied


async def test_an_object_that_was_not_seen_in_time_is_named_with_what_the_replica_has(asked: Asked) -> None:
    session = asked.node("a")
    change(asked, resource_version="70")
    applied(asked, session)
    newer = inspection.ObjectVersion(key=SERVICE.key, resource_version="80")
    answer = await wait(asked, 0.2, object=newer).end()
    assert reasons(answer) == {"a": "REPLICA_BEHIND"}
    assert "Service ns/svc-1 at version 80 has not been seen: this replica has version 70" in answer.lacking[0].text


async def test_a_version_that_changed_nothing_for_a_proxy_counts_as_seen(asked: Asked) -> None:
    session = asked.node("a")
    change(asked, resource_version="70")
    applied(asked, session)
    change(asked, resource_version="80")  # equal
    newer = inspection.ObjectVersion(key=SERVICE.key, resource_version="80")
    assert (await wait(asked, object=newer).end()).applied


async def test_each_node_that_lacks_it_is_named_with_its_reason(asked: Asked) -> None:
    behind, gone, braked, failing, syncing = (asked.node(name) for name in ("behind", "gone", "brk", "fails", "new"))
    for session in (behind, gone, braked, failing):
        applied(asked, session)
    rev = change(asked)
    gone.close("CANCELLED", "the agent left: told to")
    asked.nodes.departed(gone, 1.0)
    ack(braked, brake=pb.Brake(services_removed=35, services=40, since_unix_nano=9))
    failure = pb.ObjectFailure(key=SERVICE.key, code=pb.ERROR_CODE_KERNEL_REJECTED, text="no room")
    applied(asked, failing, failed=[failure])

    answer = await wait(asked, 0.2, object=SERVICE).end()

    assert not answer.applied
    # A session that was closed and has no Node object is no node of the cluster any more.
    assert reasons(answer) == {"behind": "BEHIND", "brk": "BRAKE", "fails": "FAILED", "new": "SYNCING"}
    texts = {one.node_name: one.text for one in answer.lacking}
    assert texts["behind"].startswith(f"has revision {rev - 1} of {rev}")
    assert texts["fails"] == "KERNEL_REJECTED: no room"
    assert "removes 35 of 40 Services" in texts["brk"]
    assert syncing.node_name == "new"


async def test_a_node_that_is_disconnected_is_named_since_when_and_why(asked: Asked) -> None:
    session = asked.node("a")
    applied(asked, session)
    asked.cluster.update([Fact(ObjectKey(3, "", "a"), objects.named_node("a"))])  # type: ignore[arg-type]
    session.close("CANCELLED", "the agent left: told to")
    asked.nodes.departed(session, 1.0)
    change(asked)

    answer = await wait(asked, 0.2, object=SERVICE).end()

    assert reasons(answer) == {"a": "DISCONNECTED"}
    assert answer.lacking[0].text.endswith("the agent left: told to")
    assert answer.lacking[0].disconnected_unix_nano > 0


@pytest.mark.parametrize("names", [[], ["a", "b"]], ids=["of all nodes", "of named ones"])
async def test_a_node_that_had_it_when_it_left_still_has_it_and_is_named(asked: Asked, names: list[str]) -> None:
    session, other = asked.node("a"), asked.node("b")
    asked.cluster.update([Fact(ObjectKey(3, "", "a"), objects.named_node("a"))])  # type: ignore[arg-type]
    applied(asked, session)
    applied(asked, other)
    session.close("CANCELLED", "gone")
    asked.nodes.departed(session, 1.0)

    answer = await wait(asked, object=SERVICE, nodes=inspection.NodeSelection(names=names)).end()

    assert (answer.applied, list(answer.without_stream)) == (True, ["a"])


async def test_another_objects_failure_does_not_count_but_for_a_whole_revision(asked: Asked) -> None:
    applied(asked, asked.node("a"), failed=failures(1))
    assert (await wait(asked, object=SERVICE).end()).applied
    answer = await wait(asked, 0.2, revision=inspection.RevisionOf()).end()
    assert reasons(answer) == {"a": "FAILED"}


async def test_failures_that_an_ack_has_no_room_for_may_be_the_objects(asked: Asked) -> None:
    applied(asked, asked.node("a"), failed=failures(1), more_failed=3)
    assert reasons(await wait(asked, 0.2, object=SERVICE).end()) == {"a": "FAILED"}


async def test_a_quorum_is_rounded_up(asked: Asked) -> None:
    sessions = [asked.node(name) for name in ("a", "b", "c")]
    change(asked)
    call = wait(asked, object=SERVICE, quorum_percent=50)
    applied(asked, sessions[0])
    await call.looked()
    assert not call.task.done()
    applied(asked, sessions[1])
    answer = await call.end()
    assert (answer.applied, reasons(answer)) == (True, {"c": "SYNCING"})


async def test_only_chosen_nodes_count_and_a_name_that_is_no_nodes_is_waited_for(asked: Asked) -> None:
    applied(asked, asked.node("a"))
    asked.node("b")
    assert (await wait(asked, object=SERVICE, nodes=inspection.NodeSelection(names=["a"])).end()).applied
    assert (await wait(asked, object=SERVICE, nodes=inspection.NodeSelection(except_names=["b"])).end()).applied
    answer = await wait(asked, 0.2, object=SERVICE, nodes=inspection.NodeSelection(names=["a", "typo"])).end()
    assert reasons(answer) == {"typo": "NO_AGENT"}
    assert "no such Node" in answer.lacking[0].text


async def test_of_no_node_nothing_is_said(asked: Asked) -> None:
    answer = await wait(asked, 0.2, object=SERVICE).end()
    assert (answer.applied, answer.chosen_nodes, answer.text) == (False, 0, "no node is chosen")
    applied(asked, asked.node("a"))
    answer = await wait(asked, 0.2, object=SERVICE, nodes=inspection.NodeSelection(zones=["typo"])).end()
    assert (answer.applied, answer.text) == (False, "no node is chosen")


async def test_a_new_history_is_waited_for_from_its_first_revision(asked: Asked) -> None:
    session = asked.node("a")
    change(asked)
    applied(asked, session)
    call = wait(asked, revision=inspection.RevisionOf(rev=asked.cluster.log.head + 1))
    await call.looked()
    asked.cluster._renew("for the test")
    await call.looked()
    assert not call.task.done()  # what the node has is of another epoch

    applied(asked, asked.node("a"))
    assert (await call.end()).rev == 1


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "one of object, revision and removed_address is needed"),
        ({"removed_address": "pod-7"}, "removed_address: 'pod-7' is not an IP address"),
        ({"object": inspection.ObjectVersion()}, "key.kind: 0 is none of KIND_SERVICE"),
        ({"object": SERVICE, "quorum_percent": 101}, "quorum_percent: 101 is not 0 to 100"),
        ({"object": SERVICE, "seconds": 601}, "timeout_seconds: 601 is not 0 to 600"),
        ({"revision": inspection.RevisionOf(rev=3, epoch="00")}, "revision.epoch: this replica counts in epoch"),
    ],
)
async def test_a_question_that_is_none_is_refused_and_says_which_field(
    asked: Asked, fields: dict[str, object], text: str
) -> None:
    with pytest.raises(Aborted, match=text.split(":", maxsplit=1)[0]) as error:
        await wait(asked, **fields).end()  # type: ignore[arg-type]
    assert text in str(error.value)


async def test_an_object_that_is_not_there_is_an_error_that_names_what_is_near(asked: Asked) -> None:
    key = key_message(ObjectKey(objects.service_key(1).kind, "ns", "svc-2"))
    with pytest.raises(Aborted, match=r"there is no Service ns/svc-2.*near: Service ns/svc-1"):
        await wait(asked, object=inspection.ObjectVersion(key=key)).end()


async def test_absence_is_waited_for_as_well(asked: Asked) -> None:
    session = asked.node("a")
    applied(asked, session)
    asked.cluster.update([Fact(objects.service_key(1), None, "9", deleted=True)])
    call = wait(asked, object=SERVICE)
    await call.looked()
    assert not call.task.done()
    applied(asked, session)
    assert (await call.end()).applied


@pytest.mark.parametrize("resource_version", ["", "7"])
async def test_a_slice_that_a_service_has_lost_before_is_waited_for(asked: Asked, resource_version: str) -> None:
    change(asked, resource_version="7")
    session = asked.node("a")
    applied(asked, session)
    gone = objects.slice_of(1, {1: READY})
    asked.cluster.update([Fact(gone.key, None)])
    version = inspection.ObjectVersion(key=SERVICE.key, resource_version=resource_version)
    call = wait(asked, object=version)
    await call.looked()
    assert not call.task.done()
    applied(asked, session)
    assert (await call.end()).applied


async def test_a_service_of_a_version_is_waited_for_with_its_slices(asked: Asked) -> None:
    """`kubectl apply` of a Service that has not changed, and of a slice that has."""
    change(asked, resource_version="7")
    session = asked.node("a")
    applied(asked, session)
    piece = objects.slice_of(1, {1: READY, 2: READY})
    asked.cluster.update([Fact(piece.key, piece, "8")])
    call = wait(asked, object=inspection.ObjectVersion(key=SERVICE.key, resource_version="7"))
    await call.looked()
    assert not call.task.done()
    applied(asked, session)
    assert (await call.end()).applied


async def test_an_agent_that_works_is_told_from_one_of_which_nothing_is_heard(asked: Asked) -> None:
    quiet, works, refused = (asked.node(name) for name in ("quiet", "works", "refused"))
    for session in (quiet, works, refused):
        applied(asked, session)
    rev = change(asked)
    for session in (quiet, works, refused):
        while session.next_message(0.0) is not None:
            pass
    pending = {works: pb.Pending(received_rev=rev), refused: pb.Pending(received_rev=rev, text="the lock is held")}
    for session, said in pending.items():
        session.on_message(pb.WatchRequest(pending=said), 0.0)
        session.acked_at = 0.0

    answer = await wait(asked, 0.8, object=SERVICE).end()

    assert set(reasons(answer).values()) == {"BEHIND"}
    found = {one.node_name: (one.pending_rev, one.text) for one in answer.lacking}
    assert (found["quiet"][0], found["works"][0], found["refused"][0]) == (0, rev, rev)
    assert "stopped, cut off or very busy" in found["quiet"][1]
    assert f"its commit of {rev} takes long" in found["works"][1]
    assert "its kernel has taken no commit for" in found["refused"][1]
    assert ": the lock is held" in found["refused"][1]


async def test_what_came_just_before_the_time_out_counts(asked: Asked) -> None:
    session = asked.node("a")
    applied(asked, session)
    change(asked)
    call = wait(asked, 0.3, object=SERVICE)
    await call.looked()
    asked.waits.moved = lambda: None  # type: ignore[method-assign]  # no look before the time-out
    applied(asked, session)

    assert (await call.end()).applied


async def test_who_waits_at_a_replica_that_stops_hears_so(asked: Asked) -> None:
    asked.node("a")
    change(asked)
    call = wait(asked, 10.0, object=SERVICE)
    await call.looked()
    asked.waits.stop()
    with pytest.raises(Aborted, match=r"this replica stops, .*: ask another one"):
        await call.end()
    assert asked.context.status is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(Aborted, match="this replica stops"):
        await wait(asked, object=SERVICE).end()


async def test_a_revision_of_a_history_that_is_gone_is_an_error_that_says_what_to_ask_for(asked: Asked) -> None:
    with pytest.raises(Aborted, match=r"not in 00, and no replica that answers does: .*ask without epoch and rev"):
        await wait(asked, revision=inspection.RevisionOf(rev=3, epoch="00")).end()
    assert asked.context.status is grpc.StatusCode.NOT_FOUND
