"""What ipvs mode leaves when another mode has taken over is let go of in two steps, so that no connection is cut off.

First no new one comes to it, though those that there are go on; `cleanup` follows once they have ended. Called by
`nodeagent.dataplane.modes`, and by `ensure_base` where ipvs mode comes back before that.
"""

from __future__ import annotations

from collections.abc import Iterator

from deltaplane.model import Protocol
from nodeagent.dataplane.ipvs import inventory
from nodeagent.dataplane.ipvs import wire as codec
from nodeagent.dataplane.ipvs.kernel import Channel, Kernel, unavailable
from nodeagent.dataplane.ipvs.names import ADDRESS
from nodeagent.dataplane.ipvs.netlink_batch import NetlinkBatch, Order
from nodeagent.dataplane.ipvs.objects import Held, VirtualKey
from nodeagent.dataplane.ipvs.state import State
from nodeagent.linux.netlink import rtnetlink as rt
from nodeagent.linux.netlink import wire
from nodeagent.linux.tcp_sockets import in_use


def release(kernel: Kernel) -> bool:
    """Whether `cleanup` would cut off connections; no further ones depend on what it removes. Raises KernelUnavailable.

    To be called again, after a moment, until it is False: what was on its way when it was called first has to arrive.
    UDP is not waited for.
    """
    batch, state = NetlinkBatch(kernel), State()
    try:
        inventory.read(batch, state, [family for family in (4, 6) if kernel.has(family)])
        orders = [order for key, held in state.virtuals.items() for order in _weightless(key, held)]
        if orders:
            batch.send(Channel.IPVS, orders)
            batch.send(Channel.ROUTE, [order for family in (4, 6) for order in _elsewhere(batch, state, family)])
            return True
    except OSError as error:
        raise unavailable("reading what is to be removed", error) from error
    if any(held.active and key.protocol != Protocol.UDP for key, held in state.virtuals.items()):
        return True
    return in_use(element.key for element in state.elements if element.set == ADDRESS)


def resume(batch: NetlinkBatch, state: State) -> None:
    """Takes back what `release` did to addresses, where ipvs mode is in use again; weights come with the Services.

    Else an address that is removed later would stay the node's own. Raises KernelUnavailable.
    """
    weights = [weight for held in state.virtuals.values() for weight in held.reals.values()]
    if weights and not any(weights):
        addresses = [element.key for element in state.elements if element.set == ADDRESS]
        orders = [order for address in addresses for order in _here(address, state.link)]
        batch.send(Channel.ROUTE, [*orders, *strays(state)])


def _here(address: bytes, link: int) -> Iterator[Order]:
    if len(address) == 4:
        yield Order(rt.NEW_ROUTE, rt.local(address, link, address), wire.CREATE | rt.REPLACE)
    else:  # with the address the kernel makes its own route again
        given = rt.address(rt.Address(6, address, link))
        yield Order(rt.DEL_ADDRESS, given)
        yield Order(rt.NEW_ADDRESS, given, wire.CREATE | wire.EXCLUSIVE)


def _weightless(key: VirtualKey, held: Held) -> Iterator[Order]:
    """A real server of weight 0 keeps the connections that it has, and gets no more."""
    for target in (target for target, weight in held.reals.items() if weight):
        yield Order(codec.SET_DEST, codec.service(key) + codec.dest(key.family, target, 0))


def _elsewhere(batch: NetlinkBatch, state: State, family: int) -> Iterator[Order]:
    """The node's own connections to our addresses come from another one, which stays when the link goes.

    The kernel takes an address that is the node's own for the source as well, whoever translates the destination.
    """
    source = _source(batch, state, family)
    addresses = [element.key for element in state.elements if element.set == ADDRESS and element.family == family]
    for address in addresses if source else ():
        if family == 4:
            yield Order(rt.NEW_ROUTE, rt.local(address, state.link, source), wire.CREATE | rt.REPLACE)
        else:  # the kernel's own cannot be replaced, and a new one not be made on a link that is down
            yield Order(rt.NEW_ROUTE, rt.local(address, rt.LOOPBACK, source), wire.CREATE | rt.REPLACE)
            yield Order(rt.DELETE_ROUTE, rt.local(address, state.link))


def _source(batch: NetlinkBatch, state: State, family: int) -> bytes:
    """The address that the kernel takes towards an endpoint; empty where there is none."""
    targets = (target for key, held in state.virtuals.items() if key.family == family for target in held.reals)
    for target in targets:
        try:
            asked = Order(rt.GET_ROUTE, rt.route(target.address))
            body = next(batch.ask(Channel.ROUTE, asked, listing=False))
        except OSError:
            continue  # there is no way to it at the moment
        return rt.read_source(body)
    return b""


def strays(state: State) -> list[Order]:
    """What `release` made that does not go with the link."""
    addresses = (element.key for element in state.elements if element.set == ADDRESS and element.family == 6)
    bodies = (rt.local(address, rt.LOOPBACK) + rt.metric() for address in addresses)
    return [Order(rt.DELETE_ROUTE, body) for body in bodies]
