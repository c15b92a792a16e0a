"""The safety brake (S7): a change that takes most Services away without announcing it waits for an operator. Pure.

Owned by the agent's session. While it holds a change, the node serves the state it had and takes in nothing more, since
later deltas build on the held change. The agent asks the replica for its whole state at long intervals, and at once
when later deltas bring the Services back, so that a hold can end by itself. An operator can release it: through the
control plane (InspectionService/ReleaseBrake), or on the node by the file `release-brake` in the state folder.

Methods return a line for the operator, empty where there is nothing new.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import inf

from deltaplane.backoff import Backoff, Retries
from deltaplane.codec import MalformedError, decode_ops
from deltaplane.model import Kind, Remove, ServiceName, Upsert
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.mirror import Plan
from nodeagent.stream.validation import BrakeError, check_removals, most

ADVICE = "if it is right: InspectionService/ReleaseBrake, or a file release-brake in the state folder"
ASKING = Backoff(60.0, 600.0)  # seconds between two ResyncRequests that ask whether the Services are back


class Brake:
    """`gone` of `services` Services are held; 0: nothing is. `unix_nano` is the wall clock."""

    def __init__(self, unix_nano: Callable[[], int]) -> None:
        self.gone = 0
        self.services = 0
        self.released = False  # the next change that would be held is taken
        self.since = 0  # when the hold began, in Unix nanoseconds
        self.ask_at = inf  # when a state that is held is to be asked for again, in monotonic seconds
        self._unix_nano = unix_nano
        self._asking = Retries(ASKING)
        self._missing: set[ServiceName] = set()  # what the held state lacks, as far as later deltas tell
        self._unnamed = 0  # how many more of them later deltas take away
        self._hinted = False  # that they are back

    @property
    def holds(self) -> bool:
        return self.gone > 0

    def check(self, plan: Plan, services: int, announced: int = 0, to_come: int = 0) -> None:
        """Lets a change in, by a node with so many Services; a release lets one in. Raises `BrakeError`."""
        try:
            check_removals(plan, services, announced, to_come)
        except BrakeError:
            if not self.released:
                raise
            self.passed()

    def hold(self, error: BrakeError, now: float) -> str:
        """Holds this change."""
        if not self.holds:
            self._asking.succeeded()
            self.since = self._unix_nano()
        self.ask_at, self._missing, self._hinted = now + self._asking.failed(), set(error.missing), False
        self._unnamed = max(0, error.gone - len(error.missing))
        before = (self.gone, self.services)
        self.gone, self.services = error.gone, error.held
        if before == (error.gone, error.held):
            return ""
        return f"a change that removes {self.gone} of {self.services} Services unannounced is held; {ADVICE}"

    def message(self) -> pb.Brake:
        """What is held, as it travels."""
        return pb.Brake(services_removed=self.gone, services=self.services, since_unix_nano=self.since)

    def saw(self, delta: pb.Delta, services: Collection[ServiceName], now: float) -> None:
        """A later delta, which cannot be applied, of a node with these Services: it may bring what is missed."""
        if not self.holds:
            return
        try:
            ops = list(decode_ops(delta.ops))
        except MalformedError:
            return
        for op in ops:
            if isinstance(op, Upsert | Remove) and op.key.kind is Kind.SERVICE:
                name = (op.key.namespace, op.key.name)
                if isinstance(op, Upsert):
                    self._missing.discard(name)
                elif name in services and name not in self._missing:
                    self._missing.add(name)
                    self._unnamed = max(0, self._unnamed - 1)
        if not self._hinted and not most(len(self._missing) + self._unnamed, len(services)):
            self._hinted, self.ask_at = True, now

    def release(self, since: int = 0) -> str:
        """An operator says that the change is right, in a hold that began then (0: any)."""
        if not self.holds or since not in (0, self.since):
            return ""
        self.released = True
        return f"released by an operator: {self.gone} Services may go"

    def passed(self) -> str:
        """This agent has what the replica has: nothing is held any more, and a release is used up."""
        back = self.holds and not self.released
        self.gone = self.services = 0
        self.released, self.ask_at = False, inf
        self._missing.clear()
        self._unnamed = 0
        return "the Services are back: nothing is held any more" if back else ""
