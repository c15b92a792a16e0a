"""The Kubernetes client's port-forward, with two things it lacks: its thread fails quietly, and the kubelet is heard.

The client's thread (`kubernetes.stream.ws_client.PortForward`, 37.0) lets through what its sockets raise:
ConnectionResetError where the near side closes before it has read all, BrokenPipeError where the API server is gone.
Python then writes a traceback to the operator's terminal, and both sockets stay open.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from kubernetes.stream import portforward, ws_client


class Carrier(ws_client.PortForward):  # type: ignore[misc] # the client has no types
    """One connection to one port. Whatever ends its thread is in `failure`, and closes the sockets on both sides."""

    failure: Exception | None = None

    def _proxy(self) -> None:
        try:
            super()._proxy()
        except Exception as error:  # noqa: BLE001 - of sockets, websockets, or frames that nobody expects
            self.failure = error
        for port in self.local_ports.values():
            port.python.close()
        with suppress(OSError):
            self.websocket.shutdown()  # not `close`: that waits for the peer's answer


class Connection:
    """`socket`: the near end. Raises what the client and its websockets raise when it is made."""

    def __init__(self, method: Callable[..., Any], pod: str, namespace: str, port: int) -> None:
        # `portforward` is the client's partial of the function that opens a websocket by one of its methods.
        opened = portforward.func(partial(_opened, port), None, method, pod, namespace, ports=str(port))
        self._carrier, self._port = opened, port
        self.socket = opened.socket(port)
        self.socket.setblocking(True)

    def failure(self) -> Exception | None:
        """What the kubelet says of the port, or what ended the connection."""
        said = " ".join((self._carrier.error(self._port) or "").split())
        return ConnectionError(said) if said else self._carrier.failure


def _opened(port: int, configuration: Any, _: str, url: str, **given: Any) -> Carrier:
    """As `ws_client.portforward_call`; what fails is raised as it is."""
    url = ws_client.get_websocket_url(url, given.get("query_params"))
    return Carrier(ws_client.create_websocket(configuration, url, given.get("headers")), [port])
