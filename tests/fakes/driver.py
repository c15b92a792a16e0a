"""A fifth driver, whose kernel is a dict in memory: for tests of what the reconciler does with any driver."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deltaplane.forwarding import Entry, NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.dataplane.left_out import LeftOut
from nodeagent.dataplane.outcome import Drifted, Failed, Round, Sent
from nodeagent.dataplane.tracker import NODE, Tracker
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable, Unsure

Kernel = dict[str, object]  # "tcp 10.0.0.1:80" or "node": what is said of it


class MemoryDriver:
    """Implements `nodeagent.dataplane.api.Driver` with numbers as settings; `calls` are those that touch the kernel.

    `kernel` may be changed behind the driver's back: a write to a key that is not as the driver left it has drifted.
    """

    mode = "memory"

    def __init__(self, kernel: Kernel | None = None) -> None:
        self.kernel: Kernel = {} if kernel is None else kernel
        self.calls: list[str] = []
        self.fruitful: list[bool] = []  # what `repaired` was told
        self.refusing: set[str] = set()  # keys the kernel refuses
        self.restless: dict[str, int] = {}  # keys, and how often somebody else changes them right before a write
        self.unanswered = 0  # so many writes are done, but their answer is lost
        self.unreadable = 0  # so many reads fail halfway
        self.missing = ""  # why there is no IPv6
        self.absent = ""  # why there is no kernel
        self.opened = False
        self.scale = 1  # the setting: a factor that stands in every value
        self._tracker: Tracker[str, object] = Tracker()
        self._failed: dict[str, Failed] = {}

    def open(self, left: LeftOut) -> None:
        self.opened = True
        if self.absent:
            raise DataplaneUnavailable(self.absent)
        if self.missing:
            left.leave(self.missing)

    def close(self) -> None:
        self.opened = False

    @property
    def adopted(self) -> bool:
        return bool(self._tracker.actual)

    def configure(self, settings: int) -> None:
        if settings < 1:
            raise ValueError(f"{settings} is no factor")
        self.scale = settings

    def put(self, service: ServiceForwarding) -> None:
        entries = [entry for entry in service.entries if not (self.missing and entry.frontend.family == 6)]
        self._tracker.hold(service.key, {key_of(entry): entry.targets for entry in entries})

    def put_node(self, node: NodeForwarding) -> None:
        if "" in node.pod_cidrs:
            raise ValueError("'' is no CIDR")
        self._tracker.hold(NODE, {"node": node.pod_cidrs})

    def remove(self, owner: ObjectKey) -> None:
        self._tracker.hold(owner, {})

    def owners(self) -> Iterable[ObjectKey]:
        return self._tracker.owners()

    def retire(self) -> None:
        self._tracker.pending.update(dict.fromkeys(self._tracker.undesired()))

    def read(self) -> None:
        self.calls.append("read")
        if self.unreadable:
            self.unreadable -= 1
            self._tracker.forget()
            raise KernelUnavailable("the listing ended early; it is retried")
        self._tracker.forget(self.kernel)

    def write(self, sent: Sent, this: Round) -> None:
        self.calls.append("write")
        for key in list(self._tracker.pending):
            claim = self._tracker.desired.get(key)
            self._write(key, None if claim is None else (self.scale, claim.value), sent, this)
        if self.unanswered:
            self.unanswered -= 1
            raise Unsure("the answer was lost; it is retried")

    def _write(self, key: str, value: object, sent: Sent, this: Round) -> None:
        before = self._tracker.actual.get(key)
        if before != value:
            if self.restless.get(key, 0):
                self.restless[key] -= 1
                self.kernel[key] = f"somebody else's {self.restless[key]}"
            if self.kernel.get(key) != before and not this.last:
                raise Drifted
            if self.kernel.get(key) != before or key in self.refusing:
                claim = self._tracker.desired.get(key)
                self._failed[key] = Failed(NODE if claim is None else claim.owner, "KERNEL_REJECTED", f"{key}: no")
                return
            self._done(key, value)
            sent.messages += 1
        self._tracker.settle(key, value)
        self._failed.pop(key, None)

    def _done(self, key: str, value: object) -> None:
        if value is None:
            del self.kernel[key]
        else:
            self.kernel[key] = value

    def repaired(self, *, fruitful: bool) -> None:
        self.fruitful.append(fruitful)

    def pending(self) -> bool:
        return bool(self._tracker.pending)

    def failures(self) -> Iterator[Failed]:
        return iter(self._failed.values())

    def fileno(self) -> int:
        return -1

    def drifted(self) -> bool:
        return self.kernel != self._tracker.actual


def key_of(entry: Entry) -> str:
    """The kernel's key for a frontend. Raises ValueError for an address that is none."""
    _, family, address, protocol, port = entry.frontend
    if len(address) != {4: 4, 6: 16}[family]:
        raise ValueError(f"an IPv{family} address of {len(address)} bytes")
    return f"{protocol} {address.hex()} {port}"
