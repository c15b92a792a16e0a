"""The addresses of a network namespace, listed and then followed by the kernel's own notices."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from nodeagent.node.addresses.monitor import Monitor, follow
from nodeagent.node.addresses.selection import parse
from nodeagent.node.addresses.selection import select as choose
from tools.lab import netns
from tools.lab.netns import Namespace

LIMIT = 20.0  # seconds until a test that waits gives up
NAME = "addresses"
BOTH = ("192.0.2.1/24", "2001:db8::1/64")


@pytest.fixture
def space() -> Iterator[Namespace]:
    """A namespace with two ends of one link, both up, and no address that the kernel makes for itself."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    made = netns.create(NAME)
    try:
        ip(made, "link add one type veth peer name two")
        ip(made, *[f"link set {end} {change}" for end in ("one", "two") for change in ("addrgenmode none", "up")])
        yield made
    finally:
        netns.delete(made)


def ip(space: Namespace, *commands: str) -> None:
    """The stock tool; commands of one call go in together."""
    subprocess.run(["ip", "-n", space.name, "-batch", "-"], input="\n".join(commands), text=True, check=True)


@contextmanager
def monitoring(space: Namespace) -> Iterator[Monitor]:
    with space.entered():
        monitor = Monitor()
    try:
        yield monitor
    finally:
        monitor.close()


def known(monitor: Monitor) -> set[str]:
    return {str(ip_address(address)) for address in monitor.addresses}


def until(monitor: Monitor, wanted: set[str]) -> None:
    """Waits for the kernel's word, and for nothing else."""
    while known(monitor) != wanted:
        ready, _, _ = select.select([monitor], [], [], LIMIT)
        assert ready, f"nothing was heard; known: {known(monitor)}"
        monitor.read()


def test_what_is_there_is_listed_and_what_comes_and_goes_is_heard_b3(space: Namespace) -> None:
    ip(space, f"addr add {BOTH[0]} dev one")
    with monitoring(space) as monitor:
        assert known(monitor) == {"192.0.2.1"}
        ip(space, f"addr add {BOTH[1]} dev two nodad")
        until(monitor, {"192.0.2.1", "2001:db8::1"})
        ip(space, f"addr del {BOTH[0]} dev one")
        until(monitor, {"2001:db8::1"})
        ip(space, "link del two")
        until(monitor, set())


def test_an_address_on_two_interfaces_is_there_until_both_have_lost_it_b3(space: Namespace) -> None:
    with monitoring(space) as monitor:
        ip(space, "addr add 192.0.2.1/24 dev one", "addr add 192.0.2.1/32 dev one", "addr add 192.0.2.1/32 dev two")
        until(monitor, {"192.0.2.1"})
        ip(space, "addr del 192.0.2.1/24 dev one", "addr add 192.0.2.9/32 dev two")
        until(monitor, {"192.0.2.1", "192.0.2.9"})
        ip(space, "addr flush dev one", "addr del 192.0.2.9/32 dev two")
        until(monitor, {"192.0.2.1"})
        ip(space, "addr flush dev two")
        until(monitor, set())


def test_a_point_to_point_link_counts_with_its_own_end_b3(space: Namespace) -> None:
    with monitoring(space) as monitor:
        ip(space, "addr add 192.0.2.1 peer 198.51.100.1/32 dev one")
        ip(space, "addr add 2001:db8::1 peer 2001:db8::2/128 dev one nodad")
        until(monitor, {"192.0.2.1", "2001:db8::1"})


def test_an_address_that_is_only_renewed_is_no_change(space: Namespace) -> None:
    ip(space, "addr add 2001:db8::1/64 dev one nodad valid_lft 1000 preferred_lft 900")
    with monitoring(space) as monitor:
        ip(space, "addr change 2001:db8::1/64 dev one valid_lft 2000 preferred_lft 1900")
        assert select.select([monitor], [], [], LIMIT)[0]
        assert not monitor.read()
        assert known(monitor) == {"2001:db8::1"}


def test_nothing_is_lost_when_the_kernel_speaks_faster_than_it_is_heard_b3(
    space: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    many = [f"10.9.{number // 256}.{number % 256}" for number in range(1000)]
    with monitoring(space) as monitor:
        with socket.socket(fileno=os.dup(monitor.fileno())) as hearing:
            hearing.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ip(space, *[f"addr add {address}/32 dev one" for address in many])
        ip(space, *[f"addr del {address}/32 dev one" for address in many[::2]])
        until(monitor, set(many[1::2]))
    assert "listing them again" in caplog.text


def test_node_ports_follow_the_machine_b3_b7(space: Namespace) -> None:
    policy = parse(("192.0.2.0/24", "2001:db8::/64"))
    with monitoring(space) as monitor:
        commands = [f"addr add {BOTH[0]} dev one", f"addr add {BOTH[1]} dev one nodad"]
        ip(space, *commands, "addr add 198.51.100.1/32 dev two")
        until(monitor, {"192.0.2.1", "2001:db8::1", "198.51.100.1"})
        chosen = choose(policy, monitor.addresses, ()).forwarding.node_port_addresses
        assert {str(ip_address(address)) for address in chosen} == {"192.0.2.1", "2001:db8::1"}


async def test_a_follower_is_woken_by_a_change_alone(space: Namespace) -> None:
    with monitoring(space) as monitor:
        seen: asyncio.Queue[set[str]] = asyncio.Queue()
        task = asyncio.create_task(follow(monitor, lambda: seen.put(known(monitor))))
        await asyncio.sleep(0)
        for command, wanted in [("add", {"192.0.2.1"}), ("del", set())]:
            await asyncio.to_thread(ip, space, f"addr {command} {BOTH[0]} dev one")
            async with asyncio.timeout(LIMIT):
                while await seen.get() != wanted:
                    pass
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not asyncio.get_running_loop().remove_reader(monitor.fileno())
