"""Taking away what ipvs mode leaves, ours and kube-proxy's, and nothing else: both mark it in the same way.

Rules first, since they hold the sets; then virtual servers, which the sets and the link tell to be ours; then those.
"""

from __future__ import annotations

from collections.abc import Sequence

from nodeagent.dataplane.ipvs import inventory, names, rules, sets
from nodeagent.dataplane.ipvs import wire as codec
from nodeagent.dataplane.ipvs.kernel import Channel, Kernel, unavailable
from nodeagent.dataplane.ipvs.names import DEVICE
from nodeagent.dataplane.ipvs.netlink_batch import Courier, Order
from nodeagent.dataplane.ipvs.release import strays
from nodeagent.dataplane.ipvs.settings import Network
from nodeagent.dataplane.ipvs.state import State, excluded
from nodeagent.linux.netlink import rtnetlink as rt


def cleanup(kernel: Kernel, keep: rules.Kept = rules.NOTHING, exclude: Sequence[Network] = ()) -> tuple[str, ...]:
    """Removes and names what was there. Raises KernelUnavailable.

    `keep`: chains that another mode needs, such as KUBE-SERVICES; `exclude`: networks whose virtual servers
    stay. Where virtual servers of others are at addresses of the link, they go with it: that link is nobody else's.
    """
    courier, state = Courier(kernel), State()
    families = [family for family in (4, 6) if kernel.has(family)]
    try:
        found = inventory.read(courier, state, families)
        gone = [name for family in families for name in _rules(kernel, family, keep)]
    except OSError as error:
        raise unavailable("reading what is to be removed", error) from error
    servers = [key for key in state.virtuals if not excluded(key, exclude)]
    courier.send(Channel.IPVS, [Order(codec.DEL_SERVICE, codec.service(key)) for key in servers])
    if servers:
        gone.append(f"{len(servers)} virtual servers")
    if state.link:
        courier.send(Channel.ROUTE, [Order(rt.DEL_LINK, rt.link(DEVICE))])
        courier.send(Channel.ROUTE, strays(state))
        gone.append(f"link {DEVICE}")
    missing = set(found.missing)
    there = [(family, name) for family in families for name in names.TYPES if (family, name) not in missing]
    return (*gone, *_sets(courier, there))


def _rules(kernel: Kernel, family: int, keep: rules.Kept) -> list[str]:
    text, chains = rules.removal(kernel.save(family), keep)
    if text:
        kernel.restore(family, text)
    return [f"IPv{family} chain {chain}" for chain in chains]


def _sets(courier: Courier, there: Sequence[tuple[int, str]]) -> list[str]:
    """One that a rule of somebody else names stays."""
    orders = [Order(sets.DESTROY, sets.about(names.named(*found))) for found in there]
    refused = courier.send(Channel.SETS, orders)
    return [f"set {names.named(*found)}" for place, found in enumerate(there) if place not in refused]
