"""Text of addresses and CIDRs, as Kubernetes reads it: the API's objects and the agent's configuration alike."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from deltaplane.addresses import parse_address, parse_cidr, parse_packed
from nodeagent.config import addresses as of_config

READ = {
    "10.0.0.1": bytes((10, 0, 0, 1)),
    "010.000.0.001": bytes((10, 0, 0, 1)),  # decimal, not octal
    "::1": bytes(15) + b"\x01",
    "::ffff:10.0.0.1": bytes((10, 0, 0, 1)),
    "::ffff:010.0.0.01": bytes((10, 0, 0, 1)),
    "64:ff9b::10.0.0.1": bytes.fromhex("0064ff9b") + bytes(8) + bytes((10, 0, 0, 1)),
}
CIDRS = {"10.1.2.3/8": "10.0.0.0/8", "010.0.0.0/08": "10.0.0.0/8", "fd00::1/64": "fd00::/64"}
REFUSED = ["", "10.0.0", "10.0.0.256", "fe80::1%eth0", "10.0.0.1%eth0", "::1::", " 10.0.0.1", "10.0.0.1/8", "\0", "x"]


@pytest.mark.parametrize(("text", "packed"), READ.items())
def test_an_address_is_read_alike_in_an_object_and_in_a_configuration(text: str, packed: bytes) -> None:
    assert parse_address(text) == of_config.address(text).packed == packed


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_address_is_refused_and_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address") as error:
        parse_address(text)
    assert repr(text) in str(error.value)
    with pytest.raises(ValueError, match="is not an IP address"):
        of_config.address(text)


def test_the_family_as_written_can_be_asked_for() -> None:
    assert len(parse_packed("::ffff:10.0.0.1")) == 16
    assert of_config.network("::ffff:10.0.0.0/104") == ip_network("::ffff:a00:0/104")


@pytest.mark.parametrize(
    ("text", "cidr"), [("10.1.2.3/8", "10.0.0.0/8"), ("010.0.0.0/08", "10.0.0.0/8"), ("fd00::1/64", "fd00::/64")]
)
def test_a_cidr_loses_its_host_bits(text: str, cidr: str) -> None:
    assert parse_cidr(f" {text} ") == str(of_config.network(text)) == cidr


@pytest.mark.parametrize("text", ["10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "fe80::%1/64", "x/8"])
def test_what_is_no_cidr_is_refused(text: str) -> None:
    for parse in (parse_cidr, of_config.network):
        with pytest.raises(ValueError, match=r"."):
            parse(text)
