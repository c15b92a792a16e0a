"""controlplane.settings: what a control plane is told, and what it refuses to run with."""

from __future__ import annotations

import pytest

from controlplane.certificates.values import Times
from controlplane.identity.peer import Way
from controlplane.settings import parse
from deltaplane.flags import UsageError

PAIR = ("--tls-cert-file=c", "--tls-private-key-file=k")
OWN = ("--certificates=own", "--listen=[2001:db8::1]:50051")
FOLDER = ("--source=manifests", "--manifests=d")


def test_a_replica_is_reached_where_it_listens_unless_another_place_is_said() -> None:
    listening = parse(["--insecure", "--replicas=192.0.2.1:1,192.0.2.2:1", "--listen=192.0.2.1:1"])
    said = parse(["--insecure", "--replicas=replicas.example:1", "--advertise=[2001:db8::1]:1"])
    assert (listening.replicas.me, said.replicas.me) == ("192.0.2.1:1", "[2001:db8::1]:1")
    assert listening.replicas.places == ("192.0.2.1:1", "192.0.2.2:1")


def test_by_their_earlier_name_the_replicas_are_asked_and_no_agent_is_sent_to_them() -> None:
    given = parse(["--insecure", "--peers=192.0.2.1:1,192.0.2.2:1", "--listen=192.0.2.1:1"])
    assert (given.replicas.places, given.replicas.me) == (("192.0.2.1:1", "192.0.2.2:1"), "")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "--tls-cert-file=FILE is missing, for TLS; instead of it: --certificates=own, --insecure"),
        (["--tls-cert-file=c"], "--tls-private-key-file=FILE is missing"),
        (["--tls-private-key-file=k"], "--tls-cert-file=FILE is missing"),
        ([*PAIR, "--insecure"], "do not go with --insecure"),
        (["--client-ca-file=a", "--insecure"], "do not go with --insecure"),
        ([*PAIR, "--listen=unix:///run/d"], "do not go with --listen=unix:///run/d, which is plain text"),
        (["--listen=unix://run/d", "--insecure"], "a unix socket is unix:///PATH"),
        (["--insecure", "--listen-loopback"], "--listen-loopback goes with one address of the host"),
        (
            ["--insecure", "--listen-loopback", "--listen=[::1]:1"],
            "--listen-loopback goes with one address of the host",
        ),
        ([*OWN, "--insecure"], "--certificates=own does not go with --insecure"),
        ([*OWN, "--listen=unix:///run/d"], "--certificates=own does not go with --listen=unix:///run/d"),
        ([*OWN, *FOLDER], "--certificates=own goes with --source=kubernetes"),
        ([*OWN, *PAIR], "do not go with --certificates=own"),
        (["--certificates=own"], "--certificate-names=NAME,... is missing: --listen=0.0.0.0:50051 names no host"),
        ([*OWN, "--certificate-names=a b"], "'a b' is neither a DNS name nor an address"),
        ([*OWN, "--certificate-namespace=A"], "'A' is not the name of a namespace"),
        ([*OWN, "--certificate-lifetime=7d"], "'7d' is not a number of seconds, minutes or hours"),
        ([*OWN, "--certificate-lifetime=1s"], "'1s' is not from 10s to 87600h"),
        ([*OWN, "--certificate-lifetime=100h", "--authority-lifetime=399h"], "less than four times"),
        (["--insecure", "--controllers=nodes"], "--controllers=nodes: 'nodes' is no controller"),
        ([*FOLDER, "--insecure", "--controllers=endpoints"], "--controllers=endpoints goes with --source=kubernetes"),
        (["--insecure", "--controllers=endpoints", "--endpointslice-manager=me"], "goes with --source=kubernetes and"),
        (
            [*FOLDER, "--insecure", "--controllers=endpointslice", "--endpointslice-manager=me"],
            "goes with --source=kub",
        ),
        (["--insecure", "--controllers=endpointslice", "--endpointslice-manager=a,b"], "'a,b' is no value of a label"),
        ([*FOLDER, *PAIR], "--client-ca-file=FILE is missing: with --source=manifests"),
        (
            ["--insecure", "--replicas=a:1"],
            "--replicas needs --advertise=ADDRESS:PORT, where this",
        ),
        (["--insecure", "--replicas=a:1", "--advertise=a:1"], "where this one is reached: a:1 does not say"),
        (["--insecure", "--replicas=a:1,b"], "'b' is not HOST:PORT"),
        (["--insecure", "--advertise=192.0.2.1:1"], "--advertise goes with --replicas"),
        (["--insecure", "--peers=a:1", "--advertise=192.0.2.1:1"], "--advertise goes with --replicas"),
        (["--insecure", "--replicas=a:1", "--peers=a:1"], "--peers is the earlier name of --replicas"),
    ],
)
def test_without_what_tells_who_is_who_it_does_not_start(arguments: list[str], reason: str) -> None:
    with pytest.raises(UsageError) as told:
        parse(arguments)
    assert reason in str(told.value)


