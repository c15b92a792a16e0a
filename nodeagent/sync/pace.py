"""How long changes gather after a commit that took long, so that a busy stream is few commits. Kept by the programmer.

A restore costs nearly the same for one change and for a hundred: without a rest, the node would do nothing else while
changes keep coming. What comes alone does not wait. Pure: time is given to it.
"""

from __future__ import annotations

REST = 2.0  # times what the commit took: of the time, a third at most is spent in commits


class Pace:
    """`most`: seconds that changes gather at most (kube-proxy's minSyncPeriod)."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._next = float("-inf")  # when the next commit may begin, monotonic seconds

    def committed(self, began: float, ended: float) -> None:
        """A change took so long to commit, whether the kernel took it or not."""
        self._next = ended + min(self._most, REST * (ended - began))

    def rest(self, now: float) -> float:
        """Seconds until the next may begin."""
        return max(0.0, self._next - now)
