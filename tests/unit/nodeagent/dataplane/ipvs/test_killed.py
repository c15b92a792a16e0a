"""Killed anywhere between two messages: the next start finds its way from what is there."""

from __future__ import annotations

import random

import pytest

from nodeagent.dataplane.ipvs.dataplane import IpvsDataplane
from nodeagent.dataplane.ipvs.kernel import Channel, Refusal
from nodeagent.linux.netlink import wire
from tests.fakes.ipvs.memory import MemoryKernel
from tests.unit.nodeagent.dataplane.ipvs.cases import NODE, NODE_ADDRESSES, SETTINGS, STATES, expected, packed, picture


class Killed(BaseException):
    """The process is gone."""


class MortalKernel(MemoryKernel):
    """Takes `left` messages more; the process does not live to see the answer of the next."""

    left = 1 << 30

    def send(self, channel: Channel, data: bytes, last: int) -> list[Refusal]:
        taken: list[bytes] = []
        start = 0
        while start < len(data):
            length = int.from_bytes(data[start : start + 4], "little")
            taken.append(data[start : start + length])
            start += length
        found = super().send(channel, b"".join(taken[: self.left]), last)
        if self.left < len(taken):
            raise Killed
        self.left -= len(taken)
        return found

    def restore(self, family: int, text: str) -> None:
        if not self.left:
            raise Killed
        super().restore(family, text)
        self.left -= 1


@pytest.mark.parametrize("seed", range(200))
def test_afterwards_the_kernel_holds_what_is_wanted(seed: int) -> None:
    chance = random.Random(seed)
    kernel = MortalKernel(addresses=[packed(text) for text in NODE_ADDRESSES])
    names = chance.choices(list(STATES), k=4)
    for name in names:
        kernel.left = chance.randrange(60)
        try:
            dataplane = IpvsDataplane(kernel, SETTINGS)
            dataplane.start()
            dataplane.apply(STATES[name], NODE, complete=True)
            kernel.left = chance.randrange(8)
            dataplane.apply(STATES[chance.choice(names)], complete=True)
        except Killed:
            pass
    kernel.left = 1 << 30
    last = IpvsDataplane(kernel, SETTINGS)
    last.start()
    last.apply(STATES[names[0]], NODE, complete=True)
    assert picture(kernel) == expected(STATES[names[0]])
    assert last.apply(STATES[names[0]], NODE, complete=True).messages == 0


def test_messages_are_told_apart_as_the_kernel_does() -> None:
    data = wire.frame(1, 0, 1, b"abcd") + wire.frame(2, 0, 2, b"")
    assert [kind for kind, *_ in wire.frames(data)] == [1, 2]
