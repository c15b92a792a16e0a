"""Links, addresses and routes inside namespaces, over netlink. Called by `fabric`; knows no plan, only pieces.

Its sockets bring an event loop along, so `Wiring` does its work in a thread of its own and may be called from anywhere.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pyroute2 import IPRoute

from tools.lab.netns import Namespace

_NODAD = 0x02  # linux/if_addr.h IFA_F_NODAD
_BRIDGE_MAC = "02:00:00:00:00:01"  # every bridge is alone on its segment
_T = TypeVar("_T")


class Wiring:
    """One route socket per namespace, opened at first use and kept."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, "wiring")
        self._sockets: dict[str, IPRoute] = {}

    def _do(self, act: Callable[[], _T]) -> _T:
        return self._worker.submit(act).result()

    def _ip(self, space: Namespace) -> Any:
        if space.name not in self._sockets:
            with space.entered():
                self._sockets[space.name] = IPRoute()
        return self._sockets[space.name]

    def _index(self, space: Namespace, name: str) -> int:
        found = self._ip(space).link_lookup(ifname=name)
        if not found:
            raise LookupError(f"{space.name}: no link {name}")
        return int(found[0])

    def _set_up(self, space: Namespace, name: str) -> int:
        index = self._index(space, name)
        self._ip(space).link("set", index=index, state="up")
        return index

    def pair(self, near: Namespace, near_name: str, far: Namespace, far_name: str) -> None:
        """A veth pair, both ends up."""

        def act() -> None:
            peer = {"ifname": far_name, "net_ns_fd": far.name}
            self._ip(near).link("add", ifname=near_name, kind="veth", peer=peer)
            self._set_up(near, near_name)
            self._set_up(far, far_name)

        self._do(act)

    def bridge(self, space: Namespace, name: str, addresses: Iterable[str]) -> None:
        """With a link address of its own: else it takes its lowest port's, and neighbours lose it with that port."""

        def act() -> None:
            options = {"kind": "bridge", "address": _BRIDGE_MAC, "br_stp_state": 0, "br_forward_delay": 0}
            self._ip(space).link("add", ifname=name, **options)

        self._do(act)
        self.configure(space, name, addresses)

    def join_bridge(self, space: Namespace, port: str, bridge: str, *, hairpin: bool = False) -> None:
        """`hairpin`: a frame may leave by the port it came from, so that a pod reaches itself through a Service."""

        def act() -> None:
            index = self._index(space, port)
            self._ip(space).link("set", index=index, master=self._index(space, bridge))
            if hairpin:
                self._ip(space).brport("set", index=index, mode=1)

        self._do(act)

    def configure(self, space: Namespace, name: str, addresses: Iterable[str]) -> None:
        """Loopback and the link up, with these addresses (`address/length`)."""

        def act() -> None:
            self._set_up(space, "lo")
            index = self._set_up(space, name)
            for address in addresses:
                plain, _, length = address.partition("/")
                options: dict[str, Any] = {"index": index, "address": plain, "prefixlen": int(length)}
                if ":" in plain:
                    options["flags"] = _NODAD
                self._ip(space).addr("add", **options)

        self._do(act)

    def route(self, space: Namespace, prefix: str, gateway: str, link: str) -> None:
        """Adds or replaces the route to `prefix` (or "default"); the gateway is taken to be on the link."""
        family = socket.AF_INET6 if ":" in gateway else socket.AF_INET

        def act() -> None:
            self._ip(space).route(
                "replace", dst=prefix, gateway=gateway, oif=self._index(space, link), family=family, flags=["onlink"]
            )

        self._do(act)

    def blackhole(self, space: Namespace, prefix: str) -> None:
        """What has no other route is dropped silently: lowest of all in preference."""
        self._do(lambda: self._ip(space).route("add", type="blackhole", dst=prefix, priority=0xFFFFFF))

    def forget(self, space: Namespace) -> None:
        """Closes the namespace's socket; needed before the namespace can go."""
        ip = self._sockets.pop(space.name, None)
        if ip is not None:
            self._do(ip.close)

    def close(self) -> None:
        self._do(lambda: [ip.close() for ip in self._sockets.values()])
        self._sockets.clear()
        self._worker.shutdown()
