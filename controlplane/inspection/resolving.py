"""What a node makes of Services: ResolveForNode, Explain and Diff, by the functions that agents use themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from controlplane.inspection.basis import acknowledged, basis
from controlplane.inspection.here import Here
from controlplane.inspection.objects import Unknown, absent, service_named
from controlplane.inspection.past import Past
from controlplane.inspection.then import Then
from controlplane.session import Session
from deltaplane.addresses import parse_cidr
from deltaplane.explain import Answer, Question, Site, explain, explanation, manner_of, question_of
from deltaplane.forwarding import NodeForwarding, own_pod_cidrs
from deltaplane.model import Kind, Node, ObjectKey, family_of
from deltaplane.resolve import NodeView, resolve
from deltaplane.v1 import delta_pb2, inspection_pb2
from deltaplane.views import forwarding_view, node_view

ASSUMED = (
    "the node's own options are not known here: node ports are taken to answer at the Node's first address of each"
    " family, and nothing to be masqueraded that need not be"
)
NO_OTHERS = (
    "no rule of another program on {node} drops or redirects it: explain at its agent's own socket names those that may"
    " (--server=unix:///PATH), and so does `deltaplane doctor` there"
)


def node_named(here: Here, name: str) -> tuple[Node, Session | None]:
    """The Node object, one without facts where the cluster has none but an agent is known. Raises `Unknown`."""
    node, session = here.node(name), here.session(name)
    if node is None and session is None:
        raise Unknown(absent(here, ObjectKey(Kind.NODE, "", name)))
    return node or Node(name), session


def view_of(node: Node) -> NodeView:
    """What Services are resolved for, as the node's agent makes it: the first address of each family."""
    return NodeView(node.name, node.zone, tuple(sorted(_primary(node).values())))


def _primary(node: Node) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for address in node.addresses:
        found.setdefault(int(family_of(address)), address)
    return found


def resolve_for_node(
    here: Here, request: inspection_pb2.ResolveForNodeRequest
) -> inspection_pb2.ResolveForNodeResponse:
    """Of the state that the node has acknowledged. Raises `Unknown`."""
    node, session = node_named(here, request.node_name)
    key = ObjectKey(Kind.SERVICE, request.namespace, request.name)
    found = Past(here, acknowledged(here, session) or here.head).held(key)
    if found.service is None:
        service_named(here, request.namespace, request.name)  # raises, unless it came after what the node has
    frontends = here.cluster.frontends
    forwarding = frontends.without_lost(resolve(key, found.service, found.slices, view_of(node)))
    return inspection_pb2.ResolveForNodeResponse(
        forwarding=forwarding_view(forwarding, map(str, frontends.lost(key))),
        node=node_view(node),
        basis=basis(here, session, found.changed, found.unknown),
        failed=failures(session, {key, *(each.key for each in found.slices), *found.changed}),
    )


def failures(session: Session | None, keys: Iterable[ObjectKey]) -> list[delta_pb2.ObjectFailure]:
    """What the node reports of these objects."""
    wanted = set(keys)
    acked = () if session is None else session.acked.failed
    return [each for each in acked if ObjectKey(Kind(each.key.kind), each.key.namespace, each.key.name) in wanted]


def explain_at(here: Here, request: inspection_pb2.ExplainRequest) -> inspection_pb2.ExplainResponse:
    """By the state that the node has acknowledged. Raises ValueError, `Unknown`."""
    question = question_of(request.connection)
    node, session = node_named(here, request.node_name)
    mode = "" if session is None else session.hello.proxy_mode
    site = site_of(here, node, tuple(request.cluster_cidrs), mode)
    past = Past(here, acknowledged(here, session) or here.head)
    directory = Then(here, view_of(node), past)
    answer = explain(question, site, directory)
    changed = _changed(here, question, site, directory, answer)
    unknown = directory.unknown if answer.service is not None or past.kept else _gone(here, past)
    return inspection_pb2.ExplainResponse(
        explanation=explanation(request.connection, answer, site),
        basis=basis(here, session, (*changed, *unknown), unknown),
        failed=failures(session, {*changed, *_keys(directory, answer)}),
    )


def _changed(here: Here, question: Question, site: Site, directory: Then, answer: Answer) -> dict[ObjectKey, None]:
    """What has changed since and has to do with the answer, as it was then or as it would be now."""
    past = directory.past
    if not past.changed:
        return {}
    today = Then(here, directory.view, Past(here, here.head))
    now = explain(question, site, today)
    keys = (*_keys(directory, answer), *_keys(today, now))
    return dict.fromkeys(key for key in keys if past.differs(key))


def _keys(directory: Then, answer: Answer) -> tuple[ObjectKey, ...]:
    """The Service of an answer, and its slices."""
    if answer.service is None:
        return ()
    found = directory.held(answer.service)
    return tuple(dict.fromkeys((answer.service, *(each.key for each in found.slices), *found.changed)))


def _gone(here: Here, past: Past) -> dict[ObjectKey, None]:
    """Services that are gone since, of which no address is known any more."""
    services = (key for key in past.changed if key.kind is Kind.SERVICE)
    return dict.fromkeys(key for key in services if here.cluster.store.get(key) is None)


def site_of(here: Here, node: Node, cluster_cidrs: tuple[str, ...], mode: str = "") -> Site:
    """The node as far as the control plane knows it; `mode` is its agent's. Raises ValueError."""
    primary = _primary(node)
    given = tuple(map(parse_cidr, cluster_cidrs))
    cidrs = tuple(sorted({text for each in _nodes(here) for text in each.pod_cidrs}))
    told = "pods are told by the CIDRs in the question" if given else "pods are told by the Nodes' pod CIDRs"
    forwarding = NodeForwarding(
        node_port_addresses=tuple(sorted(primary.values())),
        match_all_families=tuple(family for family in (4, 6) if primary and family not in primary),
        service_cidrs=tuple(sorted({text for each in _ranges(here) for text in each})),
        pod_cidrs=own_pod_cidrs(node.pod_cidrs, given),
    )
    pods = tuple((6 if ":" in text else 4, text) for text in given or cidrs)
    return Site(
        node.name, frozenset(node.addresses), forwarding, node.zone, pods,
        assumptions=(ASSUMED, told, NO_OTHERS.format(node=node.name)), manner=manner_of(mode),
    )  # fmt: skip


def _nodes(here: Here) -> Iterator[Node]:
    return (node for name in here.nodes_of_cluster() if (node := here.node(name)) is not None)


def _ranges(here: Here) -> Iterator[tuple[str, ...]]:
    store = here.cluster.store
    for key in store.keys(Kind.SERVICE_CIDR):
        yield getattr(store.get(key), "cidrs", ())