@pytest.mark.parametrize(
    ("arguments", "way"),
    [
        (PAIR, Way.TLS),
        ([*FOLDER, *PAIR, "--client-ca-file=a"], Way.TLS),
        (["--insecure"], Way.INSECURE),
        (["--listen=unix:///run/d"], Way.SOCKET),
        (["--listen=unix:///run/d", "--insecure"], Way.SOCKET),
    ],
)
def test_how_peers_reach_it(arguments: list[str], way: Way) -> None:
    assert parse(arguments).security.way is way


def test_the_help_says_the_default_of_each_flag_that_has_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for default in ("kubernetes", "0.0.0.0:50051", "168h", "8760h", "deltaplane-system/deltaplane-agent", "0.01", "0"):
        assert f"(default: {default})" in said
    assert "(default: )" not in said
    assert "None" not in said
    own = parse([*OWN]).security.own
    assert own is not None
    assert (own.times.leaf, own.times.authority) == (Times().leaf, Times().authority)


def test_its_own_certificate_is_for_the_host_it_listens_on_and_the_names_given() -> None:
    given = parse([*OWN, "--certificate-names=2001:db8::1,a.b.svc,192.0.2.1", "--certificate-lifetime=24h"]).security

    assert given.way is Way.TLS
    assert given.own is not None
    assert given.own.names == ("2001:db8::1", "a.b.svc", "192.0.2.1")
    assert (given.own.times.leaf, given.own.times.authority) == (86400.0, 365 * 86400.0)


@pytest.mark.parametrize("leaf,whole", [(10.0, 40.0), (3600.0, 86400.0), (7 * 86400.0, 365 * 86400.0)])
def test_whatever_the_lifetimes_a_successor_is_published_in_time(leaf: float, whole: float) -> None:
    times = Times(whole, leaf)

    assert whole * 2 / 3 + times.lead + 2 * times.skew + 2 * times.look < whole
    assert times.lead > 2 * times.skew + 2 * times.look


def test_controllers_are_off_unless_asked_for() -> None:
    assert parse(["--insecure"]).controllers == ()
    assert parse(["--insecure", "--controllers=endpointslice,endpoints"]).controllers == ("endpointslice", "endpoints")
    assert parse([*FOLDER, "--insecure", "--controllers=endpointslice"]).controllers == ("endpointslice",)


def test_slices_are_marked_as_ours_unless_another_name_is_given() -> None:
    named = ["--insecure", "--controllers=endpointslice", "--endpointslice-manager=endpointslice-controller.k8s.io"]

    assert parse(["--insecure"]).slice_manager == "endpointslice-controller.deltaplane.dev"
    assert parse(named).slice_manager == "endpointslice-controller.k8s.io"


@pytest.mark.parametrize("certificates", [[*OWN], [*PAIR]], ids=["own", "files"])
def test_whoever_makes_the_certificates_each_account_is_where_it_was_said(certificates: list[str]) -> None:
    given = parse([*certificates, "--agent-account=a/agents", "--peer-account=a/replicas", "--trust-domain=a.example"])

    assert given.security.agent_account == "a/agents"
    assert given.security.peer_account == "a/replicas"
    assert given.security.trust_domain == "a.example"
    assert (given.security.own is None) == ("--certificates=own" not in certificates)
