"""Whether this replica leaves its agents to others, because it alone does not follow its source. Pure; no leader.

Its nodes would miss every change, though other replicas have it. Where none is better off (the API server is down for
all) nothing changes: agents stay and keep the last state. The server looks once a second; `leaving` sends the agents.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf

AFTER = 15.0  # seconds: a source tries again within 5 s, and peers are asked every 10 s, so each had a second chance
BACK = 30.0  # seconds of following without a failure: twice AFTER, so that one that fails at times changes nothing
RECOVERED, ALONE = "it follows its source again", "no other replica follows the source and has room"


class Aside:
    """`reason`: why it takes no agents now; empty: it takes them. Callers pass the time in monotonic seconds."""

    def __init__(self) -> None:
        self.reason = ""
        self._worse_since = inf  # it follows less than another replica
        self._follows_since = -inf

    def look(self, now: float, unfollowed: str, better: Collection[str]) -> str | None:
        """What to tell, where `reason` changes: why it takes none, or why it takes agents again.

        `unfollowed`: what it does not follow, and why; empty: it follows everything. `better`: the replicas that do
        and have room.
        """
        self._follows_since = inf if unfollowed else min(self._follows_since, now)
        self._worse_since = min(self._worse_since, now) if unfollowed and better else inf
        if not self.reason:
            return self._leave(unfollowed) if now - self._worse_since >= AFTER else None
        if better and now - self._follows_since < BACK:
            self.reason = _text(unfollowed) if unfollowed else self.reason
            return None
        self.reason = ""
        return RECOVERED if better or not unfollowed else ALONE

    def _leave(self, unfollowed: str) -> str:
        self.reason = _text(unfollowed)
        return self.reason


def _text(unfollowed: str) -> str:
    return f"it does not follow {unfollowed}; other replicas do"
