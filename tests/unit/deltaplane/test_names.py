"""What goes into messages for people, and which names are remembered."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from deltaplane.model import Endpoint, EndpointSlice, Kind, Node, ObjectKey
from deltaplane.names import is_label, is_label_value, is_subdomain, shown_address
from deltaplane.validation import endpoints_problem, key_problem, problem


@pytest.mark.parametrize("text", ["127.0.0.1", "fe80::1"])
def test_an_address_stands_in_messages_as_people_write_it(text: str) -> None:
    packed = ip_address(text).packed
    assert shown_address(packed) == text
    assert problem(Node("n1", addresses=(packed,))).startswith(f"status.addresses[0]: {text} is ")
    assert endpoints_problem([Endpoint(packed)]).startswith(f"endpoints: {text} is ")
    plain = ip_address("10.0.1.7").packed
    assert endpoints_problem([Endpoint(plain, node="A b")]).startswith("endpoints: 10.0.1.7: nodeName: ")


def test_bytes_that_are_no_address_stand_there_in_hex() -> None:
    assert shown_address(b"\x0a\x00\x01") == "0a0001"
    assert shown_address(b"") == "no address"
    assert len(shown_address(bytes(1000))) < 100


def test_names_that_one_object_alone_has_are_not_remembered() -> None:
    """20,000 of them in a cold load would take megabytes and push out the names that repeat."""
    remembered = is_label, is_subdomain, is_label_value
    before = [each.cache_info().currsize for each in remembered]
    for number in range(100):
        name = f"one-of-many-{number}"
        assert not key_problem(ObjectKey(Kind.SERVICE, "default", name))
        assert not problem(EndpointSlice("default", f"{name}-abcde", name, 4, (), ()))
    after = [each.cache_info().currsize for each in remembered]
    assert sum(after) - sum(before) <= 1  # "default"
