"""On which addresses node ports answer, row by row of the behaviour table."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from nodeagent.node.addresses.selection import Policy, parse, select

MACHINE = ("127.0.0.1", "192.0.2.10", "192.0.2.11", "198.51.100.7", "::1", "fe80::1", "2001:db8::10", "2001:db8:1::7")
NODE = ("192.0.2.10", "2001:db8::10", "192.0.2.11")
V4, V6, BOTH = (4,), (6,), (4, 6)
Answer = tuple[tuple[str, ...], tuple[int, ...], tuple[str, ...]]


def packed(texts: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(ip_address(text).packed for text in texts)


def answer(policy: tuple[str, ...], node: tuple[str, ...] = NODE, machine: tuple[str, ...] = MACHINE) -> Answer:
    """The addresses as text, IPv4 first, the families that match all, and the notes."""
    found = select(parse(policy), packed(machine), packed(node))
    listed = found.forwarding.node_port_addresses
    assert list(listed) == sorted(set(listed))
    by_family = [str(ip_address(address)) for size in (4, 16) for address in listed if len(address) == size]
    return tuple(by_family), found.forwarding.match_all_families, found.notes


def open_everywhere(said: str, family: int) -> str:
    return f"{said}: IPv{family} node ports answer on every address but loopback"


@pytest.mark.parametrize(
    "node, listed, everywhere, notes",
    [
        pytest.param(NODE, ("192.0.2.10", "2001:db8::10"), (), (), id="B1 B2 first of each family, B7 not the second"),
        pytest.param(NODE[::-1], ("192.0.2.11", "2001:db8::10"), (), (), id="B2 the Node's order counts"),
        pytest.param(
            ("192.0.2.10",),
            ("192.0.2.10",),
            V6,
            (open_everywhere("the Node object has no IPv6 address", 6),),
            id="B4 unknown IPv6 address",
        ),
        pytest.param(
            ("2001:db8::10",),
            ("2001:db8::10",),
            V4,
            (open_everywhere("the Node object has no IPv4 address", 4),),
            id="B4 unknown IPv4 address",
        ),
        pytest.param(
            ("127.0.0.1", "192.0.2.10", "2001:db8::10"),
            ("2001:db8::10",),
            V4,
            (open_everywhere("the Node object has no IPv4 address", 4),),
            id="B2 loopback is left out",
        ),
        pytest.param((), (), (), ("the Node object has no usable address: node ports are closed",), id="L2 unknown"),
        pytest.param(
            ("127.0.0.1", "::1"),
            (),
            (),
            ("the Node object has no usable address: node ports are closed",),
            id="L2 loopback only",
        ),
        pytest.param(
            ("203.0.113.9", "2001:db8::10"), ("203.0.113.9", "2001:db8::10"), (), (), id="B2 an address in front of it"
        ),
    ],
)
def test_primary(
    node: tuple[str, ...], listed: tuple[str, ...], everywhere: tuple[int, ...], notes: tuple[str, ...]
) -> None:
    assert answer(("primary",), node) == (listed, everywhere, notes)


def test_primary_does_not_look_at_the_machine_b2() -> None:
    assert answer(("primary",), machine=()) == answer(("primary",))


LOOPBACK = "nodePortAddresses has {}: no node port answers on loopback"


@pytest.mark.parametrize(
    "policy, listed, everywhere, notes",
    [
        pytest.param(
            ("192.0.2.0/24", "2001:db8::/64"),
            ("192.0.2.10", "192.0.2.11", "2001:db8::10"),
            (),
            (),
            id="B3 B7 every address inside",
        ),
        pytest.param(
            ("198.51.100.0/24", "192.0.2.11/32", "2001:db8::/32"),
            ("192.0.2.11", "198.51.100.7", "2001:db8::10", "2001:db8:1::7"),
            (),
            (),
            id="B3 B8 several networks, any interface",
        ),
        pytest.param(("10.0.0.0/8", "fd00::/8"), (), (), (), id="B3 networks the machine is not in"),
        pytest.param(
            ("192.0.2.0/24", "fe80::/10"), ("192.0.2.10", "192.0.2.11", "fe80::1"), (), (), id="B3 link-local"
        ),
        pytest.param(
            ("192.0.2.0/24",),
            ("192.0.2.10", "192.0.2.11"),
            V6,
            (open_everywhere("nodePortAddresses has no IPv6 network", 6),),
            id="B4 no IPv6 network",
        ),
        pytest.param(
            ("2001:db8::/64",),
            ("2001:db8::10",),
            V4,
            (open_everywhere("nodePortAddresses has no IPv4 network", 4),),
            id="B4 no IPv4 network",
        ),
        pytest.param(("192.0.2.0/24", "0.0.0.0/0", "::/0"), (), BOTH, (), id="B4 everything asked for"),
        pytest.param(
            ("127.0.0.0/8", "192.0.2.10/32", "2001:db8::/64"),
            ("192.0.2.10", "2001:db8::10"),
            (),
            (LOOPBACK.format("127.0.0.1"),),
            id="B5 never on IPv4 loopback",
        ),
        pytest.param(
            ("192.0.2.10/32", "::1/128"), ("192.0.2.10",), (), (LOOPBACK.format("::1"),), id="B6 never on IPv6 loopback"
        ),
    ],
)
def test_networks(
    policy: tuple[str, ...], listed: tuple[str, ...], everywhere: tuple[int, ...], notes: tuple[str, ...]
) -> None:
    assert answer(policy) == (listed, everywhere, notes)


def test_networks_do_not_look_at_the_node_object_b3() -> None:
    assert answer(("192.0.2.0/24", "::/0"), node=()) == answer(("192.0.2.0/24", "::/0"))


def test_no_networks_are_every_address_b4() -> None:
    assert parse(()) == Policy(primary=False)
    assert answer(())[:2] == ((), BOTH)


def test_what_is_neither_is_refused() -> None:
    with pytest.raises(ValueError, match="primary"):
        parse(("primary", "192.0.2.0/24"))
