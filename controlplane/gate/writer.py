"""Writes Pods' gates, and Events about them. One replica does (`runner`); its successor bears each write."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp

from controlplane.gate.figures import GateFigures
from controlplane.gate.pods import GATE, GatedPod
from controlplane.gate.rounds import Verdict
from controlplane.source.api import Api
from controlplane.source.events import COMPONENT
from controlplane.source.resource import ApiError, Resource
from deltaplane.logs import event
from deltaplane.once import Once

log = logging.getLogger(__name__)

LIMIT = aiohttp.ClientTimeout(total=10)
GONE = {404, 409, 422}  # the Pod is gone, or another one has its name


class Writer:
    """Implements `setter.Writes`. `may`: whether this replica is the one that writes, asked before each write."""

    def __init__(self, api: Api, figures: GateFigures, *, may: Callable[[], bool] = lambda: True) -> None:
        self._api, self._figures, self._may = api, figures, may
        self._said, self._told = Once[str](), Once[str](4096)

    async def set(self, pod: GatedPod, verdict: Verdict) -> bool:
        """Sets the gate; whether that is done, or there is nothing to do any more. A failure is told once."""
        if not self._may():
            return False
        at = Resource("", "v1", "pods", namespace=pod.namespace, name=f"{pod.name}/status")
        try:
            await self._api.patch(at, condition(pod, verdict, _now()), LIMIT)
        except ApiError as error:
            self._figures.failures += error.status not in GONE
            if error.status not in GONE and self._said.note("write", str(error)):
                event(log, logging.WARNING, "cannot set a Pod's gate; retrying", pod="/".join(pod.key), reason=error)
            return error.status in GONE
        self._said.clear("write")
        self._figures.set_[verdict.reason] += 1
        event(log, logging.INFO, "gate set", pod="/".join(pod.key), reason=verdict.reason, text=verdict.text)
        return True

    async def tell(self, pod: GatedPod, verdict: Verdict) -> None:
        """An Event on the Pod, once for each Pod and reason. Never fatal."""
        if not self._may() or not self._told.note(f"{pod.uid} {verdict.reason}", verdict.reason):
            return
        event(log, logging.WARNING, "gate", pod="/".join(pod.key), reason=verdict.reason, text=verdict.text)
        try:
            await self._api.create(Resource("", "v1", "events", namespace=pod.namespace), about(pod, verdict), LIMIT)
        except ApiError as error:
            if error.status != 409:
                event(log, logging.WARNING, "cannot write an Event", pod="/".join(pod.key), reason=error)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(pod: GatedPod, verdict: Verdict, now: str) -> dict[str, Any]:
    """A strategic merge patch of the Pod's status. With the UID: a new Pod of the name is not meant."""
    one = {
        "type": GATE, "status": "True", "reason": verdict.reason, "message": verdict.text[:1024],
        "lastProbeTime": None, "lastTransitionTime": now,
    }  # fmt: skip
    return {"metadata": {"uid": pod.uid}, "status": {"conditions": [one]}}


def about(pod: GatedPod, verdict: Verdict) -> dict[str, Any]:
    """The Event (core v1); its name depends on Pod and reason, so that replicas create one."""
    digest = hashlib.sha256(f"{pod.uid} {verdict.reason}".encode()).hexdigest()[:16]
    where = {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid}
    now = _now()
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{pod.name[:230]}.{digest}", "namespace": pod.namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", **where},
        "type": "Warning",
        "reason": verdict.reason,
        "message": f"{GATE}: {verdict.text}"[:1024],
        "source": {"component": COMPONENT},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
