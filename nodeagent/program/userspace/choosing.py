"""Which way brings traffic to the listeners: the first that this machine can do, or the one that is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable

from nodeagent.errors import DataplaneUnavailable
from nodeagent.program.userspace.nft import NftRedirects
from nodeagent.program.userspace.redirects import Redirects
from nodeagent.program.userspace.settings import Settings

log = logging.getLogger(__name__)

WAYS: dict[str, Callable[[Settings], Redirects]] = {"nft": NftRedirects}


def open_redirects(settings: Settings) -> Redirects:
    """In the network namespace of the calling thread. Raises DataplaneUnavailable where none works."""
    if settings.redirect:
        if settings.redirect not in WAYS:
            raise DataplaneUnavailable(
                f"userspace: no way to redirect is called {settings.redirect!r}: {', '.join(WAYS)}"
            )
        return _tried(settings.redirect, settings)
    reasons = []
    for name in WAYS:
        try:
            return _tried(name, settings)
        except DataplaneUnavailable as error:
            reasons.append(str(error))
            log.info("userspace: no redirects by %s: %s", name, error)
    raise DataplaneUnavailable(reasons[-1])


def _tried(name: str, settings: Settings) -> Redirects:
    """Opened and really asked, so that what cannot work is not taken."""
    made = WAYS[name](settings)
    try:
        made.read()
    except DataplaneUnavailable:
        made.close()
        raise
    return made
