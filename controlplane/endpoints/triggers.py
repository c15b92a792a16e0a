"""When the change happened that a write answers: endpoints.kubernetes.io/last-change-trigger-time. Pure.

Follows k8s.io/endpointslice 0.36, util/trigger_time_tracker.go; but a change counts as answered only when the write has
succeeded, so that a write that is repeated carries its time too.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from msgspec import Struct

from controlplane.endpoints.values import Name, Pod, Service

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


class Seen(Struct, frozen=True):
    """Unix seconds of what a Service's last sync has seen, by Pod."""

    service: int
    pods: dict[str, int]


class Triggers:
    """What each Service's last sync has seen."""

    def __init__(self) -> None:
        self._seen: dict[Name, Seen] = {}

    def look(self, service: Service, pods: Iterable[Pod]) -> tuple[int, Seen]:
        """The Unix seconds of the first change since the last sync (0: unknown), and what to `note` after the write."""
        before = self._seen.get(service.key)
        after = Seen(service.created, {pod.name: pod.ready_since for pod in pods if pod.ready_since})
        if before is None:
            return service.created, after
        changed = [at for name, at in after.pods.items() if at > before.pods.get(name, 0)]
        changed += [after.service] if after.service > before.service else []
        return min(changed, default=0), after

    def note(self, key: Name, seen: Seen) -> None:
        """The sync has succeeded."""
        self._seen[key] = seen

    def forget(self, key: Name) -> None:
        """The Service is gone."""
        self._seen.pop(key, None)


def annotated(annotations: dict[str, str] | None, moment: int) -> dict[str, str]:
    """The annotations of a write that answers a change at this time; 0: the time is not known."""
    others = {key: value for key, value in (annotations or {}).items() if key != TRIGGER_TIME}
    if not moment:
        return others
    return {**others, TRIGGER_TIME: datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
