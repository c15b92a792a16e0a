"""The probe against kernels that say what real ones say."""

from __future__ import annotations

import errno

import pytest

from nodeagent.dataplane.nftables.probe import probe
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import tables
from tests.fakes.nftables.memory import MemoryKernel


class Saying(MemoryKernel):
    """Answers every transaction with these errors: the number of a message, counted from the end, and its errno."""

    def __init__(self, *said: tuple[int, int], failure: Exception | None = None) -> None:
        super().__init__()
        self._said, self._failure = said, failure

    def commit(self, batch: bytes, first: int, last: int) -> list[wire.Reply]:
        if self._failure:
            raise self._failure
        return [wire.Reply(last - back, code) for back, code in self._said]


def test_a_kernel_that_refuses_the_last_message_alone_will_do() -> None:
    probe(Saying((0, errno.ENOENT)))


def test_the_kernel_in_memory_will_do_and_has_nothing_afterwards() -> None:
    kernel = MemoryKernel()

    probe(kernel)

    assert tables.delete(kernel, (tables.TRIED,)) == ()


@pytest.mark.parametrize(
    "kernel, text",
    [
        (Saying((3, errno.EOPNOTSUPP), (0, errno.ENOENT)), "refuses a part of the rules (Operation not supported)"),
        (Saying((5, errno.EPERM), (0, errno.EPERM)), "give the agent CAP_NET_ADMIN"),
        (Saying((0, errno.EINVAL)), "refuses a part of the rules"),
        (Saying(), "refuses a part of the rules"),
        (Saying(failure=KernelUnavailable("nftables: gone; it is retried")), "nftables: gone"),
    ],
)
def test_a_kernel_that_will_not_do_says_why(kernel: MemoryKernel, text: str) -> None:
    with pytest.raises(DataplaneUnavailable) as raised:
        probe(kernel)

    assert text in str(raised.value)
    assert "retried" not in str(raised.value)
