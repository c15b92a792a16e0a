"""What `python -m tools.cluster up` says of a cluster: everything that an overlay and a client need to know of it."""

from __future__ import annotations

from tools.cluster import reached
from tools.lab.fabric import Host, Node
from tools.lab.netns import Namespace

OVERLAY = (
    "for an overlay: server=192.168.0.2:50051,192.168.0.3:50051 cluster-cidr=10.180.0.0/16,fd00:10:180::/48"
    " KUBERNETES_SERVICE_HOST=198.51.100.2"
)


def test_it_says_where_the_api_server_and_each_node_are() -> None:
    host = Host("apiserver", Namespace("api"), "198.51.100.2", "2001:db8:c::2")
    nodes = [
        Node(
            f"node-{number}", number, "zone-a", Namespace(f"dp-node-{number}"),
            (f"192.168.0.{1 + number}", f"192.168.1.{1 + number}"),
            (f"2001:db8::{1 + number}", f"2001:db8:1::{1 + number}"),
            (f"10.180.{number}.0/24", f"fd00:10:180:{number}::/64"),
        )
        for number in (1, 2)
    ]  # fmt: skip

    assert list(reached(nodes, host, "https://198.51.100.2:6443")) == [
        "API server: https://198.51.100.2:6443, on a host of its own: 198.51.100.2, 2001:db8:c::2; namespace api",
        "node-1: 192.168.0.2, 2001:db8::2; Pods 10.180.1.0/24, fd00:10:180:1::/64; namespace dp-node-1",
        "node-2: 192.168.0.3, 2001:db8::3; Pods 10.180.2.0/24, fd00:10:180:2::/64; namespace dp-node-2",
        OVERLAY,
    ]
