"""The kernel backends by mode, each imported only when it is asked for, and what is left of all of them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast

from nodeagent.config import Settings
from nodeagent.errors import AgentError, DataplaneUnavailable
from nodeagent.modes.choice import ORDER, Choice, choose
from nodeagent.modes.detectors import CidrFollower
from nodeagent.program.dataplane import Dataplane

PACKAGE = "nodeagent.modes"


class Backend(Protocol):
    """What a module of this package named after a mode offers."""

    def probe(self) -> None:
        """Tries whether this machine can do the mode, leaving nothing behind. Raises `DataplaneUnavailable`."""

    def open_dataplane(self, settings: Settings) -> tuple[Dataplane, CidrFollower | None]:
        """The dataplane, not started, and what takes the Node's pod CIDRs where they matter."""

    def cleanup(self, in_use: str = "") -> tuple[str, ...]:
        """Removes what we and kube-proxy leave in this mode, except what mode `in_use` needs; names it.

        Where `in_use` is this very mode, only what kube-proxy has beside ours goes. Raises `AgentError`.
        """


def backend(mode: str) -> Backend:
    """Raises `DataplaneUnavailable` where the mode's own requirements are not installed."""
    try:
        return cast(Backend, import_module(f"{PACKAGE}.{mode}"))
    except ImportError as error:
        raise DataplaneUnavailable(f"{mode}: {error}: install what it needs or choose another proxy mode") from error


def chosen(settings: Settings) -> Choice:
    """The mode to run in, by really trying. Raises `AgentError` where there is none."""
    scheduler = bool(settings.configuration.ipvs.scheduler)
    return choose(
        settings.proxy_mode, lambda mode: backend(mode).probe(), scheduler=scheduler, strict=settings.strict_mode
    )


def open_dataplane(settings: Settings) -> tuple[Dataplane, CidrFollower | None]:
    """The backend of the mode in use (see `config.in_mode`), not started, and what takes the Node's pod CIDRs."""
    return backend(settings.proxy_mode).open_dataplane(settings)


def cleanup(in_use: str = "", modes: Iterable[str] = ORDER) -> tuple[str, ...]:
    """Removes everything of ours and of kube-proxy's from this network namespace, but what mode `in_use` needs.

    The others are cleaned up although one cannot be. Gives the names of what was there; raises `AgentError` at the end.
    """
    removed: list[str] = []
    failures: list[str] = []
    for mode in modes:
        if find_spec(f"{PACKAGE}.{mode}") is None:
            continue
        try:
            removed += backend(mode).cleanup(in_use)
        except AgentError as error:
            failures.append(str(error))
    if failures:
        done = f" (removed: {', '.join(removed)})" if removed else ""
        raise AgentError("; ".join(failures) + done)
    return tuple(removed)
