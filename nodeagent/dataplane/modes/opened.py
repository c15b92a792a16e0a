"""What opening a backend gives, and what their settings have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from nodeagent.config import AgentSettings, Detector
from nodeagent.dataplane.api import Dataplane
from nodeagent.dataplane.reconciler import Reconciler

S = TypeVar("S")


def _nothing() -> tuple[str, ...]:
    return ()


class Opened(NamedTuple):
    """A dataplane that is not started, and what goes along with it."""

    dataplane: Dataplane
    follow: Callable[[tuple[str, ...]], None] | None = None  # takes the Node's pod CIDRs, where they matter
    beside: Callable[[], tuple[str, ...]] = _nothing
    """Removes what kube-proxy left in this very mode that the dataplane does not make its own; gives its names.

    To be called once the dataplane is started and complete. Raises `AgentError`.
    """


class Released(NamedTuple):
    """What a mode that is not in use had left: the names of what is removed, and what stays for now.

    `still_used` says what that is: connections go through it, which would end with it; further ones do not come to it.
    """

    removed: tuple[str, ...] = ()
    still_used: tuple[str, ...] = ()


def opened(
    settings: AgentSettings,
    dataplane: Reconciler[S],
    translated: Callable[[AgentSettings, tuple[str, ...]], S],
    beside: Callable[[], tuple[str, ...]] = _nothing,
) -> Opened:
    """With what goes along; `translated` gives the mode's own settings for these CIDRs of local traffic."""

    def follow(cidrs: tuple[str, ...]) -> None:
        dataplane.configure(translated(settings, cidrs))

    return Opened(dataplane, follow if settings.detector is Detector.NODE_CIDR else None, beside)


def local_traffic(settings: AgentSettings, cluster_cidrs: tuple[str, ...]) -> dict[str, Any]:
    """The fields of `nodeagent.dataplane.local_traffic.Detector`, with which the settings of every mode begin."""
    return {
        "cluster_cidrs": cluster_cidrs,
        "interface": interface_of(settings),
        "node_only": settings.detector is Detector.NODE_CIDR,
        "masquerade_all": settings.masquerade_all,
        "masquerade_bit": settings.masquerade_bit,
    }


def interface_of(settings: AgentSettings) -> str:
    """The interface, or prefix with an asterisk, that local traffic arrives at; empty where addresses tell (I5)."""
    if settings.detector is Detector.BRIDGE:
        return settings.bridge_interface
    return f"{settings.interface_name_prefix}*" if settings.detector is Detector.PREFIX else ""
