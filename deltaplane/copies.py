"""Which copy of an endpoint counts where several speak of one address: a total order, so that no other order matters.

Copies meet in one slice that names an address twice (`controlplane.source.translate`) and in several slices of one
Service (`categorise`). The API allows both, and copies may disagree: two controllers write slices for one Service, or a
pod takes over the address of one that ended. kube-proxy takes whichever it sees last (endpointslicecache.go); here the
copy that says more for the endpoint wins (E8).
"""

from __future__ import annotations

from deltaplane.model import Conditions, Endpoint

_READY = int(Conditions.READY)
_SERVING = int(Conditions.SERVING)
_TERMINATING = int(Conditions.TERMINATING)
_USABLE = _SERVING | _TERMINATING  # without READY: used where none is ready (E14)

Rank = tuple[int, str, str, tuple[str, ...], tuple[str, ...]]


def preferred(one: Endpoint, other: Endpoint) -> Endpoint:
    """The one of two copies of an address that counts, in whichever order they come.

    Ready before serving and terminating before anything else; of two alike the one that is not terminating, then the
    one that serves; of two in one state the one whose node, zone and hints come last as text, so that one which says
    them beats one which does not.
    """
    return one if _rank(one) >= _rank(other) else other


def _rank(endpoint: Endpoint) -> Rank:
    return _STATES[endpoint.conditions & 7], endpoint.node, endpoint.zone, endpoint.zone_hints, endpoint.node_hints


def _state(conditions: int) -> int:
    use = 2 if conditions & _READY else int(conditions & _USABLE == _USABLE)
    return use << 2 | (not conditions & _TERMINATING) << 1 | bool(conditions & _SERVING)


_STATES = tuple(map(_state, range(8)))
