"""Where this node's pods are, as its Node says; and the evidence that it says so wrongly. Owned by `node_info`.

A network plugin with an address management of its own (Calico's, for one) may give pods addresses outside of their
Node's `spec.podCIDRs`, which the controller manager writes all the same. An endpoint on this node shows it: its address
is a pod's (within --cluster-cidr) and not in the Node's CIDRs. From then on those of this family are not believed, and
every pod counts as this node's, as with kube-proxy. Otherwise this node's own pods would be taken for others'.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from deltaplane.forwarding import own_pod_cidrs
from deltaplane.logs import event
from deltaplane.model import EndpointSlice
from nodeagent.node.surroundings import Network, parsed

log = logging.getLogger(__name__)


class OwnPods:
    """Of the node `name`. `cluster`: the ranges of --cluster-cidr; without any there is nothing to tell."""

    def __init__(self, name: str, cluster: Sequence[str] = ()) -> None:
        self._name, self._cluster = name, cluster
        self._pods = _networks(cluster)
        self._said: tuple[str, ...] = ()
        self._told: list[Network] = []
        self._wrong: set[int] = set()  # families whose CIDRs are not believed

    def cidrs(self, said: tuple[str, ...]) -> tuple[str, ...]:
        """Where this node's pods are; `said`: the Node's own CIDRs. Those that change are believed again."""
        self._take(said)
        return own_pod_cidrs(tuple(text for text in said if _family(text) not in self._wrong), self._cluster)

    def look(self, said: tuple[str, ...], slices: Iterable[EndpointSlice]) -> bool:
        """Whether one of these shows for the first time that CIDRs of its family are wrong."""
        self._take(said)
        before = len(self._wrong)
        told = {each.version for each in self._told} - self._wrong
        for one in slices if told else ():
            if one.family in told and self._wrong_by(one):
                told.remove(one.family)
                self._wrong.add(one.family)
        return len(self._wrong) > before

    def _take(self, said: tuple[str, ...]) -> None:
        if said != self._said:
            self._said, self._told = said, _networks(said) if self._pods else []
            self._wrong.clear()

    def _wrong_by(self, one: EndpointSlice) -> bool:
        for packed in [each.address for each in one.endpoints if each.node == self._name]:
            address = ip_address(packed)
            if any(address in each for each in self._pods) and not any(address in each for each in self._told):
                event(
                    log, logging.WARNING, "this Node's pod CIDRs do not hold its pods: every pod counts as this node's",
                    family=one.family, cidrs=",".join(self._said), endpoint=address,
                    slice=f"{one.namespace}/{one.name}",
                    advice="use --detect-local-mode=InterfaceNamePrefix with the prefix of the pods' interfaces",
                )  # fmt: skip
                return True
        return False


def _family(cidr: str) -> int:
    return 6 if ":" in cidr else 4


def _networks(texts: Iterable[str]) -> list[Network]:
    """A text that is no network is left out; a range of every address tells nothing."""
    found = (parsed(text.strip()) for text in texts)
    return [network for network in found if network is not None and network.prefixlen]
