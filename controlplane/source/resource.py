"""A collection of the Kubernetes API, and the errors of requests for it. Pure; `api` makes the requests."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.errors import SourceError

UNREACHED = 0


class ApiError(SourceError):
    """A request failed; another try may succeed. `status` is the HTTP status, or `UNREACHED` without an answer."""

    def __init__(
        self,
        text: str,
        status: int = UNREACHED,
        retry_after: float = 0.0,
        *,
        strangers: bool = False,
        causes: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(text)
        self.strangers = strangers or status == 401  # one end refused the other's credentials
        self.status = status
        self.causes = causes  # reasons of the Status's causes, such as NamespaceTerminating
        self.retry_after = retry_after  # seconds that the server asks to wait, bounded (retry_after.patience)

    @property
    def expired(self) -> bool:
        """The version or the continue token is too old: list again (HTTP form of 410)."""
        return self.status == 410

    @property
    def of_object(self) -> bool:
        """Whether the server refused this very object; another one may be accepted."""
        return 400 <= self.status < 500 and self.status not in {401, 429}

    @property
    def unsupported(self) -> bool:
        """Whether the server may not support this form of the request: it answered, but not about access or load."""
        return self.status not in {UNREACHED, 401, 403, 404, 410, 429}


class Stalled(ApiError):
    """Nothing arrived within the idle limit: the connection may be half open."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection of the API, cluster-wide unless a namespace is named; or one object of it, by its name."""

    group: str  # "" is the core group
    version: str
    plural: str
    selector: str = ""  # label selector, evaluated by the server
    optional: bool = False  # if the server lacks or forbids it, it counts as empty
    namespace: str = ""
    name: str = ""

    @property
    def path(self) -> str:
        root = f"/apis/{self.group}" if self.group else "/api"
        place = f"{self.version}/namespaces/{self.namespace}" if self.namespace else self.version
        return f"{root}/{place}/{self.plural}" + (f"/{self.name}" if self.name else "")

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural
