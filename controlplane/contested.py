"""Which Services ask for an address and port that another one has: an Event for each. Pure; called by `cluster`."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.notices import Notice
from deltaplane.frontends import Frontends
from deltaplane.model import ObjectKey, Service


class Contested:
    """Every agent decides the same by itself (`deltaplane.frontends`); here is only who has to hear of it."""

    def __init__(self) -> None:
        self._frontends = Frontends()
        self._open: dict[ObjectKey, None] = {}  # whose right may have changed since the last `notices`

    def take(self, key: ObjectKey, service: Service | None) -> None:
        """The Service is this now; None: it is gone."""
        touched = self._frontends.put(key, service)
        self._open.update(dict.fromkeys((key, *touched)))

    def notices(self) -> Iterator[Notice]:
        """What is asked for in vain, of those that changed since the last call."""
        changed, self._open = self._open, {}
        for key in changed:
            for lost in self._frontends.lost(key):
                yield Notice("", "", "AddressOfAnotherService", str(lost), (key.namespace, key.name))
