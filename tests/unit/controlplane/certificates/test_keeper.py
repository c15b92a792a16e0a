"""The loop that keeps the CAs, on objects in memory: what it writes, when it may, and what it says."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest

from controlplane.certificates import stored
from controlplane.certificates.keeper import Keeper
from controlplane.certificates.objects import Lost, Objects
from controlplane.certificates.served import Served
from controlplane.certificates.values import Times
from controlplane.lease import Lease
from controlplane.lease import Times as Seconds
from controlplane.source.resource import ApiError
from deltaplane import tls
from deltaplane.certificates import Unusable
from tests.unit.controlplane.endpoints.server import Server

NAMES = ("192.0.2.1",)
PATH = f"/apis/coordination.k8s.io/v1/namespaces/a/leases/{stored.LEASE}"


class Stored(Objects):
    """Objects with versions, as the API server has them. `before`: called before each write with its name."""

    def __init__(self) -> None:
        self.namespace = "a"
        self.things: dict[str, stored.Object] = {}
        self.written: list[str] = []
        self.failing: ApiError | None = None
        self.before: Any = lambda name: None
        self.server = Server()  # has the Lease

    @property
    def lease(self) -> stored.Object:
        return self.server.objects[PATH]

    async def api(self) -> Any:
        return self.server

    async def get(self, name: str) -> stored.Object | None:
        if self.failing is not None:
            raise self.failing
        return copy.deepcopy(self.things.get(name))

    async def write(self, name: str, thing: stored.Object) -> None:
        self.before(name)
        there = self.things.get(name, {"metadata": {}})["metadata"].get("resourceVersion")
        if there != thing["metadata"].get("resourceVersion"):
            raise Lost
        self.put(name, thing)
        self.written.append(name)

    def put(self, name: str, thing: stored.Object) -> None:
        made = copy.deepcopy(thing)
        made["metadata"]["resourceVersion"] = str(int(made["metadata"].get("resourceVersion", "0")) + 1)
        self.things[name] = made

    async def close(self) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Replica:
    def __init__(self, objects: Stored, clock: Clock, name: str = "one") -> None:
        self.served = Served(tls.Kept(tls.Files()))
        lease = Lease(objects.api, objects.namespace, stored.LEASE, name, clock=clock)
        self.keeper = Keeper(objects, lease, self.served, NAMES, Times(), now=clock, monotonic=clock)

    @property
    def certificate(self) -> bytes:
        return self.served.get().certificate


@pytest.fixture
def objects() -> Stored:
    return Stored()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_one_turn_brings_everything_about(objects: Stored, clock: Clock) -> None:
    replica = Replica(objects, clock)
    with pytest.raises(Unusable, match="no certificate yet"):
        replica.served.get()
    await replica.keeper.turn()

    assert objects.written == [stored.SECRET, stored.CONFIG_MAP]
    assert objects.server.writes == [("create", "leases"), ("update", "leases")]
    assert replica.served.ready.is_set()
    assert replica.served.complaint == ""
    assert objects.lease["spec"]["holderIdentity"] == ""


async def test_a_look_without_a_change_writes_nothing(objects: Stored, clock: Clock) -> None:
    replica = Replica(objects, clock)
    await replica.keeper.turn()
    objects.written.clear()
    for _ in range(5):
        await replica.keeper.turn()

    assert objects.written == []


async def test_while_another_replica_holds_the_lease_nothing_is_written(objects: Stored, clock: Clock) -> None:
    spec = {"holderIdentity": "other", "leaseDurationSeconds": 15}
    objects.server.put(PATH, {"metadata": {"name": stored.LEASE}, "spec": spec})
    replica = Replica(objects, clock)
    await replica.keeper.turn()
    clock.now += Seconds().duration - 1
    await replica.keeper.turn()
    assert objects.written == []
    clock.now += 1  # it has not been renewed for so long
    await replica.keeper.turn()

    assert stored.SECRET in objects.written


@pytest.mark.parametrize("name", [stored.SECRET, stored.CONFIG_MAP])
async def test_whoever_loses_the_lease_in_mid_write_overwrites_nothing(
    objects: Stored, clock: Clock, name: str
) -> None:
    """Another replica writes everything after the first has read and before it writes."""
    slow, fast = Replica(objects, clock, "slow"), Replica(objects, clock, "fast")

    async def meanwhile() -> None:
        objects.server.objects.pop(PATH, None)
        await fast.keeper.turn()

    real = objects.write
    done = False

    async def write(which: str, thing: stored.Object) -> None:
        nonlocal done
        if which == name and not done:
            done = True
            await meanwhile()
        await real(which, thing)

    objects.write = write  # type: ignore[method-assign, assignment]
    await slow.keeper.turn()

    assert objects.written.count(stored.SECRET) == 1
    assert objects.written.count(stored.CONFIG_MAP) == 1
    assert slow.keeper.writes[name, "conflict"] == 1
    assert len(stored.secret(objects.things[stored.SECRET])[0]) == 1
    assert slow.served.ready.is_set()


async def test_without_the_api_server_it_is_told_once_and_certificates_are_renewed(
    objects: Stored, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    replica = Replica(objects, clock)
    await replica.keeper.turn()
    before = replica.certificate
    objects.failing = ApiError("the API server is away")
    for _ in range(8):
        clock.now += 86400
        await replica.keeper.turn()

    assert replica.certificate != before
    assert replica.served.expires > clock.now
    assert replica.served.complaint == "the API server is away"
    assert replica.served.failures == 1
    assert caplog.text.count("the API server is away") == 1
    objects.failing = None
    await replica.keeper.turn()
    assert replica.served.complaint == ""


async def test_a_first_start_is_no_fault_and_a_loss_is_one(
    objects: Stored, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    replica = Replica(objects, clock)
    await replica.keeper.turn()
    assert "not as they should be" not in caplog.text
    del objects.things[stored.SECRET], objects.things[stored.CONFIG_MAP]
    before = replica.certificate
    await replica.keeper.turn()

    assert stored.NO_AUTHORITY in caplog.text
    assert stored.NO_ROOT in caplog.text
    assert replica.served.failures == 2
    assert replica.served.complaint == ""  # it is over
    assert replica.certificate == before


async def test_its_figures_are_on_the_page(objects: Stored, clock: Clock) -> None:
    replica = Replica(objects, clock)
    await replica.keeper.turn()
    shown = {(sample.name, *sample.labels.values()): sample.value
             for metric in replica.keeper.collect() for sample in metric.samples}  # fmt: skip

    assert shown["deltaplane_certificate_writes_total", stored.SECRET, "written"] == 1
    assert shown["deltaplane_certificate_authority_end_timestamp_seconds",] == clock.now + Times().authority
