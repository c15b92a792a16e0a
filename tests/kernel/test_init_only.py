"""`--init-only` as the init container runs it (L8): root with few capabilities, the host's net mounted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.dataplane.iptables.base import loopback_guard
from tools.lab import netns
from tools.lab.deltaplane import COMMAND
from tools.lab.fabric import Fabric
from tools.lab.netns import Namespace
from tools.lab.rules import run

CLOSE_WAIT = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait"
ROUTE = "/proc/sys/net/ipv4/conf/all/route_localnet"
FLAGS = ("--init-only", "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-close-wait=47m")  # no global setting
CONTAINER = """
folder=$1 capabilities=$2; shift 2
mount --bind /proc/sys/net "$folder"
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
exec setpriv --bounding-set "-all$capabilities" --inh-caps "-all$capabilities" --no-new-privs -- "$@"
"""


@pytest.fixture
def space(lab: Fabric) -> Iterator[Namespace]:
    made = netns.create("initial")
    yield made
    netns.delete(made)


def inside(space: Namespace, root: Path, capabilities: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """What the program says, in a container as the manifests have it."""
    place = root / "proc/sys/net"
    place.mkdir(parents=True, exist_ok=True)
    begin = ("unshare", "--mount", "sh", "-euc", CONTAINER, "container", str(place), capabilities)
    command = [*begin, *COMMAND, "agent", *FLAGS, *flags]
    with space.entered():
        return subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_the_hosts_files_it_says_that_they_cannot_be_written(space: Namespace, tmp_path: Path) -> None:
    done = inside(space, tmp_path, ",+net_admin")

    assert done.returncode == 1
    assert "nf_conntrack_tcp_timeout_close_wait cannot be written (Read-only file system)" in done.stderr


def test_the_timeouts_are_made_through_the_mounted_files(space: Namespace, tmp_path: Path) -> None:
    done = inside(space, tmp_path, ",+net_admin", f"--sysctl-root={tmp_path}")

    assert (done.returncode, run(space, "cat", CLOSE_WAIT).strip()) == (0, str(47 * 60)), done.stderr
    assert run(space, "cat", ROUTE).strip() == "0"


def test_in_iptables_mode_loopback_is_routed_behind_its_guard(space: Namespace, tmp_path: Path) -> None:
    done = inside(space, tmp_path, ",+net_admin,+net_raw", f"--sysctl-root={tmp_path}", "--proxy-mode=iptables")

    assert (done.returncode, run(space, "cat", ROUTE).strip()) == (0, "1"), done.stderr
    rules = run(space, "iptables-save", "-t", "filter").splitlines()
    assert f"-A KUBE-FIREWALL {loopback_guard().rule}" in rules
    assert {"-A INPUT -j KUBE-FIREWALL", "-A OUTPUT -j KUBE-FIREWALL"} <= set(rules)


def test_without_the_right_to_write_the_guard_loopback_stays_unrouted(space: Namespace, tmp_path: Path) -> None:
    done = inside(space, tmp_path, "", f"--sysctl-root={tmp_path}", "--proxy-mode=iptables")

    assert (done.returncode, run(space, "cat", ROUTE).strip()) == (1, "0")
    assert "node ports do not answer on loopback" in done.stderr
