"""Warns where pods sit on a bridge and the kernel lets what is bridged pass by its rules.

Two pods on one bridge answer each other directly. The answer to a connection through a Service is then not translated
back, and the client resets it, unless br_netfilter passes bridged packets to conntrack. Links are listed once; then the
kernel reports each new port. `nodeagent.app` runs it in the modes that translate in the kernel.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from deltaplane.logs import event
from nodeagent.linux.netlink import rtnetlink as rt
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.socket import NetlinkProtocol, NetlinkSocket

log = logging.getLogger(__name__)

MODES = frozenset({"nftables", "iptables", "ipvs"})
SETTINGS = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")


class Bridges:
    """Of the network namespace of the calling thread. `told`: the warning was given. Raises OSError."""

    def __init__(self, sysctls: Path = Path("/proc/sys/net/bridge")) -> None:
        self.told = False
        self._sysctls = sysctls
        self._socket = NetlinkSocket(NetlinkProtocol.ROUTE, (rt.GROUP_LINK,))
        self._list()

    def fileno(self) -> int:
        return self._socket.fileno()

    def hear(self) -> None:
        """Reads what the kernel reported; warns once if a port of a bridge is among it. Never raises."""
        whole = False
        while not self.told and not whole:
            try:
                found, whole = self._socket.heard()
                if not whole:
                    self._list()
            except OSError as error:
                log.warning("bridges are not watched any more: %s", os.strerror(error.errno or 0))
                self.told = True
                return
            port = next((port for data in found for port in ports(data)), "")
            if port:
                self._consider(port)

    def close(self) -> None:
        self._socket.close()

    def _list(self) -> None:
        self._socket.send(wire.frame(rt.GET_LINK, wire.REQUEST | wire.DUMP, 1, rt.all_links()))

    def _consider(self, port: str) -> None:
        off = [name for name in SETTINGS if not self._on(name)]
        if not off:
            return
        self.told = True
        settings = " ".join(f"net.bridge.{name}=1" for name in off)
        event(
            log, logging.WARNING, "a bridge has ports here, and what it bridges passes by the rules: a pod has no "
            "answer from a Service's endpoint on the same bridge", port=port,
            advice=f"load the module br_netfilter and set {settings}, unless no pods are on bridges",
        )  # fmt: skip

    def _on(self, name: str) -> bool:
        try:
            return int((self._sysctls / name).read_text()) != 0
        except (OSError, ValueError):
            return False


def ports(data: bytes) -> Iterator[str]:
    """The names of the links in these messages of rtnetlink that are ports of a bridge. Pure."""
    for kind, _, _, body, _ in wire.frames(data):
        if kind == rt.NEW_LINK:
            name, master = rt.read_port(body)
            if master == "bridge":
                yield name


async def watch() -> None:
    """Runs until its task is cancelled."""
    try:
        bridges = Bridges()
    except OSError as error:
        log.warning("bridges are not watched: %s", os.strerror(error.errno or 0))
        await asyncio.Event().wait()
        return
    loop, told = asyncio.get_running_loop(), asyncio.Event()

    def heard() -> None:
        bridges.hear()
        if bridges.told:
            told.set()

    loop.add_reader(bridges.fileno(), heard)
    try:
        await told.wait()
    finally:
        loop.remove_reader(bridges.fileno())
        bridges.close()
    await asyncio.Event().wait()
