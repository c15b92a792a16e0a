"""Beside another proxy: a label selector chooses the Services, and what the others have does not count."""

from __future__ import annotations

import pytest

from controlplane.source.decode import Decoder, form_beside
from controlplane.source.kubernetes import RESOURCES, resources
from deltaplane.model import Kind

SERVICE = b"""{"type": "ADDED", "object": {"metadata": {"name": "web", "namespace": "shop", "resourceVersion": "7",
 "labels": {"service.kubernetes.io/service-proxy-name": "deltaplane"}},
 "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}}"""
CIDR = b"""{"type": "ADDED", "object": {"metadata": {"name": "kubernetes", "resourceVersion": "7"},
 "spec": {"cidrs": ["10.96.0.0/12"]}}}"""


def test_a_selector_chooses_services_and_their_slices_and_all_else_is_as_without() -> None:
    found = resources("team=a")

    assert found[Kind.SERVICE].selector == "team=a"
    assert found[Kind.ENDPOINT_SLICE].selector == f"{RESOURCES[Kind.ENDPOINT_SLICE].selector},team=a"
    assert found[Kind.NODE] == RESOURCES[Kind.NODE]
    assert resources() == RESOURCES


@pytest.mark.parametrize(("kind", "event", "counts"), [(Kind.SERVICE, SERVICE, True), (Kind.SERVICE_CIDR, CIDR, False)])
def test_a_chosen_service_counts_whichever_proxy_it_names_and_no_service_cidr_does(
    kind: Kind, event: bytes, counts: bool
) -> None:
    item = Decoder(form_beside(kind)).event(event, 1).item

    assert item is not None
    assert item.fact is not None
    assert not item.problems
    assert (item.fact.object is not None) == counts
