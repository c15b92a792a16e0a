"""How flags become a way to a replica, and which combinations are refused before anything is dialled."""

from __future__ import annotations

import base64
import json
import sys

import pytest

from operatorcli.connect import token
from operatorcli.connect.cluster import Cluster
from operatorcli.connect.target import AUDIENCE, Flags, Forwarded, Plain, Secure, way
from operatorcli.exits import Exit, Failed

ADDRESS = "192.0.2.10:50051"
PAIR = Flags(server=ADDRESS, ca_file="a", tls_cert_file="c", tls_private_key_file="k")


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (Flags(server="unix:///run/a.sock"), Plain(("unix:/run/a.sock",))),
        (Flags(server=ADDRESS, insecure=True), Plain((ADDRESS,))),
        (Flags(server=ADDRESS, ca_file="ca.crt"), Secure((ADDRESS,), own_token=True)),
        (Flags(server="[fd00::1]:50051", ca_file="ca", token_file="t"), Secure(("[fd00::1]:50051",), own_token=False)),
        (PAIR, Secure((ADDRESS,), own_token=False)),
        (Flags(server=f"{ADDRESS},a:1", insecure=True), Plain((ADDRESS, "a:1"))),
        (Flags(), Forwarded(secure=True, own_token=True)),
        (Flags(token_file="t"), Forwarded(secure=True, own_token=False)),
        (Flags(insecure=True), Forwarded(secure=False, own_token=True)),
    ],
)
def test_flags_say_how_the_replica_is_reached(flags: Flags, wanted: object) -> None:
    assert way(flags) == wanted


@pytest.mark.parametrize(
    ("flags", "said", "advice"),
    [
        (Flags(server=ADDRESS), "without --ca-file", "--insecure"),
        (Flags(server="192.0.2.10"), "neither HOST:PORT nor unix:///PATH", "50051"),
        (Flags(server="192.0.2.10:0"), "neither", "50051"),
        (Flags(server=f"{ADDRESS},", insecure=True), "neither", "50051"),
        (Flags(server="fd00::1:50051"), "neither", "brackets"),
        (Flags(server="unix://a.sock"), "no absolute path", "three slashes"),
        (Flags(server=f"unix:///{'x' * 107}"), "longer than 107 bytes", "shorter path"),
        (Flags(tls_cert_file="c"), "go together", "both"),
        (Flags(account="deltaplane-inspector"), "is not NAMESPACE/NAME", "deltaplane-system/deltaplane-inspector"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(flags: Flags, said: str, advice: str) -> None:
    with pytest.raises(Failed) as failed:
        way(flags)

    assert failed.value.code is Exit.USAGE
    assert said in failed.value.text
    assert advice in failed.value.advice


def jwt(**claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.c2ln"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (jwt(aud=[AUDIENCE, "other"], exp=200), True),
        (jwt(aud=AUDIENCE), True),
        (jwt(aud="https://kubernetes.default.svc", exp=200), False),
        (jwt(aud=AUDIENCE, exp=99), False),
        ("opaque", False),
        ("a.!.c", False),
        ("", False),
    ],
)
def test_a_persons_own_token_is_shown_only_if_it_is_meant_for_the_replica(given: str, wanted: bool) -> None:
    assert token.fits(given, AUDIENCE, 100.0) is wanted


def test_without_the_kubernetes_client_as_in_the_image_it_says_which_ways_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(Failed) as failed:
        Cluster(Flags())
    assert failed.value.code is Exit.UNREACHED
    assert "no Kubernetes client" in failed.value.text
    assert "--server=unix:///PATH" in failed.value.advice
