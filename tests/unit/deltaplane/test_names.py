"""What goes into messages for people."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from deltaplane.model import Endpoint, Node
from deltaplane.names import shown_address
from deltaplane.validation import endpoints_problem, problem


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
