"""Source ranges as socket filters: what a kernel lets through, and the same worked out here."""

from __future__ import annotations

import random
import socket
from ipaddress import ip_address, ip_network

import pytest

from nodeagent.linux import socket_filter as filters
from nodeagent.linux.socket_filter import AND, JUMP_EQUAL, LOAD, NETWORK, RETURN, Step


def allows(steps: list[Step], family: int, source: str) -> bool:
    """What the program returns for a packet whose header has this source."""
    header = bytes(12 if family == 4 else 8) + ip_address(source).packed + bytes(16)
    place, word = 0, 0
    while True:
        code, yes, no, operand = steps[place]
        place += 1
        if code == LOAD:
            word = int.from_bytes(header[operand - NETWORK : operand - NETWORK + 4], "big")
        elif code == AND:
            word &= operand
        elif code == JUMP_EQUAL:
            place += yes if word == operand else no
        else:
            assert code == RETURN
            return bool(operand)


@pytest.mark.parametrize("family", [4, 6])
def test_exactly_the_networks_pass(family: int) -> None:
    dice, bits = random.Random(family), 32 if family == 4 else 128
    for _ in range(200):
        host = dice.getrandbits(bits)
        address = ip_address(host) if family == 4 else ip_address(host.to_bytes(16, "big"))
        network = ip_network(f"{address}/{dice.randint(0, bits)}", strict=False)
        other = network[0] + dice.getrandbits(bits) % network.num_addresses
        flipped = host ^ 1 << dice.randrange(bits)
        stranger = ip_address(flipped) if family == 4 else ip_address(flipped.to_bytes(16, "big"))
        steps = filters.allowing(family, ["10.9.8.7/32", "2001:db8::/127", str(network)])
        assert allows(steps, family, str(other))
        assert allows(steps, family, str(stranger)) is (stranger in network)


def test_without_a_network_of_the_family_nothing_passes() -> None:
    assert not allows(filters.allowing(6, ["10.0.0.0/8"]), 6, "::1")
    assert allows(filters.allowing(6, ["::/0"]), 6, "::1")
    with pytest.raises(ValueError, match="nonsense"):
        filters.allowing(4, ["nonsense"])


def test_a_kernel_takes_it_and_drops_the_others() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hears,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
    ):
        hears.bind(("127.0.0.1", 0))
        hears.settimeout(5)
        filters.attach(hears, filters.allowing(4, ["127.0.0.2/31", "192.0.2.0/24"]))
        one.sendto(b"from .1", hears.getsockname())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.3", 0))
            other.sendto(b"from .3", hears.getsockname())
        assert hears.recv(100) == b"from .3"


def test_too_many_networks_are_refused_in_words() -> None:
    with socket.socket() as made, pytest.raises(ValueError, match="use fewer source ranges"):
        filters.attach(made, filters.allowing(4, [f"10.{n >> 8}.{n & 255}.0/24" for n in range(1100)]))
