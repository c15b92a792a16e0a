"""What the page begins with: kept while nobody looks, bounded, and counted once together with what comes later."""

from __future__ import annotations

import time

from controlplane.page.history import FAILED, LOOKS, ROUNDS, History
from controlplane.page.live import Live
from controlplane.page.waterfall import Waterfall
from controlplane.progress import Progress, to_message
from controlplane.trace import NodeCommit, NoTracing
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import inspection_pb2, objects_pb2
from tests.browser.fleet import Fleet
from tests.sessions import objects
from tests.unit.controlplane.page.test_live import Cluster, told

EVENT = 10**18


def causes(name: str, event: int = EVENT) -> tuple[pb.Cause, ...]:
    key = objects_pb2.ObjectKey(kind=objects_pb2.KIND_SERVICE, namespace="shop", name=name)
    return (pb.Cause(object=key, event_unix_nano=event),)


def commit(of: tuple[pb.Cause, ...], node: str, took: float = 0.01, *, failed: bool = False) -> NodeCommit:
    acked = EVENT + int(took * 1e9)
    report = pb.CommitReport(to_rev=2)
    return NodeCommit(
        node=node, nodes=9, causes=of, report=report, emitted_ns=EVENT, sent_ns=EVENT, acked_ns=acked, failed=failed
    )  # fmt: skip


def shown(history: History) -> list[dict[str, object]]:
    waterfall = Waterfall()
    history.fill(waterfall)
    return waterfall.all()


def test_a_change_is_kept_with_its_slowest_node_and_how_many_have_it() -> None:
    history, web = History(list), causes("web")
    for number in range(3):
        history.commit(commit(web, f"n{number}", 0.01 * (number + 1)))
    history.commit(commit(causes("other", EVENT + 1), "n0", 0.5, failed=True))

    first, second = shown(history)
    assert (first["object"], first["nodes"], first["slowest"], first["ms"]) == ("Service shop/web", 3, "n2", 30.0)
    assert (second["nodes"], second["failed"]) == (1, ["n0"])


def test_nodes_that_come_later_are_added_to_those_that_were_there() -> None:
    history, waterfall, web = History(list), Waterfall(), causes("web")
    for name in ("a", "b"):
        history.commit(commit(web, name))
    history.fill(waterfall)
    waterfall.take(to_message(commit(web, "c", 0.9)))

    (found,) = waterfall.all()
    assert (found["nodes"], found["slowest"]) == (3, "c")


def test_what_is_kept_is_bounded_and_a_first_state_is_no_change() -> None:
    history = History(list)
    history.commit(commit((), "a"))
    assert shown(history) == []
    many = [causes(f"s{number}", EVENT + number) for number in range(2 * ROUNDS)]
    for one in many:
        history.commit(commit(one, "a"))
    for number in range(2 * FAILED):
        history.commit(commit(many[-1], f"n{number}", failed=True))
    for number in range(2 * LOOKS):
        history.look(0.0, float(number))

    assert shown(history)[-1]["object"] == f"Service shop/s{2 * ROUNDS - 1}"
    assert (len(history._rounds), len(history._rounds[-1].failed)) == (ROUNDS, FAILED)
    assert [look.at for look in history.looks()] == [1000 * number for number in range(LOOKS, 2 * LOOKS)]


def test_the_lag_is_of_this_replicas_nodes() -> None:
    fleet = Fleet(3)
    fleet.sessions[2].close("UNAVAILABLE", "the stream broke")
    fleet.change(objects.service(1, 5))
    fleet.follow(fleet.sessions[0])
    fleet.history.look(time.monotonic() + 40.0, 7.0)

    (look,) = fleet.history.looks()
    assert (look.own, look.at, sum(look.bands)) == (True, 7000, 3)
    assert (look.bands[0], look.bands[6], look.bands[-1]) == (1, 1, 1)


def test_commits_are_asked_of_agents_as_soon_as_somebody_hears_them() -> None:
    progress, history = Progress(NoTracing()), History(list)
    assert not progress.listens
    progress.hear(history.commit)
    assert progress.listens


async def test_who_comes_first_finds_what_happened_before_and_who_comes_later_the_same() -> None:
    history = History(list)
    history.commit(commit(causes("web"), "a"))
    history.look(0.0, 7.0)
    cluster = Cluster()
    live = Live(cluster._nodes, cluster._tail, history)
    viewer = live.view()

    kind, data = await told(viewer)
    assert (kind, data["changes"][0]["object"], data["looks"][0]["at"]) == ("whole", "Service shop/web", 7000)
    cluster.looks.put_nowait(inspection_pb2.ListNodesResponse(head_rev=9))
    assert (await told(viewer))[1]["look"]["own"] is False
    late = live.view()
    assert len((await told(late))[1]["looks"]) == 2
    await viewer.aclose()
    await late.aclose()

    again = live.view()  # nobody looked meanwhile: nothing is there twice
    data = (await told(again))[1]
    assert (len(data["looks"]), data["changes"][0]["nodes"]) == (1, 1)
    await again.aclose()
