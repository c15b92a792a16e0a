"""What the ipvs tests share: a dataplane in a node's namespace, the stock tools there, a clean slate."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from nodeagent.dataplane.ipvs.dataplane import IpvsDataplane
from nodeagent.dataplane.ipvs.kernel import NetlinkKernel
from nodeagent.dataplane.ipvs.names import DEVICE
from nodeagent.dataplane.ipvs.settings import Settings
from nodeagent.dataplane.ipvs.watch import NetlinkWatch
from nodeagent.dataplane.outcome import Commit
from tools.lab.fabric import CLUSTER_CIDRS
from tools.lab.netns import Namespace

SETTINGS = Settings(CLUSTER_CIDRS)


class Placed(IpvsDataplane):
    """A dataplane whose calls are made inside a namespace: its programs and settings belong to the calling thread."""

    def __init__(self, space: Namespace, settings: Settings = SETTINGS) -> None:
        with space.entered():
            kernel, watch = NetlinkKernel(), NetlinkWatch()
        super().__init__(kernel, settings, watch)
        self.space = space

    def _write(self, *, again: bool) -> Commit:
        with self.space.entered():
            return super()._write(again=again)

    def drifted(self) -> bool:
        with self.space.entered():
            return super().drifted()


@contextmanager
def dataplane(space: Namespace, settings: Settings = SETTINGS) -> Iterator[Placed]:
    """A started dataplane in this namespace."""
    made = Placed(space, settings)
    with space.entered():
        made.start()
    try:
        yield made
    finally:
        made.close()


def run(space: Namespace, *command: str, check: bool = True) -> str:
    """A program's output inside a namespace."""
    with space.entered():
        return subprocess.run(command, capture_output=True, text=True, check=check).stdout


_WIPE = f"""
for tool in iptables ip6tables; do
  printf '*nat\nCOMMIT\n*filter\nCOMMIT\n*mangle\nCOMMIT\n' | $tool-restore
done
ipvsadm -C
ipset destroy
ip link del {DEVICE} 2>/dev/null
ip addr del 169.254.86.1/32 dev lo 2>/dev/null
ip addr del fd64:656c:7461::1/128 dev lo 2>/dev/null
conntrack -F 2>/dev/null
true
"""


def wipe(space: Namespace) -> None:
    """No virtual server, rule, set or link of any mode is left."""
    run(space, "sh", "-c", _WIPE)


def answers_ping(space: Namespace, address: str) -> bool:
    """Whether an IPv4 address answers an ICMP echo within two seconds."""
    request = struct.pack("!BBHHH", 8, 0, 0xF7FD, 1, 1)  # type, code, checksum, number, sequence
    with space.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.settimeout(2)
        sock.sendto(request, (address, 0))
        try:
            return sock.recv(256)[20] == 0
        except TimeoutError:
            return False
