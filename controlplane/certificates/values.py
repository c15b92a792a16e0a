"""What is known of CAs and certificates, as plain values. Times are Unix seconds, texts PEM. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Root(Struct, frozen=True):
    """A CA that agents believe. `name`: SHA-256 of the certificate, in hex."""

    certificate: str
    name: str
    begins: float
    ends: float


class Authority(Struct, frozen=True):
    """A CA that signs: a root with its key."""

    certificate: str
    key: str
    name: str
    begins: float
    ends: float

    def __repr__(self) -> str:
        return f"Authority({self.name[:12]})"  # the key is for no log

    @property
    def root(self) -> Root:
        return Root(self.certificate, self.name, self.begins, self.ends)


class Leaf(Struct, frozen=True):
    """A server certificate with its key. `signer`: the name of its CA."""

    certificate: str
    key: str
    signer: str
    begins: float
    ends: float

    def __repr__(self) -> str:
        return f"Leaf(by {self.signer[:12]})"


class Bundle(Struct, frozen=True):
    """The roots that are published. `since`: from when on, by name."""

    roots: tuple[Root, ...] = ()
    since: Mapping[str, float] = {}


class Seen(Struct, frozen=True):
    """What the API server has. `whole`: there is such an object, and all that is in it can be used."""

    authorities: tuple[Authority, ...] = ()
    secret_whole: bool = False
    renew: bool = False  # an operator asks for a new CA
    bundle: Bundle = Bundle()
    bundle_whole: bool = False


class Times(Struct, frozen=True):
    """For how long what is made counts, in seconds."""

    authority: float = 365 * 86400.0
    leaf: float = 7 * 86400.0

    @property
    def lead(self) -> float:
        """From the publication of a CA until it signs what is served: far longer than the kubelets take to have it."""
        return min(86400.0, self.authority / 6)

    @property
    def skew(self) -> float:
        """By how much two clocks may differ."""
        return min(3600.0, self.leaf / 10)

    @property
    def look(self) -> float:
        """Between two looks at the objects."""
        return min(10.0, self.lead / 10, self.leaf / 10)
