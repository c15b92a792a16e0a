"""One node of a cluster and whoever talks to it, in network namespaces: made as the scenarios ask for addresses.

Every address that is not the node's own has a namespace of its own behind a link of its own, whose node end has one and
the same address everywhere: what leaves masqueraded comes from there, also where the node itself is the client. An
address that nobody has leads to a bystander, so that a packet which is left alone is answered too.
Called by the columns with real packets; knows no Services.
"""

from __future__ import annotations

import itertools
from ipaddress import ip_address

from tools.lab import netns
from tools.lab.client import TIMEOUT, connect
from tools.lab.echo import EchoServers, Server
from tools.lab.fabric import Host, forwarding, quiet
from tools.lab.links import Wiring
from tools.lab.netns import Namespace
from tools.lab.rules import run, wipe

BYSTANDER, AT_HOME = "bystander", "bystander-at-home"
_GATEWAYS = {4: "192.168.200.1", 6: "fd00:200::1"}
_NEXT_HOPS = {4: "192.168.200.1", 6: "fe80::1"}
_GREETINGS, _NOBODYS = 10, 9  # tries, and a port where nobody listens
_serial = itertools.count()


class Network:
    """Made empty; `close` deletes everything."""

    def __init__(self) -> None:
        netns.sweep()
        self._tag = f"flows{next(_serial)}"
        self.wiring, self.echo = Wiring(), EchoServers()
        self._hosts: dict[str, Namespace] = {}
        self._links: dict[str, int] = {}
        self._listening: dict[tuple[str, str, int, str], Server] = {}
        self._own: list[str] = []
        self._spaces: list[Namespace] = []
        self.node = self._space("node")
        forwarding(self.node)
        self._bystander = self._space("nobody")
        self._link(self._bystander, "0")
        self.wiring.configure(self._bystander, "eth0", ["192.168.200.254/32", "fd00:200::fffe/128"])
        for family in (4, 6):
            self.wiring.route(self._bystander, "default", _NEXT_HOPS[family], "eth0")
        self.wiring.route(self.node, "default", "192.168.200.254", "h0")
        self.wiring.route(self.node, "default", "fd00:200::fffe", "h0")

    def _space(self, name: str) -> Namespace:
        space = netns.create(f"{self._tag}-{name}")
        self._spaces.append(space)
        quiet(space)
        return space

    def _link(self, space: Namespace, number: str) -> None:
        """A link between a namespace and the node; the node's end is the gateway of both families."""
        near = f"h{number}"
        self.wiring.pair(self.node, near, space, "eth0")
        self.wiring.configure(self.node, near, [f"{_GATEWAYS[4]}/32", f"{_GATEWAYS[6]}/128", "fe80::1/64"])

    def host(self, address: str) -> Namespace:
        """The namespace of whoever has this address: the node's, if it is one of its own."""
        if address in self._own or ip_address(address).is_loopback:
            return self.node
        if address not in self._hosts:
            self._take_from_bystander(address)
            number, family = str(len(self._hosts) + 1), ip_address(address).version
            space = self._space(f"host{number}")
            self._link(space, number)
            self.wiring.configure(space, "eth0", [f"{address}/{32 if family == 4 else 128}"])
            self.wiring.route(space, "default", _NEXT_HOPS[family], "eth0")
            self.wiring.route(self.node, f"{address}/{32 if family == 4 else 128}", address, f"h{number}")
            self._hosts[address] = space
            self._greet(address)
        return self._hosts[address]

    def _take_from_bystander(self, address: str) -> None:
        """Whoever stood by there does so no more: it would answer itself."""
        if self._links.pop(address, None) is not None:
            self._forget(address, self._bystander)
            run(self._bystander, "ip", "address", "del", f"{address}/{128 if ':' in address else 32}", "dev", "lo")

    def has(self, address: str) -> bool:
        """Whether a host of its own has the address."""
        return address in self._hosts

    def is_own(self, address: str) -> bool:
        """Whether it is the node's."""
        return address in self._own or ip_address(address).is_loopback

    def addresses(self) -> tuple[str, ...]:
        """Every address of the node, those of its links and loopback among them."""
        return (*self._own, *_GATEWAYS.values(), "fe80::1", "127.0.0.1", "::1")

    def _greet(self, address: str) -> None:
        """Until a packet gets there: a new link may take a second, and an endpoint silent for so long is set aside."""
        for _ in range(_GREETINGS):
            if connect(self.node, address, _NOBODYS, timeout=0.3).kind != TIMEOUT:
                return

    def machine(self, name: str, address: str) -> Host:
        """A host by name, for a program to run on."""
        return Host(name, self.host(address), address, "")

    def listen(self, address: str, port: int, protocol: str) -> None:
        """An endpoint that answers by its address and port."""
        self._start(
            self.host(address),
            address,
            port,
            protocol,
            f"[{address}]:{port}" if ":" in address else f"{address}:{port}",
        )

    def stand_by(self, address: str, port: int, protocol: str) -> None:
        """Somebody answers there who is not what a Service would lead to."""
        if address in self._own or ip_address(address).is_loopback:
            self._start(self.node, address, port, protocol, AT_HOME)
            return
        if address in self._hosts:
            return
        if address not in self._links:
            self._links[address] = len(self._links)
            self.wiring.configure(self._bystander, "lo", [f"{address}/{128 if ':' in address else 32}"])
        self._start(self._bystander, address, port, protocol, BYSTANDER)

    def _start(self, space: Namespace, address: str, port: int, protocol: str, name: str) -> None:
        key = (space.name, address, port, protocol)
        if protocol != "sctp" and key not in self._listening:
            self._listening[key] = self.echo.start(space, address, port, protocol, name)

    def own(self, addresses: tuple[str, ...]) -> None:
        """The node has these addresses, and no others but those of its links."""
        for address in set(self._own) - set(addresses):
            self._forget(address, self.node)
            run(self.node, "ip", "address", "del", f"{address}/{128 if ':' in address else 32}", "dev", "lo")
        fresh = [address for address in addresses if address not in self._own]
        self.wiring.configure(self.node, "lo", [f"{a}/{128 if ':' in a else 32}" for a in fresh])
        self._own = list(addresses)

    def _forget(self, address: str, space: Namespace) -> None:
        """Ends the servers on an address of a namespace."""
        for key in [key for key in self._listening if key[:2] == (space.name, address)]:
            self.echo.stop(self._listening.pop(key))

    def clean(self) -> None:
        """No rules and no tracked connections on the node."""
        wipe(self.node)

    def forget_flows(self) -> None:
        """No tracked connections on the node."""
        run(self.node, "conntrack", "-F", check=False)

    def close(self) -> None:
        self.echo.close()
        self.wiring.close()
        for space in self._spaces:
            netns.delete(space)
