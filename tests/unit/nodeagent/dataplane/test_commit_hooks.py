"""What goes along with a commit hears what it needs."""

from __future__ import annotations

import pytest

from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.commit_hooks import Wanted, Watchers
from nodeagent.dataplane.outcome import Commit, Failed
from nodeagent.metrics.registry import Metrics
from nodeagent.web.health import Health

SERVICE, NODE = ObjectKey(Kind.SERVICE, "ns", "bad"), ObjectKey(Kind.NODE, "", "node-1")


@pytest.mark.parametrize(
    "failed, pending, healthy",
    [
        pytest.param((), False, True, id="all is in the kernel"),
        pytest.param((SERVICE,), True, True, id="one object is refused"),
        pytest.param((), True, False, id="the kernel has not all"),
        pytest.param((NODE,), True, False, id="what concerns the node is refused"),
        pytest.param((SERVICE, NODE), True, False, id="an object and the node"),
    ],
)
def test_an_object_that_the_kernel_refuses_does_not_make_the_node_unhealthy(
    failed: tuple[ObjectKey, ...], pending: bool, healthy: bool
) -> None:
    now = 0.0
    health = Health(60.0, lambda: now, lambda: now)
    watchers = Watchers(health, Metrics("nftables"), lambda: pending)
    health.updated()
    watchers.want(Wanted())
    watchers.committed(Commit(failed=tuple(Failed(key, "KERNEL_REJECTED", "no") for key in failed)), 0.001)
    now = 61.0
    assert health.healthy is healthy


def test_a_kernel_that_takes_nothing_makes_the_node_unhealthy() -> None:
    now = 0.0
    health = Health(60.0, lambda: now, lambda: now)
    watchers = Watchers(health, Metrics("nftables"), lambda: True)
    health.updated()
    watchers.want(Wanted())
    watchers.refused()
    now = 61.0
    assert not health.healthy
