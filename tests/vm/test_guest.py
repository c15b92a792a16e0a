"""The guest has what the host lacks: IPVS, dummy links, SCTP sockets; and the laboratory works there."""

from __future__ import annotations

import socket
from pathlib import Path

from tools.lab.client import connect
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric


def test_the_kernel_has_ipvs_and_sctp() -> None:
    assert Path("/proc/net/ip_vs").exists()
    socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()


def test_pods_of_two_nodes_reach_each_other(lab: Fabric, echo: EchoServers) -> None:
    far = lab.nodes[1].servers[0]
    echo.start_pod(far, 8099)  # others serve 8080 for longer
    for address in (far.v4, far.v6):
        assert connect(lab.nodes[0].clients[0].space, address, 8099).name == far.name
