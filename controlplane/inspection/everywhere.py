"""WaitApplied for the whole cluster: this replica's nodes, and what each peer says of its own, until all have it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import chain, repeat
from math import inf
from operator import itemgetter

from controlplane.inspection.here import Here
from controlplane.inspection.objects import Unknown
from controlplane.inspection.selection import Selection
from controlplane.inspection.targets import AfterVersions, OfObjects, OfRevision, OfVersions, newest
from controlplane.inspection.waiting import MOST, NEWS, OtherEpoch, deadline_of, merged, message_of, reasons, target_of
from controlplane.inspection.waits import NEWS_LOOKS, Waiter, Waits
from controlplane.peers import ANSWER_SECONDS, FAILURES, Peers, said
from controlplane.replica_places import Unfound
from deltaplane.advice import may_have_it
from deltaplane.model import Kind
from deltaplane.v1 import delta_pb2, objects_pb2
from deltaplane.v1 import inspection_pb2 as pb

AGAIN = 0.5  # seconds until a peer that broke off is asked again, and until one that has come is looked for
SEARCHES, SELDOM = 50, 5.0  # a second, of all who look for peers; seconds between two of one at most
EARLIER = 0.3  # seconds that a peer ends before this call does, so that its reasons arrive
LAST = 1.5  # no message comes later than so many times the seconds between two before the end: the last one is near
GRACE = 0.3  # seconds after the time-out that a peer's last word is waited for
Said = dict[str, tuple[pb.Lacking, float]]  # by node, and when it was said
_WEAK = {pb.LACK_REASON_NO_AGENT, pb.LACK_REASON_DISCONNECTED}


class Others:
    """What the peers say while one call waits."""

    def __init__(self, peers: Peers, waits: Waits, waiter: Waiter) -> None:
        self._peers, self._waits, self._waiter = peers, waits, waiter
        self.statuses: dict[str, pb.ReplicaStatus] = {}
        self.lacking: dict[str, Said] = {}  # by peer
        self.heard: dict[str, float] = {}  # when each peer said something last, where its last word is still to come
        self.ended = asyncio.Event()  # set when a last word comes

    async def follow(self, request: pb.WaitAppliedRequest, until: float) -> None:
        """Asks all of them, again where one breaks off, until this is cancelled. `until`: monotonic seconds."""
        following: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                for address in await self._addresses():
                    if address not in following:
                        following[address] = asyncio.create_task(self._one(address, request, until))
                await asyncio.sleep(min(SELDOM, max(AGAIN, len(self._waits) / SEARCHES)))
        finally:
            for task in following.values():
                task.cancel()
            await asyncio.gather(*following.values(), return_exceptions=True)

    async def _addresses(self) -> list[str]:
        try:
            found = await self._peers.addresses()
        except Unfound as error:
            self.statuses["unknown"] = pb.ReplicaStatus(address="unknown", error=str(error))
            return list(error.places)
        self.statuses.pop("unknown", None)
        return found

    async def _one(self, address: str, request: pb.WaitAppliedRequest, until: float) -> None:
        status = self.statuses[address] = pb.ReplicaStatus(address=address, error="it has not answered yet")
        while (left := until - time.monotonic() - EARLIER) > 0:
            self.heard.pop(address, None)
            try:
                if not await self._peers.is_other(address, min(ANSWER_SECONDS, left), status):
                    del self.statuses[address]
                    return
                await self._listen(address, request, left)
                status.error = "" if time.monotonic() >= until - 2 * EARLIER else "it ended its answer"
            except FAILURES as error:
                status.address, status.error = address, said(error)
                await self._peers.failed(address, error)
            self._waits.moved()
            await asyncio.sleep(AGAIN)

    async def _listen(self, address: str, request: pb.WaitAppliedRequest, left: float) -> None:
        asked = pb.WaitAppliedRequest()
        asked.CopyFrom(request)
        asked.timeout_seconds = left
        self.heard[address] = time.monotonic()
        async with self._peers.stub(address) as (stub, metadata):
            async for message in stub.WaitApplied(asked, timeout=left + EARLIER + GRACE, metadata=metadata):
                self._take(address, message)
        self.heard.pop(address, None)
        self.ended.set()

    async def last_words(self) -> None:
        """Until each peer that was heard has said its last word, for a while: one that has stopped never does.

        One that has missed a word already is not waited for.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                while any(time.monotonic() - at < NEWS + GRACE for at in self.heard.values()):
                    self.ended.clear()
                    await self.ended.wait()
        for address, at in self.heard.items():
            self.statuses[address].error = f"it has said nothing for {time.monotonic() - at:.1f} s"

    def _take(self, address: str, message: pb.WaitAppliedResponse) -> None:
        if message.replicas:
            self.statuses[address].CopyFrom(message.replicas[0])
            self.statuses[address].address = address
        known, now = self.lacking.setdefault(address, {}), time.monotonic()
        self.heard[address] = now
        for name in message.newly_applied:
            known.pop(name, None)
        known.update({each.node_name: (each, now) for each in message.lacking})
        self._waiter.selection.known.update(message.newly_applied, known)
        if message.newly_applied:
            self._applied(message, now)
            self._waits.moved()

    def _applied(self, message: pb.WaitAppliedResponse, now: float) -> None:
        """Without its times (an earlier release), a peer's stream counts as older than any here."""
        ages = chain(message.newly_applied_stream_seconds, repeat(inf))
        for name, seconds in zip(message.newly_applied, ages, strict=False):
            self._waiter.other_says(name, now - seconds)

    def why(self, mine: pb.WaitAppliedResponse) -> pb.WaitAppliedResponse:
        """The best reason there is for each node of the message, given what this replica knows of it."""
        silent = [status.address for status in self.statuses.values() if status.error]
        told = [known for address, known in self.lacking.items() if address not in silent]
        if not silent and not told:
            return mine
        return pb.WaitAppliedResponse(lacking=[self._best(each, told, silent) for each in mine.lacking])

    def _best(self, mine: pb.Lacking, told: Sequence[Said], silent: Sequence[str]) -> pb.Lacking:
        found = [known[mine.node_name] for known in told if mine.node_name in known]
        found.append((mine, time.monotonic()))
        streams = [(at - (each.stream_seconds or inf), each) for each, at in found if each.reason not in _WEAK]
        if streams:
            return max(streams, key=itemgetter(0))[1]  # the newest; older ones have ended unnoticed
        best = max((each for each, _ in found), key=lambda each: each.disconnected_unix_nano)
        if silent:
            best.reason = pb.LACK_REASON_REPLICA_SILENT
            best.text = f"{may_have_it(sorted(silent))}; otherwise: {best.text}"
        return best


