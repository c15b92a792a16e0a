"""The phases in which a collection of the API is followed, as data: the next request, and what follows each result.

The reflector changes its phase by this table only. `judge` maps an error to a result. After a result that makes no
progress, the reflector waits before the next request, in any phase. Pure.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import Enum

from msgspec import Struct

from controlplane.source import history
from controlplane.source.brake import Doubtful
from controlplane.source.resource import ApiError, Stalled

SILENT_WATCHES = 2  # in a row; a server sends a bookmark about once a minute


class Phase(Enum):
    """The next request. A diagram shows the values."""

    LISTING = "listing, as a stream"  # KEP-3157; the same request continues as the watch
    PAGING = "listing, by pages"
    WATCHING = "watching"
    CONFIRMING = "confirming the version"  # the server's store may have been restored since


class End(Enum):
    """The results of a request, or of a part of it. A diagram shows the values."""

    LISTED = "listed"
    UNVERSIONED = "listed without a version"
    UNSUPPORTED = "no list came as a stream"
    CONFIRMED = "confirmed"
    ENDED = "ended after events"
    QUIET = "ended without events"
    FAILED = "failed"
    LOST = "no usable version"
    UNKNOWN = "unknown state"  # after an unexpected exception, or for an optional resource that is not there


_LISTS = {End.LISTED: Phase.WATCHING, End.UNVERSIONED: Phase.LISTING, End.LOST: Phase.LISTING}

FOLLOWS: Mapping[Phase, Mapping[End, Phase]] = {
    Phase.LISTING: {
        **_LISTS,
        End.UNSUPPORTED: Phase.PAGING,
        End.FAILED: Phase.LISTING,
        End.UNKNOWN: Phase.LISTING,
    },
    Phase.PAGING: {**_LISTS, End.FAILED: Phase.PAGING, End.UNKNOWN: Phase.PAGING},
    Phase.WATCHING: {
        End.ENDED: Phase.WATCHING,
        End.QUIET: Phase.CONFIRMING,
        End.FAILED: Phase.CONFIRMING,
        End.LOST: Phase.LISTING,
        End.UNKNOWN: Phase.LISTING,
    },
    Phase.CONFIRMING: {
        End.CONFIRMED: Phase.WATCHING,
        End.FAILED: Phase.CONFIRMING,
        End.LOST: Phase.LISTING,
        End.UNKNOWN: Phase.LISTING,
    },
}


class Verdict(Struct, frozen=True):
    """What an error means. `lasting`: the collection counts as failing, and the log repeats only a changed error."""

    end: End
    text: str
    level: int = logging.WARNING
    lasting: bool = True
    name: str = "error"  # the log key of the error's text; empty: leave it out


def judge(error: ApiError, phase: Phase, silent: int = 1) -> Verdict:
    """What the error of a request means in this phase. `silent`: so many watches in a row brought nothing and stalled.

    A server or proxy that answers all else may never answer a watch; then only a list tells what has changed.
    """
    versioned = phase in {Phase.WATCHING, Phase.CONFIRMING}
    if isinstance(error, history.Lost):
        return Verdict(End.LOST, "listing again")
    if versioned and history.leads_nowhere(error):
        level = logging.INFO if error.expired else logging.WARNING
        return Verdict(End.LOST, "version leads nowhere, listing again", level, lasting=False, name="reason")
    if phase is Phase.WATCHING and isinstance(error, Stalled) and silent >= SILENT_WATCHES:
        return Verdict(End.LOST, "watches stay silent, listing again", lasting=False, name="")
    if versioned and isinstance(error, Stalled):
        return Verdict(End.FAILED, "watch is silent, resuming", logging.INFO, lasting=False, name="")
    if isinstance(error, Doubtful):
        return Verdict(End.LOST, "safety brake: list held", logging.ERROR, name="reason")
    return Verdict(End.FAILED, "cannot follow the API, trying again")
