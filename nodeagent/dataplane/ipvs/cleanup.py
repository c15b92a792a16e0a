"""Taking away what ipvs mode leaves, ours and kube-proxy's, and nothing else: both mark it in the same way.

Rules first, since they hold the sets; then virtual servers, which the sets and the link tell to be ours; then those.
"""

from __future__ import annotations

from collections.abc import Sequence

from nodeagent.dataplane.ipvs import inventory, names, sets
from nodeagent.dataplane.ipvs import wire as codec
from nodeagent.dataplane.ipvs.kernel import Channel, Kernel, unavailable
from nodeagent.dataplane.ipvs.names import DEVICE
from nodeagent.dataplane.ipvs.netlink_batch import NetlinkBatch, Order
from nodeagent.dataplane.ipvs.release import strays
from nodeagent.dataplane.ipvs.rule_changes import NOTHING, Kept, removal
from nodeagent.dataplane.ipvs.state import State, excluded
from nodeagent.dataplane.local_traffic import Network
from nodeagent.linux.netlink import rtnetlink as rt


def cleanup(kernel: Kernel, keep: Kept = NOTHING, exclude: Sequence[Network] = ()) -> tuple[str, ...]:
    """Removes and names what was there. Raises KernelUnavailable.

    `keep`: chains that another mode needs, such as KUBE-SERVICES; `exclude`: networks whose virtual servers
    stay. Virtual servers of others at addresses of the link go with it: no other program owns that link.
    """
    batch, state = NetlinkBatch(kernel), State()
    families = [family for family in (4, 6) if kernel.has(family)]
    try:
        found = inventory.read(batch, state, families)
        gone = [name for family in families for name in _rules(kernel, family, keep)]
    except OSError as error:
        raise unavailable("reading what is to be removed", error) from error
    servers = [key for key in state.virtuals if not excluded(key, exclude)]
    batch.send(Channel.IPVS, [Order(codec.DEL_SERVICE, codec.service(key)) for key in servers])
    if servers:
        gone.append(f"{len(servers)} virtual servers")
    if state.link:
        batch.send(Channel.ROUTE, [Order(rt.DEL_LINK, rt.link(DEVICE))])
        batch.send(Channel.ROUTE, strays(state))
        gone.append(f"link {DEVICE}")
    missing = set(found.missing)
    there = [(family, name) for family in families for name in names.TYPES if (family, name) not in missing]
    return (*gone, *_sets(batch, there))


def _rules(kernel: Kernel, family: int, keep: Kept) -> list[str]:
    text, chains = removal(kernel.save(family), keep)
    if text:
        kernel.restore(family, text)
    return [f"IPv{family} chain {chain}" for chain in chains]


def _sets(batch: NetlinkBatch, there: Sequence[tuple[int, str]]) -> list[str]:
    """One that a rule of another program names stays."""
    orders = [Order(sets.DESTROY, sets.about(names.named(*found))) for found in there]
    refused = batch.send(Channel.SETS, orders)
    return [f"set {names.named(*found)}" for place, found in enumerate(there) if place not in refused]
