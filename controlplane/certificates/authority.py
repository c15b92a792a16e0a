"""CAs and certificates (X.509, RFC 5280): made, signed and read. Keys are of curve P-256.

Called by `keeper` and `stored`. What `plan` decides on are the plain values of this module.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime
from secrets import token_hex

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controlplane.certificates.values import Authority, Leaf, Root
from deltaplane.certificates import Unusable

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_NO_USAGE = {
    "content_commitment": False, "key_encipherment": False, "data_encipherment": False, "key_agreement": False,
    "encipher_only": False, "decipher_only": False,
}  # fmt: skip


def make(begins: float, ends: float) -> Authority:
    """A new CA, self-signed. Unix seconds."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named(f"deltaplane CA {token_hex(8)}")  # a name of its own: chains are found by names
    usage = x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **_NO_USAGE)
    made = (
        _unsigned(key, key, begins, ends)
        .issuer_name(subject)
        .subject_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    root = _root(made)
    return Authority(root.certificate, _pem(key), root.name, root.begins, root.ends)


def sign(authority: Authority, names: Sequence[str], begins: float, ends: float) -> Leaf:
    """A server certificate for these DNS names and addresses. Unix seconds."""
    signer, signing = _certificate(authority.certificate), _key(authority.key)
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(digital_signature=True, key_cert_sign=False, crl_sign=False, **_NO_USAGE)
    made = (
        _unsigned(key, signing, begins, ends)
        .issuer_name(signer.subject)
        .subject_name(_named("deltaplane-controlplane"))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([alternative(name) for name in names]), critical=False)
        .sign(signing, hashes.SHA256())
    )
    return Leaf(_text(made), _pem(key), authority.name, *_validity(made))


def alternative(name: str) -> x509.GeneralName:
    """An address or a DNS name as a certificate has it. Raises ValueError: it is neither."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def read_root(text: str) -> Root:
    """A CA's certificate that agents can believe. Raises `Unusable`."""
    found = _certificate(text)
    if found.issuer != found.subject:
        raise Unusable("another CA has signed it: only a self-signed CA is believed for itself")
    try:
        found.verify_directly_issued_by(found)
        constraints = found.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (InvalidSignature, ValueError, TypeError) as error:
        raise Unusable("its signature is not its own") from error
    except x509.ExtensionNotFound as error:
        raise Unusable("it is no CA: it has no basicConstraints") from error
    if not constraints.ca:
        raise Unusable("it is no CA: basicConstraints say so")
    return _root(found)


def read_believed(text: str) -> Root:
    """Any certificate of a bundle, whoever put it there. Raises `Unusable`."""
    return _root(_certificate(text))


def read(text: str, key: str) -> Authority:
    """A CA with its key. Raises `Unusable`."""
    root, private = read_root(text), _key(key)
    if private.public_key() != _certificate(text).public_key():
        raise Unusable("the private key is not that of the certificate")
    return Authority(root.certificate, _pem(private), root.name, root.begins, root.ends)


def _unsigned(key: _Key, signing: _Key, begins: float, ends: float) -> x509.CertificateBuilder:
    """Both keys by their identifiers, without names."""
    public, by = key.public_key(), signing.public_key()
    made = x509.CertificateBuilder(public_key=public, serial_number=x509.random_serial_number())
    made = made.not_valid_before(_date(begins)).not_valid_after(_date(ends))
    made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    return made.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by), critical=False)


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _certificate(text: str) -> x509.Certificate:
    try:
        (found,) = x509.load_pem_x509_certificates(text.encode())
        _ = found.extensions
    except ValueError as error:
        raise Unusable("it is not one certificate in PEM that can be read") from error
    return found


def _key(text: str) -> _Key:
    try:
        found = serialization.load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise Unusable("the private key is not PEM that can be read, without a password") from error
    if not isinstance(found, _Key):
        raise Unusable("the private key is neither of an elliptic curve nor RSA")
    return found


def _root(found: x509.Certificate) -> Root:
    return Root(_text(found), found.fingerprint(hashes.SHA256()).hex(), *_validity(found))


def _validity(found: x509.Certificate) -> tuple[float, float]:
    return found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()


def _text(found: x509.Certificate) -> str:
    return found.public_bytes(serialization.Encoding.PEM).decode()


def _pem(key: _Key) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
