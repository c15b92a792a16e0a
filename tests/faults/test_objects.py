"""Fault cases 14, 15, 16 and 23: what the API's objects do within one batch, and how big they are."""

from __future__ import annotations

import pytest

from tests.faults.world import World, address, service, slice_of


def test_fault_14_a_service_is_made_again_with_another_cluster_ip_inside_one_batch(pair: World) -> None:
    pair.put(1, pair.truth[1], vip="10.96.9.9")

    pair.holds()


def test_fault_15_an_endpoint_moves_between_slices_and_is_briefly_in_both_or_in_neither(pair: World) -> None:
    one, two, moving = address(11), address(12), address(13)
    steps = [([one, moving], [two]), ([one, moving], [two, moving]), ([one], [two, moving]), ([one], [two]),
             ([one, moving], [two])]  # fmt: skip
    for first, second in steps:
        text = service(1, pair.vips[1]) + slice_of(1, first) + slice_of(1, second, "b")
        pair.put(1, sorted({*first, *second}), text=text)
        pair.holds()


def test_fault_16_a_slice_of_a_thousand_endpoints_and_a_service_over_the_hard_limit(pair: World) -> None:
    pair.put(1, [address(number) for number in range(1000, 2000)])
    ports = ", ".join(f"{{name: {port:a>60}, port: {port}}}" for port in range(1, 17_000))
    meta = "apiVersion: v1\nkind: Service\nmetadata: {name: big}\n"
    pair.write("big", f"{meta}spec: {{clusterIP: 10.96.8.8, ports: [{ports}]}}\n")
    pair.put(2, [address(77)])

    pair.holds()


@pytest.mark.slow
def test_fault_23_ten_thousand_slices_change_at_once(pair: World) -> None:
    number = 10_000
    for share in range(2):
        texts = []
        for one in range(number):
            slot = one + 1000
            pair.vips[slot] = f"10.{97 + (slot >> 16)}.{slot >> 8 & 255}.{slot & 255}"
            pair.truth[slot] = [f"10.1.{slot >> 8 & 255}.{slot & 255}", *([f"10.1.200.{one % 250 + 1}"] * share)]
            texts.append(service(slot, pair.vips[slot]) + slice_of(slot, pair.truth[slot]))
        for part in range(20):
            pair.write(f"many{part}", "".join(texts[part::20]))
        pair.holds()
