"""Whether a resourceVersion belongs to the history of the API server's store that is already known.

A store that is restored from a backup begins another history: its versions are lower, and a watch from the old version
misses the changes between. Versions compare as numbers (KEP-5504) and increase per resource. Pure.
"""

from __future__ import annotations

from controlplane.source.resource import ApiError
from controlplane.store import newer, number_of

_TOO_LARGE = "too large resource version"  # client-go looks for these words too
_SHOWN = 40


class Lost(ApiError):
    """The known version is not usable: list again, without it."""


def check(version: str, known: str) -> None:
    """Checks the version of an event or a bookmark against `known`. Empty versions pass.

    Raises `Lost` if it is lower, or not a number.
    """
    if version and number_of(version) < 0:
        shown = version if len(version) <= _SHOWN else f"{version[:_SHOWN]}... ({len(version)} characters)"
        raise Lost(f"resourceVersion {shown!r} is not a number of at most 20 digits")
    if version and known and newer(known, version):
        raise Lost(f"resourceVersion {version} after {known}: another history, the API server's store was restored")


def leads_nowhere(error: ApiError) -> bool:
    """Whether the error refuses the version of a watch, so that the same request would fail again.

    The version is too old (410), not reached yet (504), or unreadable (400, 422).
    """
    return error.expired or (error.status == 504 and _TOO_LARGE in str(error).lower()) or error.status in {400, 422}
