"""What the agent asks of a dataplane and what it is told back; what the reconciler asks of a driver.

`Dataplane` is the agent's side, which `reconciler.Reconciler` implements once. `Driver` is one kernel dialect.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.dataplane.left_out import LeftOut
from nodeagent.dataplane.outcome import Commit, Failed, Round, Sent

S = TypeVar("S", contravariant=True)  # noqa: PLC0105 - the driver's settings


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


@runtime_checkable
class Slow(Protocol):
    """What a backend may be besides: one that says how long its calls take."""

    slow: bool  # any call may take more than some milliseconds: programs are started, or threads waited for


class DriverMetric(NamedTuple):
    """What a backend counts besides its commits, under Prometheus' name for it."""

    name: str  # that of a counter ends in _total
    text: str
    counter: bool  # since some start; otherwise as things are now
    labels: tuple[str, ...]
    values: tuple[tuple[tuple[str, ...], float], ...]  # by the labels' values; empty: not known


@runtime_checkable
class Measured(Protocol):
    """What a backend may be besides: one with metrics of its own."""

    def metrics(self) -> Iterable[DriverMetric]:
        """As they are now; called at a scrape, between two other calls. Raises `nodeagent.errors.KernelUnavailable`."""


class Dataplane(Protocol):
    """A kernel backend. Calls are made one at a time, from the event loop's thread or the one beside it."""

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
        """A descriptor that is readable when another program changed the kernel's tables; -1: that cannot be heard."""

    def drifted(self) -> bool:
        """Whether another program changed what is ours since the last repair. Call when `fileno` is readable."""

    def repair(self) -> Commit:
        """Compares the kernel with what is wanted and writes what differs. Raises as `apply`."""

    def close(self) -> None:
        """Lets go of the kernel's sockets; what was programmed stays."""


class Driver(Protocol[S]):
    """One kernel dialect. It keeps what is wanted and what the kernel has, and decides nothing else.

    `put` and `put_node` raise ValueError, OverflowError or KeyError, changing nothing, for what this kernel cannot
    hold. What the kernel as a whole refuses is KernelUnavailable, Unsure where it may have been done, and Drifted where
    the kernel is not as the driver left it.
    """

    @property
    def mode(self) -> str:
        """The proxy mode's name."""

    @property
    def adopted(self) -> bool:
        """Whether the last `read` found anything of ours."""

    def open(self, left: LeftOut) -> None:
        """Opens the kernel and hears from now on what others change. Raises DataplaneUnavailable.

        A family that cannot be had is told to `left`, now or later. After an error, `close` is called.
        """

    def close(self) -> None:
        """Lets go of everything; also where `open` did not come to its end."""

    def configure(self, settings: S) -> None:
        """Takes other settings; a read and a write follow. Raises ValueError, changing nothing."""

    def put(self, service: ServiceForwarding) -> None:
        """Takes what a Service means now."""

    def put_node(self, node: NodeForwarding) -> None:
        """Takes what concerns the node."""

    def remove(self, owner: ObjectKey) -> None:
        """A Service is wanted no more."""

    def owners(self) -> Iterable[ObjectKey]:
        """Whatever wants something or has something."""

    def retire(self) -> None:
        """What the kernel has of ours and no owner wants is to go with the next write."""

    def read(self) -> None:
        """Takes over what the kernel holds; everything wanted may differ. Raises KernelUnavailable."""

    def write(self, sent: Sent, this: Round) -> None:
        """Writes what is pending and differs, and adds to `sent`. An object that is refused is one of `failures`."""

    def repaired(self, *, fruitful: bool) -> None:
        """What was read is written (`fruitful`: something differed): what was heard before is put right."""

    def pending(self) -> bool:
        """Whether anything wanted may not be in the kernel."""

    def failures(self) -> Iterable[Failed]:
        """The objects that the kernel refuses, as of the last write."""

    def fileno(self) -> int:
        """A descriptor that is readable when others may have changed something; -1: never."""

    def drifted(self) -> bool:
        """Whether others changed what is ours since the last `repaired`."""