async def wait_everywhere(
    here: Here, waits: Waits, peers: Peers, request: pb.WaitAppliedRequest, caller: str
) -> AsyncGenerator[pb.WaitAppliedResponse, None]:
    """Until enough nodes have it, or the time is over. Raises ValueError, `Unknown`, `TooManyWaiters`, `Stopping`."""
    seconds, began = deadline_of(request), time.monotonic()
    try:
        target = target_of(here, request)
    except OtherEpoch as error:
        raise await _whose(request.revision.epoch, peers, error) from None
    waiter = Waiter(here, target, Selection(here, request.nodes, request.quorum_percent))
    others = Others(peers, waits, waiter)
    told = set[str]()
    with waits.waiting(waiter, request, caller):
        async with _following(here, others, waiter, request, began + seconds):
            while not waiter.done.is_set() and (left := began + seconds - time.monotonic()) > 0:
                news = waits.spell(NEWS, NEWS_LOOKS)
                pause = news if left >= LAST * news else left
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await waiter.done.wait()
                waits.unless_stopping()
                if pause < left and not waiter.done.is_set():
                    yield _news(here, waiter, others, began, told)[0]
            if not waiter.done.is_set():
                await others.last_words()
                waiter.decide()
            message, lost = _news(here, waiter, others, began, told)
            message.done, message.applied = True, waiter.done.is_set()
            if message.applied:
                message.without_stream.extend(waiter.without_stream()[:MOST])
            yield merged(others.why(reasons(here, waiter, lost)), message)


