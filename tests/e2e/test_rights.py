"""Each right on deltaplane.dev by itself, by a real API server: it opens its own questions and no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controlplane.identity.flags import AUDIENCE
from tests.e2e.conftest import Cluster
from tests.e2e.test_identity import ASK, NAMESPACE, Place, started
from tools.lab.rest import Rest

GROUP = "rbac.authorization.k8s.io"
QUESTIONS = {  # method and body; the last ones would change something if they were allowed, and name nothing that is
    "GetStatus": "{}",
    "ListNodes": "{}",
    "Dump": "{}",
    "TailCommits": "{}",
    "TailChanges": "{}",
    "WaitApplied": '{"removed_address": "10.9.9.9", "timeout_seconds": 1}',
    "ForceResync": '{"node_name": "nowhere"}',
    "ReleaseBrake": '{"node_name": "nowhere"}',
}
OPENED = {
    ("get", "inspections"): {"GetStatus"},
    ("list", "inspections"): {"ListNodes", "Dump"},
    ("watch", "inspections"): {"TailCommits", "TailChanges"},
    ("create", "waits"): {"WaitApplied"},
    ("create", "resyncs"): {"ForceResync"},
    ("update", "brakes"): {"ReleaseBrake"},
    ("delete", "brakes"): set[str](),
}


@pytest.fixture
async def place(cluster: Cluster, objects: Rest, tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(cluster, tmp_path)
    async with started(made.plane):
        await made.plane.until(lambda: any(" serving " in line for line in made.plane.lines))
        yield made


def holder(place: Place, verb: str, resource: str) -> str:
    """A token of an account with this right and no other."""
    admin, name = place.cluster.api.admin, f"only-{verb}-{resource}"
    rule = {"apiGroups": ["deltaplane.dev"], "resources": [resource], "verbs": [verb]}
    admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}})
    admin.apply({
        "apiVersion": f"{GROUP}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": [rule],
    })  # fmt: skip
    admin.apply({
        "apiVersion": f"{GROUP}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
    })  # fmt: skip
    return admin.create_token(name, NAMESPACE, 3600, audience=AUDIENCE)


@pytest.mark.parametrize(("verb", "resource"), OPENED)
async def test_a_right_opens_its_own_questions_and_no_other(place: Place, verb: str, resource: str) -> None:
    token = holder(place, verb, resource)
    answers = await asyncio.gather(
        *(
            place.grpcurl("-d", body, "-max-time", "3", ASK + method, token=token, proto=True)
            for method, body in QUESTIONS.items()
        )
    )
    refused = {method for method, answer in zip(QUESTIONS, answers, strict=True) if "PermissionDenied" in answer}

    assert refused == QUESTIONS.keys() - OPENED[verb, resource]
    assert not any("Unauthenticated" in answer or "unknown" in answer for answer in answers), answers
