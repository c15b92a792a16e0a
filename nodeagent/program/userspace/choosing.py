"""Opens the way that brings traffic to the listeners: the first that works here, or the one asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable

from nodeagent.program.iptables.tools import Flavour
from nodeagent.program.userspace.direct import DirectRedirects
from nodeagent.program.userspace.iptables import IptablesRedirects
from nodeagent.program.userspace.nft import NftRedirects
from nodeagent.program.userspace.probe import first_working
from nodeagent.program.userspace.redirects import Redirects
from nodeagent.program.userspace.settings import Settings

log = logging.getLogger(__name__)

_MAKERS: dict[str, Callable[[Settings], Redirects]] = {
    "nft": NftRedirects,
    "iptables": IptablesRedirects,
    "iptables-nft": lambda settings: IptablesRedirects(settings, flavour=Flavour.NFT),
    "iptables-legacy": lambda settings: IptablesRedirects(settings, flavour=Flavour.LEGACY),
    "direct": lambda _: DirectRedirects(),
}


def open_redirects(settings: Settings) -> Redirects:
    """In the network namespace of the calling thread. Raises DataplaneUnavailable where none works."""
    name, reasons = first_working(settings)
    for reason in reasons:
        log.warning("userspace: redirects otherwise: %s", reason)
    return _MAKERS[name](settings)
