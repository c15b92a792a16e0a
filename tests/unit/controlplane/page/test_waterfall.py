"""The last changes with the stages of the slowest node; what is kept is bounded."""

from __future__ import annotations

from controlplane.page.waterfall import MOST, STAGES, Waterfall
from deltaplane.v1 import delta_pb2, objects_pb2
from deltaplane.v1 import inspection_pb2 as pb

MS = 10**6
BEGIN = 1_800_000_000 * 10**9


def cause(name: str = "web", event: int = BEGIN, trace: str = "") -> delta_pb2.Cause:
    key = objects_pb2.ObjectKey(kind=objects_pb2.KIND_SERVICE, namespace="shop", name=name)
    return delta_pb2.Cause(object=key, event_unix_nano=event, ingested_unix_nano=event + MS, traceparent=trace)


def commit(node: str, acked: int, *causes: delta_pb2.Cause, failed: bool = False) -> pb.TailCommitsResponse:
    """Its Ack came so many ms after the oldest event, and its commit 5 ms before that."""
    report = delta_pb2.CommitReport(queued_ns=2 * MS, resolve_ns=3 * MS, commit_ns=4 * MS)
    return pb.TailCommitsResponse(
        node_name=node, commit=report, causes=causes or [cause()], failed=failed,
        event_to_ack_ns=acked * MS, event_to_commit_ns=(acked - 5) * MS,
    )  # fmt: skip


def test_the_stages_are_the_slowest_nodes_and_follow_one_another() -> None:
    shown = Waterfall()
    shown.take(commit("a", 30))
    shown.take(commit("b", 50))
    shown.take(commit("c", 40))
    (change,) = shown.news()

    assert (change["object"], change["nodes"], change["slowest"], change["ms"]) == ("Service shop/web", 3, "b", 50.0)
    assert [name for name, _, _ in change["stages"]] == list(STAGES)
    assert [took for _, _, took in change["stages"]] == [1.0, 35.0, 2.0, 3.0, 4.0, 5.0]
    assert [start for _, start, _ in change["stages"]] == [0.0, 1.0, 36.0, 38.0, 41.0, 45.0]


def test_changes_that_came_in_one_commit_count_from_their_own_events() -> None:
    shown = Waterfall()
    shown.take(commit("a", 30, cause("old"), cause("young", BEGIN + 10 * MS)))
    old, young = shown.news()

    assert (old["ms"], young["ms"]) == (30.0, 20.0)
    assert young["stages"][-1][1] == 15.0


def test_only_what_moved_is_news_and_a_commit_without_an_event_is_none() -> None:
    shown = Waterfall()
    shown.take(commit("a", 30, cause("one")))
    shown.take(commit("a", 30, cause("two", BEGIN + 1)))
    assert len(shown.news()) == 2
    assert shown.news() == []
    shown.take(commit("b", 20, cause("one"), failed=True))
    shown.take(commit("b", 20, cause("none", 0)))

    assert [(each["object"], each["failed"]) for each in shown.news()] == [("Service shop/one", ["b"])]
    assert len(shown.all()) == 2


def test_the_newest_changes_are_kept_and_no_more() -> None:
    shown = Waterfall()
    for number in range(3 * MOST):
        shown.take(commit("a", 30, cause(f"svc-{number}", BEGIN + number)))

    assert [each["object"] for each in shown.all()] == [f"Service shop/svc-{n}" for n in range(2 * MOST, 3 * MOST)]
    assert len(shown.news()) == MOST


def test_a_trace_is_named_where_there_is_one() -> None:
    shown = Waterfall()
    shown.take(commit("a", 30, cause(trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")))

    assert shown.all()[0]["trace"] == "0af7651916cd43dd8448eb211c80319c"
