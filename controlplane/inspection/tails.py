"""TailCommits: the commits of this replica's nodes and of its peers', as far as they are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from controlplane.inspection.here import Here
from controlplane.peers import ANSWER_SECONDS, FAILURES, Peers, said
from controlplane.progress import BACKLOG, to_message
from controlplane.replica_places import Unfound
from controlplane.trace import NodeCommit
from deltaplane.v1 import inspection_pb2 as pb

AGAIN = 2.0  # seconds until a peer whose tail broke off is asked again


def asked_for(message: pb.TailCommitsResponse, request: pb.TailCommitsRequest) -> bool:
    """Whether this commit is wanted."""
    if request.node_name not in {"", message.node_name} or (request.failed and not message.failed):
        return False
    if request.HasField("object") and all(cause.object != request.object for cause in message.causes):
        return False
    return message.event_to_commit_ns >= request.min_event_to_commit_ns


async def tail_commits(
    here: Here,
    peers: Peers,
    request: pb.TailCommitsRequest,
    commits: asyncio.Queue[NodeCommit],
    pause: Callable[[], Awaitable[None]],
) -> AsyncGenerator[pb.TailCommitsResponse, None]:
    """Without end. Where a peer's are missing, a message says so; who reads too slowly loses commits. `pause`: after
    each that is looked at closely."""
    found: asyncio.Queue[pb.TailCommitsResponse] = asyncio.Queue(BACKLOG)
    tasks = [asyncio.create_task(_own(here, request, commits, found, pause))]
    if not request.this_replica:
        tasks.append(asyncio.create_task(_others(peers, request, found)))
    try:
        while True:
            yield await found.get()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _put(found: asyncio.Queue[pb.TailCommitsResponse], message: pb.TailCommitsResponse) -> None:
    if found.full():
        found.get_nowait()
    found.put_nowait(message)


async def _own(
    here: Here,
    request: pb.TailCommitsRequest,
    commits: asyncio.Queue[NodeCommit],
    found: asyncio.Queue[pb.TailCommitsResponse],
    pause: Callable[[], Awaitable[None]],
) -> None:
    while True:
        commit = await commits.get()
        commits.task_done()
        if request.node_name not in {"", commit.node}:
            continue
        await pause()
        message = to_message(commit)
        message.server_id = here.server_id
        if asked_for(message, request):
            _put(found, message)


async def _others(peers: Peers, request: pb.TailCommitsRequest, found: asyncio.Queue[pb.TailCommitsResponse]) -> None:
    asked = pb.TailCommitsRequest()
    asked.CopyFrom(request)
    asked.this_replica = True
    tasks: dict[str, asyncio.Task[None]] = {}
    try:
        while True:
            try:
                addresses = await peers.addresses()
            except Unfound as error:
                addresses = list(error.places)
                _put(found, _missing("unknown", str(error)))
            for address in addresses:
                if address not in tasks:
                    tasks[address] = asyncio.create_task(_other(peers, address, asked, found))
            await asyncio.sleep(AGAIN)
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def _other(
    peers: Peers, address: str, asked: pb.TailCommitsRequest, found: asyncio.Queue[pb.TailCommitsResponse]
) -> None:
    told = ""
    while True:
        try:
            if not await peers.is_other(address, ANSWER_SECONDS, pb.ReplicaStatus()):
                return
            async with peers.stub(address) as (stub, metadata):
                async for message in stub.TailCommits(asked, metadata=metadata):
                    told = ""
                    _put(found, message)
            why = "it ended its answer"
        except FAILURES as error:
            why = said(error)
            await peers.failed(address, error)
        if why != told:
            told = why
            _put(found, _missing(address, why))
        await asyncio.sleep(AGAIN)


def _missing(address: str, why: str) -> pb.TailCommitsResponse:
    return pb.TailCommitsResponse(missing=pb.ReplicaStatus(address=address, error=why))
