"""What a change touches, and which of two words about a slice counts."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from controlplane.endpoints.known import Known
from controlplane.endpoints.names import SLICE_MANAGER
from controlplane.endpoints.objects import EndpointSlice, ObjectMeta
from controlplane.endpoints.slicing import MANAGED_BY, SERVICE_NAME
from controlplane.endpoints.values import Node
from tests.unit.controlplane.endpoints.things import pod, service

WEB = ("shop", "web")


def known(*services: Any) -> Known:
    found = Known()
    for one in services or (service(),):
        found.set_service(one.key, one)
    return found


def slice_(version: int, name: str = "web-1", uid: str = "u", kind: str = "IPv4") -> EndpointSlice:
    labels = {SERVICE_NAME: "web", MANAGED_BY: SLICE_MANAGER}
    return EndpointSlice(ObjectMeta(name, "", "shop", uid, str(version), labels=labels), kind, (), ())


def test_a_pod_touches_the_services_that_select_it_before_or_now() -> None:
    red, blue = service("red", selector={"app": "red"}), service("blue", selector={"app": "blue", "tier": "front"})
    here = known(red, blue)
    assert here.set_pod(("shop", "web-0"), pod(0, labels={"app": "red"})) == {red.key}
    assert here.set_pod(("shop", "web-0"), pod(0, labels={"app": "blue"})) == {red.key}
    assert here.set_pod(("shop", "web-0"), pod(0, labels={"app": "blue", "tier": "front"})) == {blue.key}
    assert here.set_pod(("shop", "web-0"), None) == {blue.key}


def test_a_pod_of_another_namespace_touches_nothing() -> None:
    assert known().set_pod(("bank", "web-0"), pod(0, namespace="bank")) == set()


def test_a_word_that_says_nothing_new_touches_nothing() -> None:
    here = known()
    here.set_pod(("shop", "web-0"), pod(0))
    assert here.set_pod(("shop", "web-0"), pod(0)) == set()
    assert here.set_service(WEB, service()) == set()


def test_a_pods_change_looks_only_at_services_that_share_a_rare_label() -> None:
    """Every Service has the label env=prod; a Pod of one is looked up by the other label."""
    services = [service(f"s{n}", selector={"env": "prod", "app": f"s{n}"}) for n in range(200)]
    here = known(*services)
    here.set_pod(("shop", "web-0"), pod(0, labels={"env": "prod", "app": "s7"}))
    filed = here._selection._services
    assert max(map(len, filed.values())) == 1
    assert here.set_pod(("shop", "web-0"), None) == {("shop", "s7")}


def test_services_without_selector_select_nothing() -> None:
    here = known(service(selector={}), service("out", external_name=True))
    assert here.set_pod(("shop", "web-0"), pod(0)) == set()


def test_a_node_touches_the_services_of_its_pods_when_its_zone_is_known_or_changes() -> None:
    here = known()
    here.set_pod(("shop", "web-0"), pod(0, node="a"))
    assert here.set_node("a", Node("a", "")) == {WEB}
    assert here.set_node("a", Node("a", "east")) == {WEB}
    assert here.set_node("a", Node("a", "east", 4000, counted=True)) == set()
    assert here.set_node("b", Node("b", "east")) == set()
    assert here.set_node("a", None) == {WEB}


def test_the_echo_of_a_write_touches_nothing_and_an_older_word_changes_nothing() -> None:
    here = known()
    here.set_slice(("shop", "web-1"), slice_(7, kind="IPv6"))
    assert here.set_slice(("shop", "web-1"), slice_(7, kind="IPv6")) == set()
    assert here.set_slice(("shop", "web-1"), slice_(6)) == set()
    assert [one.address_type for one in here.slices_of(WEB)] == ["IPv6"]


def test_what_another_wrote_or_deleted_touches_the_service() -> None:
    here = known()
    here.set_slice(("shop", "web-1"), slice_(7))
    assert here.set_slice(("shop", "web-1"), slice_(8, kind="IPv6")) == {WEB}
    assert here.set_slice(("shop", "web-1"), None) == {WEB}


def test_late_words_about_a_slice_that_was_deleted_here_do_not_bring_it_back() -> None:
    here = known()
    here.set_slice(("shop", "web-1"), slice_(7))
    here.deleted(slice_(7))
    assert here.set_slice(("shop", "web-1"), slice_(7)) == set()
    assert here.slices_of(WEB) == []
    here.set_slice(("shop", "web-1"), None)
    assert here.set_slice(("shop", "web-1"), slice_(9, uid="another")) == {WEB}


def test_a_slice_that_another_manages_now_is_none_of_ours() -> None:
    here = known()
    here.set_slice(("shop", "web-1"), slice_(7))
    labels = {SERVICE_NAME: "web", MANAGED_BY: "somebody"}
    other = replace(slice_(8), metadata=replace(slice_(8).metadata, labels=labels))
    assert here.set_slice(("shop", "web-1"), other) == {WEB}
    assert here.slices_of(WEB) == []


def test_a_list_that_is_older_than_a_write_does_not_undo_it() -> None:
    here = known()
    here.set_slice(("shop", "web-1"), slice_(7))
    here.set_slice(("shop", "web-2"), slice_(20, name="web-2"))
    assert here.absent_slices([], "10") == [("shop", "web-1")]
