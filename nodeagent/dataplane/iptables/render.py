"""What a Service becomes in iptables: chains of its own, and lines in the chains that all Services share.

Pure; called by `tracker`. Follows pkg/proxy/iptables/proxier.go of kube-proxy 1.36; row ids are those of
docs/behaviour.md. Rules are without their `-A CHAIN`, spelled as `iptables-save` spells them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from msgspec import Struct

from deltaplane.forwarding import Entry, Frontend, FrontendKind, ServiceForwarding, Target, Verdict
from deltaplane.model import PROTOCOL_NAMES
from nodeagent.dataplane import widths
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.rules import (
    DROP,
    LOCAL_DESTINATION,
    LOCAL_SOURCE,
    REFUSE,
    TO_MASQUERADE,
    chance,
    comment,
    counted,
    endpoint,
    recent,
    single,
)
from nodeagent.dataplane.iptables.settings import Settings
from nodeagent.linux.iptables.saved import Line
from nodeagent.linux.text import network


class Rendered(Struct, frozen=True, gc=False):
    """All of one Service in one family. `lines` of one chain are in the order in which they stand there."""

    chains: dict[str, tuple[str, ...]]  # of the nat table
    lines: tuple[Line, ...]


NOTHING = Rendered({}, ())


def check(service: ServiceForwarding, families: Container[int]) -> None:
    """Raises KeyError for a protocol that is none of Kubernetes', ValueError for what else no rule can say.

    Of what passes, `render` makes rules.
    """
    for entry in service.entries:
        front = entry.frontend
        if front.family not in families:
            continue
        widths.check(entry)
        PROTOCOL_NAMES[front.protocol]
        if not 0 < front.port < 1 << 16:
            raise ValueError(f"port {front.port} is none")
        comment(_LONGEST.format(n.port_name(service.key.namespace, service.key.name, entry.port_name)))
        for text in entry.source_ranges:
            network(text)


_LONGEST = f"other traffic to {{}} will be dropped by {n.PROXY_FIREWALL}"  # of all comments with a name


def render(
    service: ServiceForwarding,
    family: int,
    settings: Settings,
    *,
    comments: bool = True,
    loopback: bool = False,
    pod_cidrs: tuple[str, ...] = (),
) -> Rendered:
    """`comments` False: none in the chains that lead to endpoints, as kube-proxy does it above 1,000 endpoints.

    `loopback`: connections to node ports there are counted. `pod_cidrs`: this node's.
    """
    ports: dict[tuple[str, int], list[Entry]] = {}
    for entry in service.entries:
        if entry.frontend.family == family:
            ports.setdefault((entry.port_name, entry.frontend.protocol), []).append(entry)
    if not ports:
        return NOTHING
    chains: dict[str, tuple[str, ...]] = {}
    lines: dict[Line, None] = {}
    manner = _Manner(family, settings, comments, loopback, pod_cidrs)
    for (name, protocol), entries in ports.items():
        port = _Port(service, (name, PROTOCOL_NAMES[protocol]), entries, manner)
        chains.update(port.chains())
        lines.update(dict.fromkeys(port.lines()))
    return Rendered(chains, tuple(lines))


class _Manner(NamedTuple):
    """How everything is written."""

    family: int
    settings: Settings
    comments: bool
    loopback: bool  # connections to node ports there are counted
    pod_cidrs: tuple[str, ...]


class _Port:
    """One service port in one family: `port` is its name, which may be empty, and its protocol."""

    def __init__(
        self, service: ServiceForwarding, port: tuple[str, str], entries: list[Entry], manner: _Manner
    ) -> None:
        self.name = n.port_name(service.key.namespace, service.key.name, port[0])
        self.protocol = port[1]
        self.family, self.settings, self.comments, self.loopback, self.pod_cidrs = manner
        outside = [entry for entry in entries if entry.frontend.kind is not FrontendKind.CLUSTER_IP]
        inside = [entry for entry in entries if entry.frontend.kind is FrontendKind.CLUSTER_IP]
        self.inside = [entry for entry in inside if not entry.source_ranges]
        self.outside = outside + [entry for entry in inside if entry.source_ranges]  # a load balancer's address, too
        self.served = any(entry.verdict is not Verdict.REJECT for entry in entries)
        self.affinity = entries[0].affinity_seconds if self.settings.recalls else 0
        self.health_check = service.health_check.port if service.health_check else 0
        self._names: dict[tuple[str, str], str] = {}
        self.cluster = self._texts(self.outside or [e for e in self.inside if not e.local_policy])
        self.local = self._local()

    @staticmethod
    def _texts(entries: list[Entry]) -> list[str]:
        return _sorted(entries[0].targets) if entries else []

    def _local(self) -> list[str]:
        for entry in self.inside:
            if entry.local_policy:
                return _sorted(entry.targets)
        return next((_sorted(e.local_targets) for e in self.outside if e.local_targets is not None), [])

    def chain(self, prefix: str, to: str = "") -> str:
        """A chain's name; one is asked for several times."""
        found = self._names.get((prefix, to))
        if found is None:
            found = self._names[prefix, to] = n.chain(prefix, self.name, self.protocol, to)
        return found

    # ------------------------------------------------------------ lines of the shared chains

    def lines(self) -> Iterator[Line]:
        for entry in self.inside:
            yield from self._inside_lines(entry)
        for entry in self.outside:
            yield from self._outside_lines(entry)
        if self.health_check:
            said = comment(f"{self.name} health check node port")
            yield Line(n.FILTER, n.NODE_PORTS, f"-p tcp {said}-m tcp --dport {self.health_check} -j ACCEPT")

    def _inside_lines(self, entry: Entry) -> Iterator[Line]:
        if entry.targets:
            match = self._match(entry.frontend, f"{self.name} cluster IP")
            to = self.chain(n.SVL if entry.local_policy else n.SVC)
            yield Line(n.NAT, n.SERVICES, f"{match}-j {to}")
        else:
            match = self._match(entry.frontend, self._reason(entry.verdict))
            yield Line(n.FILTER, n.SERVICES, match + self._end(entry.verdict))

    def _outside_lines(self, entry: Entry) -> Iterator[Line]:
        front = entry.frontend
        if self.served:
            where = n.SERVICES if front.address else n.NODE_PORTS
            to = self.chain(n.FW if entry.source_ranges else n.EXT)
            match = self._match(front, self._kind(front))
            if self.loopback and not front.address:
                yield Line(n.NAT, where, f"-d 127.0.0.0/8 {match}{counted(n.LOOPBACK_COUNTER)}-j {to}")
            yield Line(n.NAT, where, f"{match}-j {to}")
        if self.served and entry.source_ranges:
            reason = f"{self.name} traffic not accepted by {self.chain(n.FW)}"
            yield Line(n.FILTER, n.PROXY_FIREWALL, self._match(front, reason) + DROP)
        refusal = entry.verdict or entry.external_verdict
        if refusal:
            match = self._match(front, self._reason(refusal), local=True)
            yield Line(n.FILTER, n.EXTERNAL_SERVICES, match + self._end(refusal))

    def _kind(self, front: Frontend) -> str:
        if front.kind is FrontendKind.NODE_PORT:
            return self.name
        return f"{self.name} {'external' if front.kind is FrontendKind.EXTERNAL_IP else 'loadbalancer'} IP"

    def _match(self, front: Frontend, said: str, *, local: bool = False, source: tuple[str, str] = ("", "")) -> str:
        """`local`: a node port only where the destination is this machine."""
        before, after = source
        to = f"-d {single(front.address)} " if front.address else ""
        match = LOCAL_DESTINATION if local and not front.address else ""
        protocol = self.protocol
        return f"{before}{to}{after}-p {protocol} {comment(said)}{match}-m {protocol} --dport {front.port} "

    def _reason(self, verdict: Verdict) -> str:
        return f"{self.name} has no {'' if verdict is Verdict.REJECT else 'local '}endpoints"

    def _end(self, verdict: Verdict) -> str:
        return REFUSE[self.family] if verdict is Verdict.REJECT and self.settings.refuses else DROP

    # ------------------------------------------------------------ the Service's own chains

    def chains(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        if self.outside and self.served:
            yield self.chain(n.EXT), tuple(self._external())
            ranges = dict.fromkeys(text for entry in self.outside for text in entry.source_ranges)
            if ranges:
                yield self.chain(n.FW), tuple(self._firewall(ranges))
        if self.cluster:
            yield self.chain(n.SVC), tuple(self._policy(self.cluster, local=False))
        if self.local:
            yield self.chain(n.SVL), tuple(self._policy(self.local, local=True))
        for to in dict.fromkeys((*self.cluster, *self.local)):
            yield self.chain(n.SEP, to), tuple(self._endpoint(to))

    def _external(self) -> Iterator[str]:
        """Who is asked for by an external address or node port (C1).

        Under Local policy this node and its pods get any endpoint, all others the local ones; where there are none,
        what falls off the end is dropped by the filter table (C3).
        """
        where, to_cluster = f"{self.name} external destinations", f"-j {self.chain(n.SVC)}"
        if all(entry.local_targets is None for entry in self.outside):
            yield comment(f"masquerade traffic for {where}") + TO_MASQUERADE
            if self.cluster:
                yield to_cluster
            return
        if self.cluster:
            for pods in self.settings.own(self.family, self.pod_cidrs):
                yield f"{pods}{comment(f'pod traffic for {where}')}{to_cluster}"
            yield f"{comment(f'masquerade LOCAL traffic for {where}')}{LOCAL_SOURCE}{TO_MASQUERADE}"
            yield f"{comment(f'route LOCAL traffic for {where}')}{LOCAL_SOURCE}{to_cluster}"
        if self.local:
            yield f"-j {self.chain(n.SVL)}"

    def _firewall(self, ranges: Iterable[str]) -> Iterator[str]:
        """Only these sources go on; what falls off the end is not translated, and dropped by the filter table (G1)."""
        said = comment(f"{self.name} loadbalancer IP")
        for text in ranges:
            yield f"-s {network(text)} {said}-j {self.chain(n.EXT)}"
        yield comment(f"other traffic to {self.name} will be dropped by {n.PROXY_FIREWALL}").rstrip()

    def _policy(self, endpoints: list[str], *, local: bool) -> Iterator[str]:
        source = self.settings.off_cluster(self.family)
        for entry in self.inside:
            if source is not None and entry.targets and entry.local_policy == local:
                yield self._match(entry.frontend, f"{self.name} cluster IP", source=source) + TO_MASQUERADE
        chains = [(self._said(f"{self.name} -> {to}"), self.chain(n.SEP, to)) for to in endpoints]
        if self.affinity:
            known = f"--rcheck --seconds {self.affinity} --reap"
            for said, name in chains:
                yield f"{said}{recent(self.family, known, name)}-j {name}"
        for remaining, (said, name) in zip(range(len(chains), 0, -1), chains, strict=True):
            yield f"{said}{chance(remaining) if remaining > 1 else ''}-j {name}"

    def _endpoint(self, to: str) -> Iterator[str]:
        """An endpoint that reaches itself is masqueraded (I4); then to it, noting the client where it is to return."""
        said, protocol = self._said(self.name), self.protocol
        address = to.rpartition(":")[0].strip("[]")
        yield f"-s {address}/{32 if self.family == 4 else 128} {said}{TO_MASQUERADE}"
        noted = recent(self.family, "--set", self.chain(n.SEP, to)) if self.affinity else ""
        yield f"-p {protocol} {said}{noted}-m {protocol} -j DNAT --to-destination {to}"

    def _said(self, text: str) -> str:
        return comment(text) if self.comments else ""


def _sorted(targets: Iterable[Target]) -> list[str]:
    """Endpoints in kube-proxy's order, which is that of their text (E9)."""
    return sorted(endpoint(target.address, target.port) for target in targets)
