"""The HTTP server of the metrics page: a thread for each connection, which are few and short.

The library's own has threads without number and waits for a request for ever.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client.exposition import make_wsgi_app
from prometheus_client.registry import CollectorRegistry

from deltaplane.logs import event
from deltaplane.once import Once
from deltaplane.open_files import exhausted
from deltaplane.shares import Shares

log = logging.getLogger(__name__)

CONNECTIONS = 32  # at a time; one address has half of them at most
PAUSE = 0.5  # seconds until another try after a connection that could not be taken
REQUEST_SECONDS = 10.0  # that the page waits for bytes of a request, and for its answer to be taken


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
        """A scrape is no news."""


class PageServer(ThreadingMixIn, WSGIServer):
    """`refused`: connections that were closed because their address had its share."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    refused = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        self._shares, self._lock, self._said = Shares[str](), threading.Lock(), Once[str]()
        super().__init__(*args, **options)

    def get_request(self) -> Any:
        """The next connection. Where there is no file for it, it stays in the queue, and the thread must not spin."""
        try:
            taken = super().get_request()
        except OSError as error:
            if (reason := exhausted(error)) and self._said.note("files"):
                event(
                    log, logging.ERROR, "out of files; it goes on and tries again", task="metrics page", reason=reason
                )
            time.sleep(PAUSE)
            raise
        self._said.clear("files")
        return taken

    def process_request(self, request: Any, client_address: Any) -> None:
        host = str(client_address[0])
        with self._lock:
            fits = self._shares.fits(host, CONNECTIONS - len(self._shares))
            if fits:
                self._shares.enter(host)
            else:
                self.refused += 1
        if not fits:
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._shares.leave(str(client_address[0]))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away or is too slow is no error of ours."""


class _PageServer6(PageServer):
    address_family = socket.AF_INET6


def start(host: str, port: int, registry: CollectorRegistry) -> tuple[PageServer, Callable[[], None]]:
    """Serves the registry in a thread; also returns a function that stops it. Raises OSError."""
    kind = _PageServer6 if ":" in host else PageServer
    server = make_server(host, port, make_wsgi_app(registry), kind, _Handler)
    threading.Thread(target=server.serve_forever, name="metrics-page", daemon=True).start()

    def end() -> None:
        server.shutdown()
        server.server_close()

    return server, end
