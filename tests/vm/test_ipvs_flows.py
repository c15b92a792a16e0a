"""UDP flows of a Service that was deleted while no agent ran, behind real virtual servers."""

from __future__ import annotations

from contextlib import closing

import pytest

from deltaplane.forwarding import FrontendKind, ServiceForwarding, Target
from nodeagent.conntrack.cleaner import Cleaner
from nodeagent.conntrack.places import Place
from nodeagent.conntrack.table import NetlinkTable
from nodeagent.dataplane.commit_hooks import Flows, Wanted
from tests.fakes.conntrack import Tracked
from tests.kernel.conntrack_support import insert, listed
from tests.kernel.test_conntrack_flows import entries_of
from tests.unit.nodeagent.dataplane.ipvs.cases import packed
from tests.vm.ipvs_support import dataplane
from tests.vm.services import addresses, entry, service, vip
from tools.lab.client import Connection
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Host, Node, Pod


def start(node: Node, *services: ServiceForwarding) -> None:
    """An agent starts, hears of these Services, cleans, and ends."""
    with node.space.entered():
        table = NetlinkTable()
    swept: list[str] = []
    with closing(table), dataplane(node.space) as made:
        flows = Flows(cleaner := Cleaner(table, lambda result: swept.append(result.error)))
        flows.adopt(made)
        flows.want(Wanted(services, addresses(node), complete=True))
        flows.committed(made.apply(services, addresses(node), complete=True), 0.0)
        cleaner.clean()
    assert not any(swept)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", ["cluster IP", "node port"])
def test_they_go_at_the_start_and_not_before(
    lab: Fabric, node: Node, serving: EchoServers, family: int, kind: str
) -> None:
    """J3, J4; a restart that finds its Service again leaves its flows alone.

    This kernel forgets a flow with its virtual server while IPVS knows of it. Earlier ones do not; and what IPVS does
    not know of, or not any more, stays for as long as it is used. Such entries are put there.
    """
    dns = service(
        entry(FrontendKind.CLUSTER_IP, (family, vip(family), 17, 53), lab.pods[:1]),
        entry(FrontendKind.NODE_PORT, (family, "", 17, 30053), lab.pods[:1]),
    )
    start(node, dns)
    client: Pod | Host = node.clients[0]
    to, port = vip(family), 53
    if kind == "node port":
        client, to, port = lab.outside[0], node.address(family), 30053
    source, pod = (packed(client.address(family)), 4053), Target(packed(lab.pods[0].address(family)), 8080)
    elsewhere = packed(lab.nodes[1].address(family))
    left = Tracked(source, Place(packed(to), port), pod)
    others = Tracked(source, Place(elsewhere, port), Target(elsewhere, port))
    insert(node.space, [left, others])
    with Connection(client.space, to, port, "udp") as flow:
        assert flow.open().name == lab.pods[0].name
        before = entries_of(node, flow)
        assert before
        start(node, dns)
        assert entries_of(node, flow) == before
        assert {left, others} <= listed(node.space)
        start(node)
        assert entries_of(node, flow) == []
        assert listed(node.space) & {left, others} == {others}
