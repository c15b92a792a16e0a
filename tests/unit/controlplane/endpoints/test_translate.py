"""Objects of the API to what they mean for endpoints."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from controlplane.endpoints import objects, translate
from controlplane.endpoints.names import chosen
from controlplane.endpoints.quantity import milli
from controlplane.endpoints.values import NamedPort


def pod(problems: list[str] | None = None, **parts: Any) -> Any:
    thing = {"metadata": {"name": "p", "namespace": "n"}, **parts}
    return translate.pod(msgspec.convert(thing, objects.Pod), [] if problems is None else problems)


def service(**spec: Any) -> Any:
    thing = {"metadata": {"name": "s", "namespace": "n"}, "spec": spec}
    return translate.service(msgspec.convert(thing, objects.Service), [])


def test_a_heartbeat_of_the_kubelet_makes_an_equal_value() -> None:
    status = {"podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "Ready", "status": "True"}]}
    beat = {**status, "conditions": [*status["conditions"], {"type": "PodScheduled", "status": "True"}]}
    assert pod(status=status) == pod(status=beat)


def test_addresses_are_canonical_and_one_that_no_slice_may_have_is_named() -> None:
    problems: list[str] = []
    ips = [{"ip": text} for text in ("010.0.0.1", "FD00:0:0::1", "127.0.0.1", "nonsense")]
    assert pod(problems, status={"podIPs": ips}).addresses == ("10.0.0.1", "fd00::1")
    assert [problem.split(":")[0] for problem in problems] == ["status.podIPs[2]", "status.podIPs[3]"]


def test_ports_of_sidecars_come_last_and_other_init_containers_do_not_count() -> None:
    port = {"name": "a", "containerPort": 1}
    spec = {
        "containers": [{"ports": [{"name": "b", "containerPort": 2, "protocol": "UDP"}, {"containerPort": 3}]}],
        "initContainers": [{"ports": [port], "restartPolicy": "Always"}, {"ports": [port | {"containerPort": 9}]}],
    }
    assert pod(spec=spec).ports == (NamedPort("b", "UDP", 2), NamedPort("a", "TCP", 1))


FAMILIES = [
    ({"ipFamilies": ["IPv6", "IPv4"], "clusterIP": "fd00::1"}, ("IPv6", "IPv4")),
    ({"clusterIPs": ["10.0.0.1", "fd00::1"]}, ("IPv4", "IPv6")),
    ({"clusterIP": "fd00::1"}, ("IPv6",)),
    ({"clusterIP": "None"}, ("IPv4", "IPv6")),
]


@pytest.mark.parametrize(("spec", "families"), FAMILIES)
def test_families_are_the_services_own(spec: dict[str, Any], families: tuple[str, ...]) -> None:
    assert service(**spec).families == families


def test_a_target_port_left_out_is_the_port() -> None:
    (port,) = service(ports=[{"port": 80}]).ports
    assert (port.target, port.protocol, port.name) == (80, "TCP", "")


QUANTITIES = [
    ("1500m", 1500),
    ("2", 2000),
    (2, 2000),
    ("0.5", 500),
    ("1.5k", 1_500_000),
    ("1Ki", 1_024_000),
    ("1e3", 10**6),
]


@pytest.mark.parametrize(("text", "thousandths"), [*QUANTITIES, ("1n", 1)])
def test_quantities(text: Any, thousandths: int) -> None:
    assert milli(text) == thousandths


@pytest.mark.parametrize("text", ["", "one", "1mm", "-", "9" * 100])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        milli(text)


def test_times_are_seconds_of_utc() -> None:
    assert translate.seconds("2026-01-01T02:00:00+02:00") == translate.seconds("2026-01-01T00:00:00Z") == 1_767_225_600
    assert [translate.seconds(text) for text in (None, "", "yesterday", "0001-01-01T00:00:00Z")] == [0, 0, 0, 0]


def test_controllers_are_chosen_by_name() -> None:
    assert chosen("endpoints, endpointslice,endpoints") == ("endpoints", "endpointslice")
    assert chosen("") == ()
    with pytest.raises(ValueError, match="'nodes' is no controller"):
        chosen("nodes")
