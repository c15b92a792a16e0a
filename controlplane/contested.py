"""Services that ask for an address and port that another Service holds: one Event each. Pure; called by `cluster`."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.notices import Notice
from deltaplane.frontends import Frontends
from deltaplane.model import ObjectKey, Service


class Contested:
    """Finds whom to tell. Every agent decides the same by itself (`deltaplane.frontends`)."""

    def __init__(self) -> None:
        self.frontends = Frontends()
        self._open: dict[ObjectKey, None] = {}  # Services whose claims may have changed since the last `notices`

    def take(self, key: ObjectKey, service: Service | None) -> None:
        """The Service is this now; None: it is gone."""
        touched = self.frontends.put(key, service)
        self._open.update(dict.fromkeys((key, *touched)))

    def notices(self) -> Iterator[Notice]:
        """The claims that lose, among the Services that changed since the last call."""
        changed, self._open = self._open, {}
        for key in changed:
            for lost in self.frontends.lost(key):
                yield Notice("", "", "AddressOfAnotherService", str(lost), (key.namespace, key.name))
