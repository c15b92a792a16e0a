"""The kernel backends by mode, each imported only when it is asked for, and what is left of all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import Protocol, cast

from nodeagent.config import OF_KUBE_PROXY, AgentSettings
from nodeagent.dataplane.modes.choice import ORDER, Choice, choose
from nodeagent.dataplane.modes.opened import Opened, Released
from nodeagent.errors import AgentError, DataplaneUnavailable
from nodeagent.linux.errors import RightLacking

SETTLING = 3.0
"""Seconds from when kube-proxy's first rules are there until all are: it writes one IP family after the other."""
PACKAGE = "nodeagent.dataplane.modes"
LEGACY = (
    "run `kube-proxy --cleanup` on this node, or add the component legacy-leftovers (deploy/kustomize/components) to "
    "the overlay; until then these rules may send connections to endpoints that are gone"
)


class Backend(Protocol):
    """What a module of this package named after a mode offers."""

    def probe(self, settings: AgentSettings | None = None) -> None:
        """Tries whether this machine can do the mode, leaving nothing behind. Raises `DataplaneUnavailable`."""

    def open_dataplane(self, settings: AgentSettings) -> Opened:
        """The dataplane, not started, and what goes along with it."""

    def present(self) -> bool:
        """Whether rules of ours or of kube-proxy's in this mode may lead somewhere. Costs little, and never raises."""

    def cleanup(self, in_use: str = "") -> tuple[str, ...]:
        """Removes what we and kube-proxy leave in this mode, except what another mode that is in use needs; names it.

        Where there is nothing, or this machine cannot do the mode, it costs little and gives (). Raises `AgentError`.
        """

    def release(self, in_use: str = "") -> Released:
        """As `cleanup`, but leaves what connections go through that were made before."""


def backend(mode: str) -> Backend:
    """Raises `DataplaneUnavailable` where the mode's own requirements are not installed."""
    try:
        return cast(Backend, import_module(f"{PACKAGE}.{mode}"))
    except ImportError as error:
        raise DataplaneUnavailable(f"{mode}: {error}: install what it needs or choose another proxy mode") from error


def chosen(settings: AgentSettings) -> Choice:
    """The mode to run in, by really trying. Raises `AgentError` where there is none."""
    scheduler = bool(settings.configuration.ipvs.scheduler)
    asked, strict = settings.proxy_mode, settings.strict_mode
    never = OF_KUBE_PROXY if settings.beside_kube_proxy else ()
    return choose(asked, lambda mode: backend(mode).probe(settings), scheduler=scheduler, strict=strict, never=never)


def open_dataplane(settings: AgentSettings) -> Opened:
    """The backend of the mode in use (see `config.in_mode`), not started."""
    return backend(settings.proxy_mode).open_dataplane(settings)


def alone() -> bool:
    """Whether no mode and no kube-proxy serves this machine; what is left of one may be newer than the journal."""
    return not any(backend(mode).present() for mode in ORDER)


def cleanup() -> tuple[str, ...]:
    """Removes everything of ours and of kube-proxy's from this network namespace; gives the names of what was there.

    The other modes are cleaned up although one cannot be. Raises `AgentError` at the end.
    """
    return _together(partial(_clean, mode) for mode in ORDER).removed


def hand_back() -> tuple[str, ...]:
    """Removes what is ours alone where kube-proxy serves this machine again; gives the names of what was there.

    Chains of iptables and ipvs mode have kube-proxy's names and are its own by then. Raises `AgentError`, and removes
    nothing, where kube-proxy has no rules.
    """
    nftables, iptables = (import_module(f"{PACKAGE}.{mode}") for mode in ("nftables", "iptables"))
    if not (nftables.kube_proxy_serves() or iptables.kube_proxy_serves() or backend("ipvs").present()):
        raise AgentError(
            "kube-proxy has no rules on this node, so nothing is removed: start kube-proxy here first, or leave out "
            "--beside-kube-proxy where no proxy is to serve this node"
        )
    time.sleep(SETTLING)
    return (*nftables.own_cleanup(), *backend("userspace").cleanup())


def _clean(mode: str) -> Released:
    return Released(backend(mode).cleanup())


class Others:
    """What other modes, and kube-proxy in any, have left beside the mode in use."""

    def __init__(self, mode: str, opened: Opened) -> None:
        self._mode, self._opened = mode, opened
        self._due: list[str] = []  # modes that the next call asks, where not all

    def remove(self, patient: bool) -> Released:
        """As `cleanup`; `patient`: not yet what connections go through.

        After that, only modes that still carried connections, or failed, are asked again; then all.
        """
        asked, self._due = self._due or list(ORDER), []
        return _together(partial(self._ask, mode, patient) for mode in asked)

    def _ask(self, mode: str, patient: bool) -> Released:
        self._due.append(mode)  # also where it fails
        done = self._clean(mode, patient)
        if not done.still_used:
            self._due.remove(mode)
        return done

    def _clean(self, mode: str, patient: bool) -> Released:
        if mode == self._mode:
            return Released(self._opened.beside())
        return backend(mode).release(self._mode) if patient else Released(backend(mode).cleanup(self._mode))


def _together(cleaners: Iterable[Callable[[], Released]]) -> Released:
    removed: list[str] = []
    still_used: list[str] = []
    failures: list[str] = []
    for clean in cleaners:
        try:
            done = clean()
        except RightLacking as error:
            failures.append(f"{error}: {LEGACY}")
        except AgentError as error:
            failures.append(str(error))
        else:
            removed += done.removed
            still_used += done.still_used
    if failures:
        names = f" (removed: {', '.join(removed)})" if removed else ""
        raise AgentError("; ".join(dict.fromkeys(failures)) + names)  # several modes have the same tables
    return Released(tuple(removed), tuple(still_used))
