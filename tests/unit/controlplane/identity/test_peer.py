"""controlplane.identity.peer: who a peer is, from what is known of its connection."""

from __future__ import annotations

import pytest

from controlplane.identity.flags import ACCOUNT, PEER_ACCOUNT, TRUST_DOMAIN
from controlplane.identity.peer import NODE_NAME, Facts, Identity, Refusal, User, Way, agent, known, of_user, speaks_for
from controlplane.identity.rights import NEEDED, without_asking

AGENT = "system:serviceaccount:deltaplane-system:deltaplane-agent"
NODE = "spiffe://deltaplane.dev/node/"


def tls(*uris: str, token: str = "") -> Facts:
    return Facts(Way.TLS, "TLSv1.3", uris, token)


def reason(found: Identity | Refusal | None) -> str:
    assert isinstance(found, Refusal), found
    return found.reason


def user(name: str = AGENT, **extra: tuple[str, ...]) -> User:
    return User(name, extra={NODE_NAME: extra.get("nodes", ())})


def test_a_certificate_speaks_for_the_node_that_its_uri_names() -> None:
    found = known(tls(f"{NODE}n1.example", "https://elsewhere.example/n2"), TRUST_DOMAIN)

    assert isinstance(found, Identity)
    assert found.node == "n1.example"
    assert agent(found, ACCOUNT) is None


@pytest.mark.parametrize(
    "uris",
    [
        (NODE,),
        (f"{NODE}N1",),
        (f"{NODE}n1/",),
        (f"{NODE}n1/n2",),
        (f"{NODE}%6e1",),
        (f"{NODE}n1?x",),
        (f"{NODE}n1\n",),
        ("spiffe://deltaplane.dev/",),
        ("spiffe://deltaplane.dev/nodes/n1",),
        (f"{NODE}n1", f"{NODE}n2"),
        (f"{NODE}n1", "spiffe://deltaplane.dev/operator/me"),
    ],
)
def test_a_certificate_whose_name_is_not_one_nodes_is_refused(uris: tuple[str, ...]) -> None:
    assert reason(known(tls(*uris), TRUST_DOMAIN)) == "certificate"


@pytest.mark.parametrize("uri", ["spiffe://other.example/node/n1", "spiffe://deltaplane.dev.example/node/n1", "n1"])
def test_a_name_of_another_domain_says_nothing(uri: str) -> None:
    assert known(tls(uri), TRUST_DOMAIN) is None


def test_an_operators_certificate_speaks_for_no_node() -> None:
    found = known(tls("spiffe://deltaplane.dev/operator/me"), TRUST_DOMAIN)

    assert isinstance(found, Identity)
    assert found.operator
    assert reason(agent(found, ACCOUNT)) == "no-node"


def test_a_certificate_that_nobody_looked_at_proves_nothing_and_a_token_does() -> None:
    assert reason(known(Facts(Way.TLS, "TLSv1.3", (f"{NODE}n1",), resumed=True), TRUST_DOMAIN)) == "resumed"
    assert known(Facts(Way.TLS, "TLSv1.3", (), "token", resumed=True), TRUST_DOMAIN) is None


@pytest.mark.parametrize("version", ["", "TLSv1.2"])
def test_an_older_tls_is_refused_whatever_the_certificate_says(version: str) -> None:
    assert reason(known(Facts(Way.TLS, version, (f"{NODE}n1",)), TRUST_DOMAIN)) == "tls-version"


@pytest.mark.parametrize("way", [Way.SOCKET, Way.INSECURE])
def test_without_tls_everybody_is_whom_they_say(way: Way) -> None:
    found = known(Facts(way), TRUST_DOMAIN)

    assert isinstance(found, Identity)
    assert agent(found, ACCOUNT) is None
    assert speaks_for(found, "any") is None


def test_a_token_speaks_for_the_node_of_its_pod_alone() -> None:
    found = of_user(user(nodes=("n1",)))

    assert agent(found, ACCOUNT) is None
    assert speaks_for(found, "n1") is None
    for other in ("n2", "", "n1\n", "N1"):
        assert reason(speaks_for(found, other)) == "another-node"


def test_a_token_of_another_account_streams_nothing_though_its_pod_runs_on_the_node() -> None:
    for name in ("system:serviceaccount:deltaplane-system:other", "system:serviceaccount:x:deltaplane-agent", "root"):
        assert reason(agent(of_user(user(name, nodes=("n1",))), ACCOUNT)) == "account"


@pytest.mark.parametrize("nodes", [(), ("n1", "n2")])
def test_a_token_that_is_bound_to_no_one_node_streams_nothing(nodes: tuple[str, ...]) -> None:
    assert reason(agent(of_user(user(nodes=nodes)), ACCOUNT)) == "no-node"


def test_what_it_says_of_itself_is_shown_escaped() -> None:
    refusal = speaks_for(Identity("n1", node="n1"), "a\x1b[31m")

    assert refusal is not None
    assert refusal.text.isprintable()


def test_the_replicas_account_and_certificate_may_ask_everything_and_no_other_account_is_one() -> None:
    certified = known(tls("spiffe://deltaplane.dev/replica/cp-1"), TRUST_DOMAIN)
    account = of_user(user("system:serviceaccount:deltaplane-system:deltaplane-controlplane"), PEER_ACCOUNT)
    another = of_user(user(), PEER_ACCOUNT)

    assert isinstance(certified, Identity)
    assert [each.replica for each in (certified, account, another)] == [True, True, False]
    for right in set(NEEDED.values()):
        assert without_asking(certified, right) is None
        assert without_asking(account, right) is None
        assert isinstance(without_asking(another, right), User)
    assert reason(agent(certified, ACCOUNT)) == "no-node"
    assert reason(agent(account, ACCOUNT)) == "account"
