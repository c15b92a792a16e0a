"""A kernel that now and then refuses, does not answer, or is the last thing that the agent's process ever called."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from enum import Enum
from random import Random

from nodeagent.errors import KernelUnavailable, Unsure
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import objects
from nodeagent.linux.nft.kernel import Kernel


class Trouble(Enum):
    """What becomes of a transaction."""

    FORBIDDEN = "refused as a whole"
    SPOILED = "refused for one message's sake"
    LOST = "never reached the kernel"
    UNANSWERED = "done, but the answer was lost"
    KILLED_BEFORE = "the process ended before it"
    KILLED_AFTER = "the process ended after it"


class Died(BaseException):
    """The agent's process is no more; nothing of it may catch this."""


class Troubles:
    """What awaits the next transactions, whatever process sends them."""

    def __init__(self) -> None:
        self.random = Random(0)
        self.waiting: list[Trouble] = []


class TroubledKernel:
    """Implements `kernel.Kernel` on top of another one."""

    def __init__(self, kernel: Kernel, troubles: Troubles) -> None:
        self._kernel, self._troubles = kernel, troubles
        self.ask, self.has, self.close = kernel.ask, kernel.has, kernel.close

    def commit(self, batch: bytes, first: int, last: int) -> list[wire.Reply]:
        trouble = self._troubles.waiting.pop() if self._troubles.waiting else None
        if trouble is Trouble.FORBIDDEN:
            return [wire.Reply(first, errno.EPERM)]
        if trouble is Trouble.SPOILED and (spoiled := self._spoiled(batch)):
            return [wire.Reply(spoiled, errno.ENOSPC)]
        if trouble is Trouble.KILLED_BEFORE:
            raise Died
        if trouble is Trouble.LOST:
            raise KernelUnavailable("nothing was sent")
        replies = self._kernel.commit(batch, first, last)
        if trouble is Trouble.KILLED_AFTER:
            raise Died
        if trouble is Trouble.UNANSWERED:
            raise Unsure("nothing was answered")
        return replies

    def _spoiled(self, batch: bytes) -> int:
        """Any message that adds; 0 where a table is installed, whose family would be left out, or nothing is added."""
        sent = list(wire.messages(batch))
        if any(message.type & 0xFF == objects.NEW_TABLE for message in sent):
            return 0
        adding = [message.sequence for message in _adding(sent)]
        return self._troubles.random.choice(adding) if adding else 0


def _adding(sent: list[wire.Message]) -> Iterator[wire.Message]:
    kinds = (objects.NEW_SET, objects.NEW_CHAIN, objects.NEW_RULE, objects.NEW_ELEMENT)
    return (message for message in sent[1:-1] if message.type & 0xFF in kinds)