async def _whose(epoch: str, peers: Peers, error: OtherEpoch) -> Exception:
    """The error that says which replica counts in this epoch, or that none does."""
    asked = await peers.ask("GetStatus", pb.GetStatusRequest(this_replica=True))
    owner = next((each.status.address for each in asked if each.status.epoch == epoch), "")
    if owner:
        return ValueError(f"{error}: it is that of the replica at {owner}; ask that one")
    silent = ", ".join(each.status.address for each in asked if each.status.error)
    gone = "no replica that answers does: theirs ends when a replica starts anew"
    who = f" ({silent} did not answer)" if silent else ""
    advice = "ask without epoch and rev for what is there now, or for the object by its resourceVersion"
    return Unknown(f"{error}, and {gone}{who}; {advice}")


@asynccontextmanager
async def _following(
    here: Here, others: Others, waiter: Waiter, request: pb.WaitAppliedRequest, until: float
) -> AsyncIterator[None]:
    async def follow() -> None:
        while True:
            waiter.returned.clear()
            waiter.elsewhere.clear()  # also what a peer said until its call had ended
            work = asyncio.create_task(others.follow(await _for_peers(here, waiter, request), until))
            try:
                await waiter.returned.wait()
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _for_peers(here: Here, waiter: Waiter, request: pb.WaitAppliedRequest) -> pb.WaitAppliedRequest:
    """The question in words that a peer understands: revisions are this replica's own."""
    asked = pb.WaitAppliedRequest(this_replica=True)
    asked.nodes.CopyFrom(request.nodes)
    target = waiter.target.target if isinstance(waiter.target, AfterVersions) else waiter.target
    if isinstance(target, OfObjects):
        first, *more = target.versions
        asked.object.CopyFrom(first.message())
        asked.also.extend(each.message() for each in more)
        asked.versions.extend(_versions(newest(here)) if target.now else ())
    elif isinstance(target, OfRevision | OfVersions):
        await waiter.reached.wait()
        asked.revision.SetInParent()
        asked.versions.extend(_versions(newest(here)))
        if not asked.versions:
            asked.digest = f"{here.cluster.store.digest.value:016x}"
    else:
        asked.removed_address = request.removed_address
        asked.versions.extend(_versions(newest(here)))
    return asked


def _versions(found: dict[Kind, int]) -> list[delta_pb2.ResourceVersion]:
    return [
        delta_pb2.ResourceVersion(kind=objects_pb2.Kind.ValueType(int(kind)), version=str(number))
        for kind, number in found.items()
    ]


def _news(
    here: Here, waiter: Waiter, others: Others, began: float, told: set[str]
) -> tuple[pb.WaitAppliedResponse, Sequence[str]]:
    """How far it is, with the nodes that no message has named before; and the nodes that lack it."""
    having, lost = _split(waiter)
    message = message_of(waiter, began, len(having) + len(lost), len(lost))
    message.newly_applied.extend([name for name in having if name not in told] if told else having)
    told.update(having)
    message.replicas.extend((here.status(), *others.statuses.values()))
    message.epoch = here.epoch
    return message, lost


def _split(waiter: Waiter) -> tuple[Sequence[str], Sequence[str]]:
    """The nodes that have it, sorted, and those that lack it."""
    if waiter.everybody is not None:
        return waiter.everybody, []
    if waiter.rev is None and not waiter.elsewhere:
        return [], waiter.selection.names()
    having: list[str] = []
    lost: list[str] = []
    for name in waiter.selection.names():
        (having if waiter.has(name) else lost).append(name)
    return sorted(having), lost
