"""`deltaplane get`: Services, their endpoints and Nodes as the control plane has them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from deltaplane.v1 import inspection_pb2, views_pb2
from operatorcli.output import Answer, plain
from operatorcli.tables import Block, Cell, Sentence, Table, columns
from operatorcli.text import clock, key, listed

FACTS = columns("", "*")
SERVICES = columns(
    "NAMESPACE*",
    "NAME*",
    "TYPE",
    "CLUSTER IP*",
    "PORTS*",
    "CHANGED>",
    "EXTERNAL+",
    "POLICY+",
    "AFFINITY+",
    "VERSION+",
    "HASH+",
)
ENDPOINTS = columns("ENDPOINT*", "PORTS*", "STATE", "NODE*", "ZONE*", "HINTS+", "SLICE+")
SLICES = columns("NAMESPACE*", "NAME*", "SERVICE*", "FAMILY", "READY>", "ENDPOINTS>", "CHANGED>", "VERSION+")
NODES = columns("NAME*", "ADDRESSES*", "ZONE*", "POD CIDRS*", "CHANGED>", "VERSION+", "HASH+")
View = views_pb2.ObjectView


def services(found: Sequence[View]) -> Answer:
    """A line each."""
    rows = [_service(each) for each in found]
    return _listed(found, Table(SERVICES, rows, empty="no Service"))


def none(namespace: str, others: Sequence[str]) -> Answer:
    """As kubectl says it. `others`: namespaces that have some."""
    if not namespace:
        return Answer([Sentence("No resources found.")], [])
    blocks: list[Block] = [Sentence(f"No resources found in {namespace} namespace.")]
    if others:
        blocks.append(Sentence(f"There are in {listed(list(others))}: -A shows all namespaces, -n NAME one."))
    return Answer(blocks, [])


def _service(view: View) -> Sequence[Cell | str]:
    service = view.service
    external = [*service.external_ips, *service.load_balancer_ips]
    return (
        view.key.namespace,
        view.key.name,
        service.type,
        ", ".join(service.cluster_ips) or "None",
        ", ".join(map(port, service.ports)) or "-",
        changed(view),
        ", ".join(external) or "-",
        f"{service.internal_traffic_policy}/{service.external_traffic_policy}",
        f"{service.session_affinity_seconds}s" if service.session_affinity_seconds else "-",
        view.resource_version or "-",
        view.hash,
    )


def port(of: views_pb2.ServicePortView) -> str:
    """`http 80:30080/TCP`."""
    node_port = f":{of.node_port}" if of.node_port else ""
    return f"{of.name}{' ' if of.name else ''}{of.port}{node_port}/{of.protocol}"


def changed(view: View) -> str:
    """The revision at which it, or its endpoints, changed last."""
    return str(max(view.changed_rev, view.endpoints_changed_rev) or "-")


def _when(rev: int, unix_nano: int = 0) -> str:
    at = f" at {clock(unix_nano)}" if unix_nano else ""
    return f"revision {rev}{at}" if rev else "not since the replica has the whole state"


def service(found: inspection_pb2.GetObjectResponse) -> Answer:
    """One Service with its endpoints."""
    view = found.object
    given = view.service
    newest = max(found.endpoint_slices, key=lambda each: each.changed_rev, default=None)
    facts = {
        "service": f"{view.key.namespace}/{view.key.name}",
        "type": given.type,
        "cluster IPs": ", ".join(given.cluster_ips) or "None",
        "ports": ", ".join(map(port, given.ports)) or "none",
        "external": ", ".join([*given.external_ips, *given.load_balancer_ips]),
        "source ranges": ", ".join(given.load_balancer_source_ranges),
        "policies": f"internal {given.internal_traffic_policy}, external {given.external_traffic_policy}",
        "affinity": f"{given.session_affinity_seconds} s" if given.session_affinity_seconds else "",
        "health check": f"port {given.health_check_node_port} of each node" if given.health_check_node_port else "",
        "changed": _when(view.changed_rev, view.changed_unix_nano),
        "version": view.resource_version,
        "endpoints changed": _when(newest.changed_rev, newest.changed_unix_nano) if newest else "",
    }
    blocks: list[Block] = [table(facts), Sentence(""), *_problems([view]), _endpoints(found.endpoint_slices)]
    return Answer(blocks, plain(found), [key(view.key)])


def table(facts: dict[str, str]) -> Table:
    """A line for each that says something."""
    return Table(FACTS, [(Cell(name, "strong"), value) for name, value in facts.items() if value])


def endpoints(found: inspection_pb2.GetObjectResponse) -> Answer:
    """A line for each endpoint of a Service."""
    slices = found.endpoint_slices
    blocks: list[Block] = [_endpoints(slices), *_problems(slices)]
    return Answer(blocks, [plain(each) for each in slices], [key(each.key) for each in slices])


def _endpoints(slices: Iterable[View]) -> Table:
    rows = [_endpoint(each, slice_) for slice_ in slices for each in slice_.endpoint_slice.endpoints]
    return Table(ENDPOINTS, rows, empty="no endpoint")


def _endpoint(of: views_pb2.EndpointView, slice_: View) -> Sequence[Cell | str]:
    hints = [f"zone {each}" for each in of.zone_hints] + [f"node {each}" for each in of.node_hints]
    return (
        of.address,
        ", ".join(map(port, slice_.endpoint_slice.ports)) or "-",
        state(of),
        of.node or "-",
        of.zone or "-",
        ", ".join(hints) or "-",
        slice_.key.name,
    )


def state(of: views_pb2.EndpointView) -> Cell:
    """Its conditions in a word or two."""
    if of.ready:
        return Cell("ready", "good")
    if of.terminating:
        return Cell("terminating, serving" if of.serving else "terminating", "warn")
    return Cell("not ready", "bad")


def slices(found: Sequence[View]) -> Answer:
    """A line for each EndpointSlice."""
    rows = [
        (
            each.key.namespace,
            each.key.name,
            each.endpoint_slice.service,
            each.endpoint_slice.family,
            str(sum(of.ready for of in each.endpoint_slice.endpoints)),
            str(len(each.endpoint_slice.endpoints)),
            changed(each),
            each.resource_version or "-",
        )
        for each in found
    ]
    return _listed(found, Table(SLICES, rows, empty="no EndpointSlice"))


def nodes(found: Sequence[View]) -> Answer:
    """A line for each Node."""
    rows = [
        (
            each.key.name,
            ", ".join(each.node.addresses) or "-",
            each.node.zone or "-",
            ", ".join(each.node.pod_cidrs) or "-",
            changed(each),
            each.resource_version or "-",
            each.hash,
        )
        for each in found
    ]
    return _listed(found, Table(NODES, rows, empty="no Node"))


def _listed(found: Sequence[View], table: Table) -> Answer:
    return Answer([table, *_problems(found)], [plain(each) for each in found], [key(each.key) for each in found])


def _problems(found: Iterable[View]) -> Iterator[Sentence]:
    for each in found:
        if each.problem:
            yield Sentence(
                f"{key(each.key)}: its newest form cannot be used, and the last good one counts: {each.problem}", "bad"
            )
