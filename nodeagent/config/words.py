"""Texts of a configuration that reach the kernel or another program unchanged; kube-proxy refuses none of them.

They are checked at the start, so that the message names the flag and not what a backend made of it. Pure; called by
`parse`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deltaplane.names import is_subdomain, shown
from nodeagent.config.schema import KubeProxyConfiguration
from nodeagent.linux.text import UnsafeText, interface

_SCHEDULER = re.compile(r"[A-Za-z0-9_-]{1,15}")  # IP_VS_SCHEDNAME_MAXLEN less its end; the name of a module


def problems(config: KubeProxyConfiguration) -> list[str]:
    """Everything that is wrong with the words of a completed configuration; empty: nothing."""
    local, name = config.detect_local, config.hostname_override
    found: list[str] = []
    if config.detect_local_mode == "BridgeInterface":
        found += _interface("pod-bridge-interface", local.bridge_interface, local.bridge_interface)
    elif config.detect_local_mode == "InterfaceNamePrefix":
        prefix = local.interface_name_prefix
        found += _interface("pod-interface-name-prefix", prefix, f"{prefix}*")
    if config.ipvs.scheduler and _SCHEDULER.fullmatch(config.ipvs.scheduler) is None:
        found.append(f"--ipvs-scheduler: {shown(config.ipvs.scheduler)} is no name of a scheduler")
    if name and not is_subdomain(name):
        found.append(f"--hostname-override: {shown(name)} is no name of a Node (a DNS-1123 subdomain)")
    return found


def _interface(flag: str, given: str, pattern: str) -> Iterator[str]:
    if not given:
        return  # `validation` refuses it
    try:
        interface(pattern)
    except UnsafeText:
        yield f"--{flag}: {shown(given)} is no name of a network interface, nor the beginning of one"
