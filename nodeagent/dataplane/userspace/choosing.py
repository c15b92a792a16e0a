"""Opens the way that brings traffic to the listeners: the first that works on this machine, or the one asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable

from nodeagent.dataplane.userspace.iptables import IptablesRedirects
from nodeagent.dataplane.userspace.nft import NftRedirects
from nodeagent.dataplane.userspace.probe import first_working
from nodeagent.dataplane.userspace.redirects import Redirects
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.linux.iptables.programs import Flavour

log = logging.getLogger(__name__)

_MAKERS: dict[str, Callable[[Settings], Redirects]] = {
    "nft": NftRedirects,
    "iptables": IptablesRedirects,
    "iptables-nft": lambda settings: IptablesRedirects(settings, flavour=Flavour.NFT),
    "iptables-legacy": lambda settings: IptablesRedirects(settings, flavour=Flavour.LEGACY),
}


def open_redirects(settings: Settings) -> Redirects:
    """In the network namespace of the calling thread. Raises DataplaneUnavailable where none works."""
    name, reasons = first_working(settings)
    for reason in reasons:
        log.warning("userspace: redirects otherwise: %s", reason)
    return _MAKERS[name](settings)
