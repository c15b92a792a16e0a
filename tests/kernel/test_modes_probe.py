"""The probes on a real kernel: they say yes, and leave no trace."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from nodeagent.dataplane.modes import backend
from nodeagent.dataplane.nftables.probe import probe
from nodeagent.errors import DataplaneUnavailable
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft.kernel import NetlinkKernel
from tests.kernel.nftables_support import nft
from tools.lab.fabric import Fabric


def test_nftables_is_tried_without_anybody_noticing(clean: Fabric) -> None:
    space = clean.nodes[0].space
    with space.entered():
        listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
        listener.bind((0, 1 << 6))  # NFNLGRP_NFTABLES
        probe()
        with pytest.raises(BlockingIOError):
            listener.recv(1 << 16, socket.MSG_DONTWAIT)
        listener.close()
    assert nft(space, "list", "ruleset") == ""


def test_a_kernel_that_refuses_one_message_is_told_from_one_that_takes_all(clean: Fabric) -> None:
    class Refusing(NetlinkKernel):
        def commit(self, batch: bytes, first: int, last: int) -> list[wire.Reply]:
            broken = bytearray(batch)
            where = broken.index(b"\0fib\0") + 1
            broken[where : where + 3] = b"non"
            return super().commit(bytes(broken), first, last)

    space = clean.nodes[0].space
    with space.entered():
        kernel = Refusing()
    with pytest.raises(DataplaneUnavailable, match=os.strerror(errno.ENOENT)):
        probe(kernel)
    kernel.close()
    assert nft(space, "list", "ruleset") == ""


@pytest.mark.parametrize("mode", ["nftables", "iptables", "userspace"])
def test_every_mode_that_this_machine_has_is_tried_leaving_nothing(clean: Fabric, mode: str) -> None:
    space = clean.nodes[0].space
    with space.entered():
        backend(mode).probe()
    assert nft(space, "list", "ruleset") == ""
