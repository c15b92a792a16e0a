"""Other programs that write rules on the node: firewalls, and whatever drops what it does not know.

A verdict "accept" ends one base chain only, so no proxy in nftables mode can open what another table drops. kube-proxy
in iptables and ipvs mode did, in the chains KUBE-FORWARD and KUBE-NODEPORTS of the one table that most firewalls use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nodeagent.doctor.facts import Finding, Machine, Wanted, act, know

FIREWALLD = "/etc/firewalld/firewalld.conf"
UFW, UFW_DEFAULTS = "/etc/ufw/ufw.conf", "/etc/default/ufw"
CHAINS = 12  # that are named
WRITES_IPTABLES = ("iptables", "ipvs")


def forward(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    """A policy of drop on the way to pods, which kube-proxy's own chain made up for."""
    dropping = sorted({f"{hook.family} {hook.table} {hook.chain}" for hook in machine.hooks if hook.point == "forward"})
    if not dropping or wanted.mode in WRITES_IPTABLES:
        return
    opened = wanted.before in WRITES_IPTABLES or bool(machine.rules("filter", "KUBE-FORWARD"))
    what = f"what is forwarded is dropped by default ({', '.join(dropping)})"
    do = "accept what goes to and comes from the pods' addresses there, before the move; or take the mode iptables"
    if opened:
        yield act(
            "forward-drop", f"{what}, and kube-proxy's chain KUBE-FORWARD, which accepts node port traffic, goes", do
        )
    else:
        yield know("forward-drop", f"{what}; this mode opens nothing there, as kube-proxy's nftables mode does not", do)


def ingress(machine: Machine, wanted: Wanted) -> Iterator[Finding]:  # noqa: ARG001 - as every check
    """The same for what ends at the node: health checks and our own ports."""
    dropping = sorted({f"{hook.family} {hook.table} {hook.chain}" for hook in machine.hooks if hook.point == "input"})
    if dropping:
        yield know(
            "input-drop", f"what comes to the node itself is dropped by default ({', '.join(dropping)})",
            "let in: 10258 from the node, 10256 and health check node ports from load balancers, 50051 on "
            "control-plane nodes "
            "from all nodes",
        )  # fmt: skip


def others(machine: Machine, wanted: Wanted) -> Iterator[Finding]:  # noqa: ARG001 - as every check
    """Chains of other programs that a packet of a Service, or of the agent's stream, may end in."""
    if not machine.foreign:
        return
    told = [f"{each.table} {each.chain} ({each.point}: {', '.join(each.does)})" for each in machine.foreign[:CHAINS]]
    more = f" and {len(machine.foreign) - CHAINS} more" if len(machine.foreign) > CHAINS else ""
    yield know(
        "foreign-chains", "chains of other programs may drop or redirect packets of Services, or of the agent's stream "
        f"(TCP port 50051), whatever this agent accepts: {'; '.join(told)}{more}",
        "nothing while all works; else `deltaplane trace CLIENT SERVICE:PORT` on this node, which follows a packet and "
        "names the chain and the rule that it meets; `nft list table FAMILY NAME` shows a table",
    )  # fmt: skip


def firewalld(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    if not _firewalld_process(machine) and not any(name.endswith(" firewalld") for name in machine.tables):
        return
    said = machine.files.get(FIREWALLD, "")
    if _value(said, "StrictForwardPorts") in ("yes", "true"):
        yield act(
            "firewalld", "firewalld drops connections that others redirect (StrictForwardPorts=yes): node ports "
            "among them",
            f"set StrictForwardPorts=no in {FIREWALLD} and reload",
        )  # fmt: skip
    if wanted.mode in WRITES_IPTABLES and _value(said, "FlushAllOnReload") != "no":
        yield act(
            "firewalld", "a reload of firewalld removes all iptables rules, those of Services and host ports too",
            f"set FlushAllOnReload=no in {FIREWALLD}, or take --proxy-mode=nftables",
        )  # fmt: skip
    yield know(
        "firewalld", "firewalld runs, and rejects what its zones do not allow, whatever a proxy accepts",
        "put pod addresses and pod interfaces into the zone trusted: firewall-cmd --permanent --zone=trusted "
        "--add-source=CIDR",
    )  # fmt: skip


def _firewalld_process(machine: Machine) -> bool:
    """It is a Python program."""
    return any("firewalld" in word.rpartition("/")[2] for each in machine.processes for word in each.words[1:3])


def ufw(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    if _value(machine.files.get(UFW, ""), "ENABLED") != "yes":
        return
    policy = _value(machine.files.get(UFW_DEFAULTS, ""), "DEFAULT_FORWARD_POLICY").strip("\"'").lower()
    if policy in ("drop", "reject") and wanted.mode not in WRITES_IPTABLES:
        yield act(
            "ufw", f"ufw is on, and its policy for what is forwarded is {policy}",
            "ufw route allow to and from the pods' addresses, or DEFAULT_FORWARD_POLICY=\"ACCEPT\" in /etc/default/ufw",
        )  # fmt: skip
    else:
        yield know(
            "ufw", "ufw is on: node ports are open only where kube-proxy's or its own rules let them", "ufw status"
        )


def _value(text: str, name: str) -> str:
    """NAME=VALUE of a file of shell variables; the last counts."""
    found = re.findall(rf"^\s*{name}\s*=\s*(.*?)\s*$", text, re.MULTILINE)
    return found[-1] if found else ""


CHECKS = (forward, ingress, others, firewalld, ufw)
