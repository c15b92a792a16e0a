"""The certificate that this replica serves now. `keeper` gives it; `identity.listener` hands it to gRPC.

It counts from the next handshake on; connections that are open stay. May be asked by any thread.
"""

from __future__ import annotations

import asyncio
from math import inf

from msgspec import structs

from controlplane.certificates.values import Leaf
from deltaplane import tls
from deltaplane.certificates import Unusable


class Served:
    """A `tls.Source`. `clients`: the file with the CAs of clients' certificates, if it is given."""

    def __init__(self, clients: tls.Kept) -> None:
        self.ready = asyncio.Event()
        self.fault, self.faults = "", 0  # why the CAs are not as they should be now; how often something was so
        self._clients = clients
        self._material: tls.Material | None = None

    def serve(self, leaf: Leaf) -> None:
        """From the next handshake on."""
        self._material = tls.Material(leaf.certificate.encode(), leaf.key.encode(), b"", leaf.ends)
        self.ready.set()

    def get(self) -> tls.Material:
        """Raises `Unusable`: there is none yet."""
        if self._material is None:
            raise Unusable("this replica has no certificate yet")
        return structs.replace(self._material, authorities=self._clients.get().authorities)

    @property
    def demands(self) -> bool:
        return self._clients.demands

    @property
    def complaint(self) -> str:
        return self.fault or self._clients.complaint

    @property
    def failures(self) -> int:
        return self.faults + self._clients.failures

    @property
    def expires(self) -> float:
        return inf if self._material is None else self._material.expires
