"""What the agent asks of a backend, and what it is told back. Every backend and the in-memory kernel answer this."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from msgspec import Struct

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey


class Failed(Struct, frozen=True):
    """An object that is not in the kernel as it should be, and why."""

    key: ObjectKey
    code: str  # a name of deltaplane.v1.ErrorCode without its prefix, such as "KERNEL_REJECTED"
    text: str


class Commit(Struct, frozen=True):
    """What one `apply` did to the kernel.

    `messages` and `size` count what was sent on the netlink socket (transaction brackets included), `elements` the set
    and map elements written or deleted. All are 0 where nothing differed.
    """

    messages: int = 0
    elements: int = 0
    size: int = 0  # bytes
    failed: tuple[Failed, ...] = ()


class Held(NamedTuple):
    """A frontend the kernel had at the start; `address` is packed, and empty for a node port."""

    family: int  # 4, 6
    address: bytes
    protocol: int
    port: int


@runtime_checkable
class Remembering(Protocol):
    """What a backend may be besides: one that can tell, after `start`, what it found."""

    def held(self) -> Iterable[Held]:
        """The frontends that were adopted, in no order."""


@runtime_checkable
class Bordering(Protocol):
    """What a backend may be besides: one that makes addresses of Services this machine's own."""

    def neighbours(self, come: Iterable[bytes], gone: Iterable[bytes]) -> None:
        """Addresses that other Nodes have, and that none has any more: they lead there, whatever Services say of them.

        Takes effect with the next `apply`.
        """


class Figure(NamedTuple):
    """What a backend counts besides its commits, under Prometheus' name for it."""

    name: str  # that of a counter ends in _total
    text: str
    counter: bool  # since some start; otherwise as things are now
    labels: tuple[str, ...]
    values: tuple[tuple[tuple[str, ...], float], ...]  # by the labels' values; empty: not known


@runtime_checkable
class Measured(Protocol):
    """What a backend may be besides: one with figures of its own."""

    def figures(self) -> Iterable[Figure]:
        """As they are now; called at a scrape, between two other calls. Raises `nodeagent.errors.KernelUnavailable`."""


class Dataplane(Protocol):
    """A kernel backend. Calls are made from one thread, one at a time."""

    mode: str  # nftables, iptables, ipvs or userspace

    @property
    def adopted(self) -> bool:
        """Whether `start` found anything of ours in the kernel."""

    def start(self) -> None:
        """Adopts what the kernel already holds, without changing it. Raises `nodeagent.errors.DataplaneUnavailable`."""

    def apply(
        self,
        services: Sequence[ServiceForwarding],
        node: NodeForwarding | None = None,
        *,
        complete: bool = False,
    ) -> Commit:
        """Makes the kernel say this of these Services, in order of importance; writes nothing that it says already.

        `node` None: unchanged. `complete`: these are all Services there are, so whatever else the kernel holds of ours
        is removed, after everything wanted is in; until the first complete apply nothing adopted is removed. Objects
        that failed before are tried again. Never raises for one bad object: it is listed in `Commit.failed` and the
        others go on. Raises `nodeagent.errors.KernelUnavailable` when the kernel as a whole refuses; what was wanted
        stays pending and goes out with the next call.
        """

    def pending(self) -> bool:
        """True while something wanted is not in the kernel."""

    def fileno(self) -> int:
        """A descriptor that is readable when somebody changed the kernel's tables; -1 where that cannot be heard."""

    def drifted(self) -> bool:
        """Whether somebody else changed what is ours since the last repair. Call when `fileno` is readable."""

    def repair(self) -> Commit:
        """Compares the kernel with what is wanted and writes what differs. Raises as `apply`."""

    def close(self) -> None:
        """Lets go of the kernel's sockets; what was programmed stays."""
