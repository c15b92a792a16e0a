"""What is heard of links and addresses, and what the dataplane makes of it."""

from __future__ import annotations

import select

import pytest

from nodeagent.dataplane.ipvs.dataplane import IpvsDataplane
from nodeagent.dataplane.ipvs.watch import Heard, NetlinkWatch, Notice, Watch, notices
from nodeagent.linux.netlink import rtnetlink as rt
from nodeagent.linux.netlink import wire
from tests.fakes.ipvs import answers
from tests.fakes.ipvs.memory import MemoryKernel
from tests.unit.nodeagent.dataplane.ipvs.cases import NODE, NODE_ADDRESSES, SETTINGS, STATES, packed

VIP, OTHER, AUTOMATIC = packed("172.30.0.1"), packed("172.30.9.9"), packed("fe80::1")
LINK, ETH0 = 3, 2


class Said(Watch):
    """A watch that says what the test says."""

    def __init__(self) -> None:
        self.now = Heard([])

    def fileno(self) -> int:
        return -1

    def heard(self) -> Heard:
        found, self.now = self.now, Heard([])
        return found

    def close(self) -> None:
        """Nothing to let go of."""


def notice(address: bytes, link: int, *, gone: bool) -> Notice:
    return Notice(rt.Address(rt.family_of(address), address, link), gone, link)


@pytest.mark.parametrize(
    ("heard", "drifted"),
    [
        (Heard([]), False),
        (Heard(None), True),
        (Heard([notice(VIP, LINK, gone=True)]), True),
        (Heard([notice(VIP, LINK, gone=False)]), False),
        (Heard([notice(OTHER, LINK, gone=False)]), True),
        (Heard([notice(OTHER, LINK, gone=True)]), False),
        (Heard([notice(AUTOMATIC, LINK, gone=False)]), False),
        (Heard([notice(OTHER, ETH0, gone=False)]), False),
        (Heard([Notice(None, gone=True, link=LINK)]), True),
        (Heard([Notice(None, gone=True, link=ETH0)]), False),
        (Heard([], ticked=True), False),
    ],
)
def test_what_is_a_surprise(heard: Heard, drifted: bool) -> None:
    said = Said()
    dataplane = IpvsDataplane(MemoryKernel(addresses=[packed(text) for text in NODE_ADDRESSES]), SETTINGS, said)
    dataplane.start()
    dataplane.apply(STATES["one endpoint"], NODE, complete=True)
    said.now = heard
    assert dataplane.drifted() is drifted
    assert dataplane.drifted() is drifted  # until it is put right
    dataplane.repair()
    assert not dataplane.drifted()


def test_an_address_of_another_link_is_noted() -> None:
    said = Said()
    dataplane = IpvsDataplane(MemoryKernel(), SETTINGS, said)
    dataplane.start()
    dataplane.apply(STATES["one endpoint"], NODE, complete=True)
    said.now = Heard([notice(VIP, ETH0, gone=False)])
    assert not dataplane.drifted()
    assert dataplane.pending()
    dataplane.apply([])
    assert VIP not in {address for link, address in dataplane.driver.kernel.addresses if link == LINK}  # type: ignore[attr-defined]


def test_a_datagram_of_notices_is_read() -> None:
    given = rt.Address(6, packed("2001:db8::1"), 7)
    data = b"".join(
        [
            wire.frame(rt.NEW_ADDRESS, 0, 0, rt.address(given)),
            wire.frame(rt.DEL_LINK, 0, 0, answers.link(7, "kube-ipvs0")),
            wire.frame(rt.NEW_LINK, 0, 0, answers.link(8, "eth1")),
            wire.frame(rt.DEL_ADDRESS, 0, 0, rt.address(given)),
        ]
    )
    assert notices(data) == [
        Notice(given, gone=False, link=7), Notice(None, gone=True, link=7), Notice(given, gone=True, link=7)
    ]  # fmt: skip


def test_the_clock_makes_the_descriptor_readable() -> None:
    watch = NetlinkWatch(period=0.01)
    try:
        heard = Heard()
        while not heard.ticked:
            assert select.select([watch.fileno()], [], [], 30)[0]
            heard = watch.heard()
    finally:
        watch.close()
