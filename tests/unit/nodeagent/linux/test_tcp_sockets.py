"""An address is in use while a socket has it."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from nodeagent.linux.tcp_sockets import in_use, printed


def packed(text: str) -> bytes:
    return ip_address(text).packed


def test_as_the_kernel_prints_it_on_this_machine() -> None:
    assert len(printed(packed("fd00:10:96::1"))) == 32
    assert set(printed(bytes(4))) == {"0"}


def test_while_somebody_listens_there() -> None:
    address = packed("127.86.11.7")  # nobody else's
    assert not in_use([address])
    with socket.create_server(("127.86.11.7", 0)):
        assert in_use([packed("192.0.2.1"), address])
    assert not in_use([address])


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_of_both_families() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6):
        assert in_use([packed("::1")])


def test_of_none() -> None:
    assert not in_use([])
