"""Where a collection stands in the API server's history, and whether what the server says is of that history.

A store that is restored from a backup begins another one: its versions are lower, and a watch that asks with the old
one is told nothing of what changed between. Versions compare as numbers (KEP-5504) and rise for each resource. Pure;
called by `reflector`.
"""

from __future__ import annotations

from controlplane.source.api import ApiError
from controlplane.store import newer, number_of

_TOO_LARGE = "too large resource version"  # client-go knows it by these words too
_SHOWN = 40


class Lost(ApiError):
    """The version that is known leads nowhere: list again, without it."""


def check(version: str, known: str) -> None:
    """For the version of an event or a bookmark, after `known`; empty ones say nothing.

    Raises `Lost` where it is lower, and where it is no number.
    """
    if version and number_of(version) < 0:
        shown = version if len(version) <= _SHOWN else f"{version[:_SHOWN]}... ({len(version)} characters)"
        raise Lost(f"resourceVersion {shown!r} is not a number of at most 20 digits")
    if version and known and newer(known, version):
        raise Lost(f"resourceVersion {version} after {known}: another history, the API server's store was restored")


def leads_nowhere(error: ApiError) -> bool:
    """Whether a watch that was refused so is refused for its version, now and the next time.

    The server has not reached it (504), or cannot read it.
    """
    return error.expired or (error.status == 504 and _TOO_LARGE in str(error).lower()) or error.status in {400, 422}
