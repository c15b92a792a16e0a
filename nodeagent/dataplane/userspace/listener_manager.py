"""Which listeners are open and what each was told last; only what differs goes to the proxy. `dataplane` asks.

A listener that nothing needs any more is closed after the redirects to it are gone (`leave`, then `dismiss`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from deltaplane.forwarding import Verdict
from nodeagent.dataplane.frontend_key import is_node_port
from nodeagent.dataplane.userspace import tracker as t
from nodeagent.dataplane.userspace.plan import Line, Plan, Port, Route
from nodeagent.dataplane.userspace.proxy import Order, Proxy
from nodeagent.dataplane.userspace.tracker import Placement, Value

_REFUSALS = {Verdict.REJECT: "reject", Verdict.DROP: "drop"}
_MAPS = {  # by whether it is a node port and whether for sources outside: what leads to a listener, what refuses
    (False, False): (t.REDIRECTS, t.REFUSALS),
    (False, True): (t.OUTSIDE, t.REFUSALS_OUTSIDE),
    (True, False): (t.NODE_PORTS, t.NODE_REFUSALS),
    (True, True): (t.NODE_PORTS_OUTSIDE, t.NODE_REFUSALS_OUTSIDE),
}
Standing = Mapping[bytes, Placement]


class ListenerManager:
    """Listeners of the proxy; `place` gives a family's own address for them, packed."""

    def __init__(self, proxy: Proxy, place: Callable[[int], bytes]) -> None:
        self.unopened: dict[Port, str] = {}  # and why
        self._proxy, self._place = proxy, place
        self._lines: dict[Port, Line] = {}  # what open listeners were told
        self._values: dict[Port, bytes] = {}  # what leads to them
        self._leaving: dict[Port, None] = {}

    def leave(self, ports: Iterable[Port]) -> None:
        """These are not needed any more."""
        for port in ports:
            self._leaving[port] = None
            self.unopened.pop(port, None)

    def serve(self, plans: Iterable[Plan], standing: Standing) -> None:
        """Opens what is missing, where redirects that stand lead already if possible, and tells lists that differ."""
        orders: dict[Port, Order] = {}
        for wanted in plans:
            for port, line in wanted.lines.items():
                self._leaving.pop(port, None)
                if self._lines.get(port) != line:
                    number = 0 if port in self._lines else _number(port, wanted, standing)
                    orders[port] = Order(line, (self._place(port.family), number))
        for port, opened in self._proxy.serve(orders).items():
            self._opened(port, orders[port], opened)

    def _opened(self, port: Port, order: Order, number: int | str) -> None:
        if isinstance(number, str):
            self.unopened[port] = number
            return
        self.unopened.pop(port, None)
        self._lines[port] = order.line
        self._values[port] = order.place[0] + number.to_bytes(2, "big") + b"\0\0"

    def dismiss(self) -> None:
        """Closes those that left."""
        for port in self._leaving:
            self._lines.pop(port, None)
            self._values.pop(port, None)
        self._proxy.retire(self._leaving)
        self._leaving.clear()

    def value(self, port: Port) -> bytes:
        """What leads to a listener; empty: it is not open."""
        return self._values.get(port, b"")

    def line_at(self, value: bytes) -> Line | None:
        """What the open listener that a redirect leads to was told; None: nobody of this process listens there."""
        return next((self._lines[port] for port, held in self._values.items() if held == value), None)

    def placements(self, wanted: Plan) -> dict[bytes, Placement]:
        """What is to stand for a plan; frontends whose listener could not be opened are left out."""
        found: dict[bytes, Placement] = {}
        for slot, route in wanted.routes.items():
            values = tuple((name, self._value(end)) for name, end in _ends(slot, route))
            if all(values for _, values in values):
                found[slot] = tuple(sorted(values))
        return found

    def _value(self, end: Port | Verdict) -> Value:
        return self._values.get(end, b"") if isinstance(end, Port) else _REFUSALS[end]


def _ends(slot: bytes, route: Route) -> Iterator[tuple[str, Port | Verdict]]:
    """The maps a frontend stands in, and what it leads to."""
    for outside, end in enumerate(route):
        if end is not None:
            yield _MAPS[is_node_port(slot), bool(outside)][not isinstance(end, Port)], end


def _number(port: Port, wanted: Plan, standing: Standing) -> int:
    """The number of the listener that redirects of this port lead to already; 0: none does."""
    for slot, route in wanted.routes.items():
        held = dict(standing.get(slot, ()))
        for name, end in _ends(slot, route):
            value = held.get(name)
            if end == port and isinstance(value, bytes):
                return int.from_bytes(value[-4:-2], "big")
    return 0
