"""What is refused, broken or silent is told, holds nothing else back and is tried again: on kernels in memory."""

from __future__ import annotations

import errno
import socket

import pytest

from nodeagent.dataplane.userspace.plan import Port
from nodeagent.dataplane.userspace.proxy import Proxy
from nodeagent.dataplane.userspace.tracker import REDIRECTS
from nodeagent.errors import KernelUnavailable
from nodeagent.linux.netlink.wire import Reply
from tests.fakes.iptables.memory import MemoryIptables
from tests.fakes.nftables.memory import MemoryKernel
from tests.unit.nodeagent.dataplane.userspace.support import (
    LOCAL,
    NODE,
    A,
    Iptables,
    Make,
    Nft,
    entry,
    leads_to,
    running,
    service,
    target,
    vip,
)


def test_what_cannot_be_is_reported_alone(make: Make) -> None:
    redirects = make()
    with running(redirects) as made:
        odd = service(entry(vip()._replace(address=b"\1\2\3"), A), name="odd")
        endpoint = service(entry(vip(9), A._replace(address=b"")), name="endpoint")
        done = made.apply([odd, endpoint, service(entry(vip(), A))], NODE, complete=True)
        assert [(failed.key.name, failed.code) for failed in done.failed] == [
            ("odd", "INVALID_OBJECT"), ("endpoint", "INVALID_OBJECT"),
        ]  # fmt: skip
        assert leads_to(redirects)
        assert made.pending()
        made.apply([], complete=True)
        assert not made.pending()


def test_a_port_that_cannot_be_opened_is_reported_and_tried_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    redirects = make()
    with running(redirects) as made:
        with monkeypatch.context() as broken:

            def full(*_: object) -> socket.socket:
                raise OSError(errno.EMFILE, "Too many open files")

            broken.setattr("nodeagent.dataplane.userspace.sockets.listening", full)
            done = made.apply([service(entry(vip(), A))], NODE, complete=True)
            assert [failed.code for failed in done.failed] == ["RESOURCE_LIMIT"]
            assert made.pending()
        assert made.apply([]).failed == ()
        assert leads_to(redirects)
        assert not made.pending()


def test_a_kernel_that_refuses_all_is_asked_again() -> None:
    kernel = MemoryKernel()
    redirects = Nft(LOCAL, kernel)
    with running(redirects) as made:
        kernel.refusing = errno.EPERM
        with pytest.raises(KernelUnavailable, match="it is retried"):
            made.apply([service(entry(vip(), A))], NODE, complete=True)
        assert made.pending()
        kernel.refusing = 0
        assert made.apply([]).elements
        assert leads_to(redirects)


def test_what_was_written_before_the_kernel_refused_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodeagent.dataplane.userspace.nft.PER_BATCH", 1)
    kernel = MemoryKernel()
    wanted = [service(entry(vip(n), A), name=f"s{n}") for n in range(1, 6)]
    with running(redirects := Nft(LOCAL, kernel)) as made:
        made.apply([], NODE, complete=True)
        commit, commits = kernel.commit, list[bytes]()

        def busy(batch: bytes, first: int, last: int) -> list[Reply]:
            commits.append(batch)
            kernel.refusing = errno.ENOMEM if len(commits) == 5 else 0
            return commit(batch, first, last)

        monkeypatch.setattr(kernel, "commit", busy)
        with pytest.raises(KernelUnavailable, match="it is retried"):
            made.apply(wanted)
        assert leads_to(redirects, 1)
        assert made.pending()
        assert made.apply([]).failed == ()
        assert len(commits) == 5 + 6  # members and frontends of five Services, and the one that was refused twice
        assert all(leads_to(redirects, n) for n in range(1, 6))


def test_a_proxy_that_does_not_answer_is_asked_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> dict[Port, int | str]:
        raise KernelUnavailable("userspace: the proxy does not answer; it is retried")

    redirects = make()
    with running(redirects) as made:
        with monkeypatch.context() as broken:
            broken.setattr(Proxy, "serve", silent)
            with pytest.raises(KernelUnavailable, match="does not answer"):
                made.apply([service(entry(vip(), A))], NODE, complete=True)
            assert made.pending()
        assert made.apply([]).failed == ()
        assert leads_to(redirects)
        assert not made.pending()


def test_a_machine_without_ipv6_says_so_of_the_services_that_want_it() -> None:
    with running(redirects := Nft(LOCAL, MemoryKernel((4,)))) as made:
        dual = service(entry(vip(), A), entry(vip(family=6), target(9, "::1")))
        done = made.apply([dual], NODE, complete=True)
        assert [(failed.key.name, failed.code) for failed in done.failed] == [("", "UNSUPPORTED")]
        assert leads_to(redirects)
        assert not made.pending()


def test_iptables_that_refuse_one_rule_have_the_others() -> None:
    tools = MemoryIptables()
    with running(redirects := Iptables(LOCAL, tools)) as made:
        tools.poison = {"172.30.0.2/32"}
        done = made.apply([service(entry(vip(n), A), name=f"s{n}") for n in (1, 2, 3)], NODE, complete=True)
        assert [(failed.key.name, failed.code) for failed in done.failed] == [("s2", "KERNEL_REJECTED")]
        assert leads_to(redirects, 1)
        assert leads_to(redirects, 3)
        tools.poison = set()
        assert made.apply([]).failed == ()
        assert leads_to(redirects, 2)
        assert not made.pending()
        tools.poison = {"172.30.0.4/32"}
        assert made.apply([service(entry(vip(4), A), name="s4")]).failed
        assert made.apply([service(name="s4")]).failed == ()  # wanted no more, so no failure either
        tools.refusing = "Another app is holding the lock"
        with pytest.raises(KernelUnavailable, match="lock"):
            made.apply([service(name="s2")])


def test_an_element_that_others_took_is_read_again() -> None:
    kernel = MemoryKernel()
    with running(redirects := Nft(LOCAL, kernel)) as made:
        made.apply([service(entry(vip(), A)), service(entry(vip(2), A), name="other")], NODE, complete=True)
        for table in kernel.tables.values():
            table.sets[REDIRECTS].elements.clear()
        made.apply([service()])
        assert leads_to(redirects, 1) == 0
        assert leads_to(redirects, 2)
