"""What the program depends on besides the Services: the operator's choices."""

from __future__ import annotations

from nodeagent.dataplane.local_traffic import Detector


class Settings(Detector, frozen=True):
    """How local traffic is told, what is masqueraded."""

    table: str = "deltaplane"  # the table's name in every family
