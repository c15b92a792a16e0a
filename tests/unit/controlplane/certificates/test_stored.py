"""The Secret and the ConfigMap of the CA: what is read, what is refused by name, and what stays when written."""

from __future__ import annotations

import base64
import time

import pytest

from controlplane.certificates import authority, stored
from controlplane.certificates.values import Authority, Bundle
from tests.certificates import openssl

NOW = time.time()


@pytest.fixture(scope="module")
def one() -> Authority:
    return authority.make(NOW - 60, NOW + 1000)


@pytest.fixture(scope="module")
def other() -> Authority:
    return authority.make(NOW - 30, NOW + 1000)


def secret(**data: str) -> stored.Object:
    coded = {name.replace("_", "."): base64.b64encode(text.encode()).decode() for name, text in data.items()}
    return {"metadata": {"name": stored.SECRET, "resourceVersion": "7"}, "data": coded}


def bundle(text: str, **annotations: str) -> stored.Object:
    said = {"deltaplane.dev/published": annotations["since"]} if annotations else {}
    return {"metadata": {"name": stored.CONFIG_MAP, "annotations": said}, "data": {stored.FILE: text}}


def test_what_is_written_is_read_again(one: Authority, other: Authority) -> None:
    made = stored.with_authorities(None, (one, other), "a")
    wanted = Bundle((one.root, other.root), {one.name: 5.0, other.name: 9.0})

    assert {each.name: each for each in stored.secret(made)[0]} == {one.name: one, other.name: other}
    assert stored.secret(made)[1] == ()
    assert stored.bundle(stored.with_bundle(None, wanted, "a")) == (wanted, ())


def test_a_ca_of_an_operators_own_counts_whatever_its_name(one: Authority) -> None:
    assert stored.secret(secret(mine_crt=one.certificate, mine_key=one.key)) == ((one,), ())


def test_what_others_put_beside_ours_stays(one: Authority) -> None:
    there = secret(note="x", old_crt="x")
    there["metadata"] |= {"labels": {"a": "b"}, "annotations": {"c": "d", stored.RENEW: ""}}
    made = stored.with_authorities(there, (one,), "a")

    assert made["metadata"] == {
        "name": stored.SECRET, "resourceVersion": "7", "labels": {"a": "b"}, "annotations": {"c": "d"}
    }  # fmt: skip
    assert made["data"].keys() == {"note", f"ca-{one.name[:12]}.crt", f"ca-{one.name[:12]}.key"}
    assert stored.renewal(there)
    assert not stored.renewal(made)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("no key", "there is no b.key"),
        ("no certificate", "there is no b.crt"),
        ("another key", "the private key is not that of the certificate"),
        ("half a certificate", "it is not one certificate in PEM that can be read"),
        ("two certificates", "it is not one certificate in PEM that can be read"),
        ("half a key", "the private key is not PEM that can be read"),
        ("of another kind of key", "the private key is neither of an elliptic curve nor RSA"),
        ("a server's", "another CA has signed it"),
        ("not text", "b.crt is not PEM text"),
    ],
)
def test_what_cannot_be_used_is_named_and_the_rest_counts(
    one: Authority, other: Authority, kind: str, reason: str
) -> None:
    certificate, key = other.certificate, other.key
    match kind:
        case "no key" | "no certificate":
            pass
        case "another key":
            key = one.key
        case "half a certificate":
            certificate = certificate[:300]
        case "two certificates":
            certificate = one.certificate + certificate
        case "half a key":
            key = key[:100]
        case "of another kind of key":
            key = openssl("genpkey", "-algorithm", "ED25519").decode()
        case "a server's":
            leaf = authority.sign(one, ["a"], NOW, NOW + 10)
            certificate, key = leaf.certificate, leaf.key
        case _:
            certificate = "\xff"
    data = {"a_crt": one.certificate, "a_key": one.key, "b_crt": certificate, "b_key": key}
    data.pop({"no key": "b_key", "no certificate": "b_crt"}.get(kind, ""), None)
    found, (fault,) = stored.secret(secret(**data))

    assert found == (one,)
    assert f"Secret {stored.SECRET}: b.crt and b.key: " in fault
    assert reason in fault


@pytest.mark.parametrize(
    "thing", [None, {"metadata": {}}, {"metadata": {}, "data": None}, {"metadata": {}, "data": []}]
)
def test_nothing_in_them_is_named(thing: stored.Object | None) -> None:
    assert stored.secret(thing) == ((), (stored.NO_AUTHORITY,))
    assert stored.bundle(thing) == (Bundle(), (stored.NO_ROOT,))


def test_of_a_damaged_bundle_whole_certificates_count_whoever_put_them_there(one: Authority, other: Authority) -> None:
    leaf = authority.sign(one, ["a"], NOW, NOW + 10).certificate  # of somebody who believes one server alone
    text = f"# ours\n{one.certificate}{leaf}{other.certificate[:200]}"
    found, (fault,) = stored.bundle(bundle(text))

    assert {root.certificate for root in found.roots} == {one.certificate, leaf}
    assert "more than whole certificates" in fault


@pytest.mark.parametrize("since", ["", "[]", "{", '{"a": "b"}'])
def test_dates_of_publication_that_cannot_be_read_are_named(one: Authority, since: str) -> None:
    found, (fault,) = stored.bundle(bundle(one.certificate, since=since))

    assert found == Bundle((one.root,), {})
    assert "annotation deltaplane.dev/published cannot be read" in fault


def test_a_key_is_in_no_text_that_could_be_logged(one: Authority) -> None:
    leaf = authority.sign(one, ["a"], NOW, NOW + 10)

    assert "PRIVATE" not in f"{one!r}{one}{leaf!r}{leaf}"


def test_openssl_believes_what_is_signed_for_the_names_it_is_for(one: Authority, tmp_path: object) -> None:
    leaf = authority.sign(one, ["192.0.2.1", "2001:db8::1", "a.b.svc"], NOW - 60, NOW + 500)
    text = openssl("x509", "-noout", "-text", stdin=leaf.certificate.encode()).decode()

    assert "IP Address:192.0.2.1, IP Address:2001:DB8:0:0:0:0:0:1, DNS:a.b.svc" in text
    assert "TLS Web Server Authentication" in text
    assert leaf.ends == int(NOW + 500)
