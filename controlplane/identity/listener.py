"""Where peers reach this replica: TLS, a unix socket, or plain text. Bound by `server`; its figures are on the page."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import grpc.aio
from prometheus_client.registry import Collector

from controlplane.certificates.served import Served
from controlplane.errors import ControlPlaneError
from controlplane.identity.flags import Security
from controlplane.identity.peer import Way
from deltaplane import tls
from deltaplane.certificates import Unusable
from deltaplane.flags import listening
from deltaplane.logs import event
from deltaplane.sockets import private, taken
from deltaplane.tls_figures import Certificates

log = logging.getLogger(__name__)


LOOPBACK = ("127.0.0.1", "[::1]")


class Listener:
    """One address (HOST:PORT or unix:///PATH)."""

    def __init__(
        self, listen: str, security: Security | None = None, served: Served | None = None, *, loopback: bool = False
    ) -> None:
        """`served`: the certificate of this replica's own, where `--certificates=own`. `loopback`: there too."""
        self._listen = listen
        self._loopback = loopback
        self._security = security or Security()
        self._served = served
        files = tls.Kept(self._security.files) if self._security.way is Way.TLS else None
        self.kept: tls.Source | None = served or files

    @property
    def ready(self) -> bool:
        """Whether there is all that it takes to bind; `wait` waits for that."""
        return self._served is None or self._served.ready.is_set()

    async def wait(self) -> None:
        if self._served is not None:
            await self._served.ready.wait()

    @property
    def collectors(self) -> Iterator[Collector]:
        """What belongs on the metrics page."""
        if self.kept is not None:
            yield Certificates(self.kept)

    def bind(self, server: grpc.aio.Server) -> None:
        """Raises `ControlPlaneError`, which says what cannot be bound, or which file cannot be used."""
        try:
            bound = self._bind(server)
        except Unusable as error:
            raise ControlPlaneError(str(error)) from error
        except RuntimeError as error:
            raise ControlPlaneError(self._cannot_bind()) from error
        if not bound:
            raise ControlPlaneError(self._cannot_bind())
        for host in LOOPBACK if self._loopback else ():
            self._bind_loopback(server, f"{host}:{bound}")

    def _bind_loopback(self, server: grpc.aio.Server, address: str) -> None:
        """Where it cannot be had, that is logged: agents do not need it."""
        try:
            there = self._add(server, address)
        except RuntimeError:
            there = 0
        if not there:
            event(log, logging.WARNING, "not on loopback: kubectl port-forward does not reach it", address=address)

    def _add(self, server: grpc.aio.Server, address: str) -> int:
        if self.kept is not None:
            return server.add_secure_port(address, tls.server_credentials(self.kept))
        return server.add_insecure_port(address)

    def _bind(self, server: grpc.aio.Server) -> int:
        if self.kept is not None:
            return self._add(server, listening(self._listen))
        if self._security.way is Way.SOCKET:
            return self._bind_socket(server)
        port = self._add(server, listening(self._listen))
        event(log, logging.INFO, "plain text: whoever reaches this address is believed", listen=self._listen)
        return port

    def _bind_socket(self, server: grpc.aio.Server) -> int:
        """Whoever may open the file may do everything."""
        if taken(self._listen):
            raise ControlPlaneError(f"--listen={self._listen}: another program listens there")
        with private():
            return server.add_insecure_port(self._listen)

    def _cannot_bind(self) -> str:
        if self._security.way is Way.SOCKET:
            return f"--listen={self._listen}: cannot bind; is there such a folder, and may this user write in it?"
        return f"--listen={self._listen}: cannot bind; is the port taken, or the address not this machine's?"

    def look(self) -> None:
        """Has files that changed told of, though nobody connects."""
        if self.kept is not None and self.ready:
            self.kept.get()

    def ended(self) -> bool:
        """Whether the certificate in use has ended: no client believes this replica then."""
        return self.kept is not None and self.kept.expires <= time.time()
