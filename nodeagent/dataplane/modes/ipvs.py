"""Mode ipvs as `nodeagent.dataplane.modes` knows it: the shape of `nodeagent.dataplane.modes.backends.Backend`."""

from __future__ import annotations

import socket

from nodeagent.config import AgentSettings
from nodeagent.dataplane.ipvs import cleanup as leaving
from nodeagent.dataplane.ipvs import probe as trial
from nodeagent.dataplane.ipvs.dataplane import IpvsDataplane
from nodeagent.dataplane.ipvs.kernel import NetlinkKernel, is_loaded
from nodeagent.dataplane.ipvs.names import DEVICE
from nodeagent.dataplane.ipvs.release import release as release_step
from nodeagent.dataplane.ipvs.rule_changes import Kept
from nodeagent.dataplane.ipvs.settings import Settings as Ipvs
from nodeagent.dataplane.modes.opened import Opened, Released, local_traffic, opened
from nodeagent.errors import DataplaneUnavailable

__all__ = ["cleanup", "open_dataplane", "probe", "release"]


def probe(settings: AgentSettings | None = None) -> None:
    """See `Backend.probe`; with the scheduler that is asked for."""
    trial.probe(None if settings is None else _translated(settings, ()))


def open_dataplane(settings: AgentSettings) -> Opened:
    """See `Backend.open_dataplane`; what kube-proxy left in this mode is made our own."""
    dataplane = IpvsDataplane(settings=_translated(settings, settings.cluster_cidrs))
    return opened(settings, dataplane, _translated)


def present() -> bool:
    """See `Backend.present`."""
    return DEVICE in {name for _, name in socket.if_nameindex()}


def cleanup(in_use: str = "") -> tuple[str, ...]:
    """See `Backend.cleanup`; iptables mode has chains of the same names."""
    return _removed(in_use, patient=False).removed


def release(in_use: str = "") -> Released:
    """See `Backend.release`; IPVS translates no connection without its virtual server and the link's address."""
    return _removed(in_use, patient=True)


def _removed(in_use: str, *, patient: bool) -> Released:
    if not is_loaded():
        return Released()  # where there is no IPVS, nothing was left in it; asking for it would load it
    try:
        kernel = NetlinkKernel()
    except DataplaneUnavailable:
        return Released()
    try:
        if patient and release_step(kernel):
            return Released(still_used=("virtual servers",))
        return Released(leaving.cleanup(kernel, _of_iptables() if in_use == "iptables" else Kept()))
    finally:
        kernel.close()


def _of_iptables() -> Kept:
    """The chains that iptables mode has as well."""
    from nodeagent.dataplane.iptables import naming as n
    from nodeagent.dataplane.iptables.base import HOOKS

    chains = {n.FILTER: (n.FORWARD, n.PROXY_FIREWALL), n.NAT: (n.SERVICES, n.POSTROUTING, n.MARK_MASQ)}
    return Kept(chains, frozenset((line.table, line.chain, line.rule) for line in HOOKS))


def _translated(settings: AgentSettings, cluster_cidrs: tuple[str, ...]) -> Ipvs:
    section = settings.configuration.ipvs
    return Ipvs(
        **local_traffic(settings, cluster_cidrs),
        scheduler=section.scheduler,
        strict_arp=section.strict_arp,
        exclude_cidrs=section.exclude_cidrs,
        tcp_timeout=int(section.tcp_timeout.seconds),
        tcp_fin_timeout=int(section.tcp_fin_timeout.seconds),
        udp_timeout=int(section.udp_timeout.seconds),
    )
