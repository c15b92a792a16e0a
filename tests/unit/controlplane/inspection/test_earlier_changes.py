"""What changed before: from a revision or a time on, and of what is no longer kept each object's last change."""

from __future__ import annotations

from math import inf

from controlplane.facts import Fact
from deltaplane.v1 import inspection_pb2 as inspection
from tests.sessions import objects
from tests.unit.controlplane.inspection.replica import Asked


async def told(asked: Asked, number: int, **fields: object) -> list[inspection.TailChangesResponse]:
    calls = asked.inspection.TailChanges(inspection.TailChangesRequest(**fields), asked.context)  # type: ignore[arg-type]
    found = [await anext(calls) for _ in range(number)]
    await calls.aclose()  # type: ignore[attr-defined]
    return found


def changed() -> Asked:
    """Revision 2 changes the Service's slice, 3 takes it away, 4 is another Service."""
    asked = Asked()
    piece = objects.slice_of(1, {2: 3})
    asked.cluster.update([Fact(piece.key, piece)])
    asked.cluster.update([Fact(piece.key, None)])
    asked.cluster.update([Fact(objects.service_key(2), objects.service(2))])
    return asked


async def test_of_what_is_no_longer_kept_the_last_change_of_each_object_is_told() -> None:
    asked = changed()
    asked.cluster.log.expire(inf)

    lost, gone, last = await told(asked, 3, after_rev=1)

    assert (lost.lost_revs, lost.rev) == (3, 4)
    assert (gone.rev, gone.key.name, gone.change) == (3, "svc-1-abc", inspection.CHANGE_KIND_REMOVED)
    assert (last.rev, last.key.name, last.change) == (4, "svc-2", inspection.CHANGE_KIND_MODIFIED)


async def test_a_time_stands_for_the_revision_that_was_the_newest_then() -> None:
    asked = changed()
    sent = {batch.rev: batch.emitted_unix_nano for batch in asked.cluster.log.between(1, 4)}

    found = await told(asked, 3, after_unix_nano=sent[2] - 1)
    assert [each.rev for each in found] == [2, 3, 4]
    (last,) = await told(asked, 1, after_unix_nano=sent[3])
    assert last.rev == 4


async def test_a_services_changes_are_those_of_its_slices_too_also_when_they_go() -> None:
    found = await told(changed(), 2, namespace="ns", name="svc-1", after_rev=1)

    assert [(each.rev, each.change) for each in found] == [
        (2, inspection.CHANGE_KIND_MODIFIED), (3, inspection.CHANGE_KIND_REMOVED),
    ]  # fmt: skip


async def test_a_service_says_at_which_revision_its_endpoints_changed() -> None:
    asked = Asked()
    piece = objects.slice_of(1, {2: 3})
    asked.cluster.update([Fact(piece.key, piece)])

    page = await asked.inspection.ListObjects(inspection.ListObjectsRequest(kind=1), asked.context)  # type: ignore[arg-type]

    assert [(each.changed_rev, each.endpoints_changed_rev) for each in page.objects] == [(0, 2)]
