"""What nodes hold in their kernel, as `nft` and `conntrack` show it; and a clean slate between tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from tools.lab.netns import Namespace

_LISTENERS = ("169.254.86.1/32", "fd64:656c:7461::1/128")  # where userspace mode listens


def run(space: Namespace, *command: str, check: bool = True, stdin: str | None = None, timeout: float = 120) -> str:
    """Runs a program in the namespace and returns its output; raises RuntimeError with what it complained about."""
    with space.entered():
        done = subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=timeout, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{space.name}: {' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def nft(space: Namespace, *arguments: str) -> str:
    return run(space, "nft", *arguments)


def table(space: Namespace, family: str = "ip", name: str = "deltaplane") -> str:
    """The listing of one table, "" where it does not exist."""
    return run(space, "nft", "list", "table", family, name, check=False)


def wipe(space: Namespace) -> None:
    """Nothing of any proxy mode is left: rules, sets, virtual servers, addresses, tracked connections."""
    run(space, "nft", "flush", "ruleset", check=False)
    for names, restore in (("ip_tables_names", "iptables"), ("ip6_tables_names", "ip6tables")):
        loaded = _words(space, f"/proc/thread-self/net/{names}")
        if loaded:
            empty = "".join(f"*{table}\nCOMMIT\n" for table in loaded)
            run(space, f"{restore}-legacy-restore", stdin=empty)
    for path, command in (("ip_vs", ("ipvsadm", "-C")), ("dev_snmp6/kube-ipvs0", ("ip", "link", "del", "kube-ipvs0"))):
        if _words(space, f"/proc/thread-self/net/{path}"):
            run(space, *command, check=False)
    if Path("/sys/module/ip_set").exists():
        run(space, "ipset", "destroy", check=False)
    for address in _LISTENERS:
        run(space, "ip", "address", "delete", address, "dev", "lo", check=False)
    run(space, "conntrack", "-F", check=False)
    space.sysctl({"ipv4/conf/all/route_localnet": 0})


def _words(space: Namespace, path: str) -> list[str]:
    """What a file of the namespace's /proc says; nothing where it is not there."""
    with space.entered():
        try:
            return Path(path).read_text().split()
        except OSError:
            return []


def hint(space: Namespace) -> None:
    """The kubelet's sign that this machine uses the legacy flavour of iptables."""
    for restore in ("iptables-legacy-restore", "ip6tables-legacy-restore"):
        run(space, restore, "--noflush", stdin="*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n")


def delete_tables(spaces: Iterable[Namespace]) -> None:
    for space in spaces:
        nft(space, "flush", "ruleset")
        run(space, "conntrack", "-F", check=False)
