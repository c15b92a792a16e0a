"""The inspection service for operators (proto/deltaplane/v1/inspection.proto): each question, and what answers it.

Only ReleaseBrake and ForceResync change anything; WaitApplied may have agents acknowledge sooner, a bounded number of
times. What is wrong with a question ends the call by INVALID_ARGUMENT, what does not exist by NOT_FOUND.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import grpc
import grpc.aio

import deltaplane
from controlplane.identity.peer import Refusal
from controlplane.identity.refused import Refused, host_of
from controlplane.inspection import changes, diff, objects, resolving
from controlplane.inspection.dump import dump
from controlplane.inspection.everywhere import wait_everywhere
from controlplane.inspection.here import Here, status_answer
from controlplane.inspection.joined import Joined, Owner
from controlplane.inspection.rooms import TooManyWaiters
from controlplane.inspection.tails import tail_commits
from controlplane.inspection.waiting import wait_here
from controlplane.inspection.waits import Stopping, Waits
from controlplane.peers import ANSWER_SECONDS, Peers, said
from controlplane.progress import Progress, TooManyTails
from deltaplane.certificates import Unusable
from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1 import inspection_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T", pb.ResolveForNodeResponse, pb.ExplainResponse)
OF_THE_QUESTION = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}  # a peer that says so has answered
_CROWDED = {TooManyTails: "tails", TooManyWaiters: "waiters"}  # as reasons of a refusal


class Inspection(inspection_pb2_grpc.InspectionServiceServicer):
    """The servicer. Its answers describe the moment of the call."""

    def __init__(
        self, here: Here, progress: Progress, waits: Waits, peers: Peers, refused: Refused | None = None
    ) -> None:
        self._refused = refused or Refused()
        self._here, self._progress, self._waits, self._peers = here, progress, waits, peers
        self._joined = Joined(here, peers)

    # ------------------------------------------------------------ replicas and nodes

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: N802
        answer = status_answer(self._here, deltaplane.__version__)
        answer.waiters, answer.tails = len(self._waits), len(self._progress)
        await self._joined.status(request, answer)
        return answer

    async def ListNodes(self, request: pb.ListNodesRequest, context: Context) -> pb.ListNodesResponse:  # noqa: N802
        return await self._joined.nodes(request)

    async def GetNode(self, request: pb.GetNodeRequest, context: Context) -> pb.GetNodeResponse:  # noqa: N802
        async with self._plainly(context):
            answer = await self._joined.node(request)
            if self._here.node(request.node_name) is not None:
                answer.object.CopyFrom(objects.shown(self._here, objects.node_key(request.node_name)))
            elif not answer.HasField("status") and not request.this_replica:
                raise objects.Unknown(objects.absent(self._here, objects.node_key(request.node_name)))
            return answer

    # ------------------------------------------------------------ objects

    async def GetObject(self, request: pb.GetObjectRequest, context: Context) -> pb.GetObjectResponse:  # noqa: N802
        async with self._plainly(context):
            return objects.get_object(self._here, request)

    async def ListObjects(self, request: pb.ListObjectsRequest, context: Context) -> pb.ListObjectsResponse:  # noqa: N802
        async with self._plainly(context):
            return objects.list_objects(self._here, request)

    async def TailChanges(  # noqa: N802
        self, request: pb.TailChangesRequest, context: Context
    ) -> AsyncIterator[pb.TailChangesResponse]:
        async with self._plainly(context):
            with self._progress.place(host_of(context.peer())):
                await context.send_initial_metadata(())
                async with aclosing(changes.tail(self._here, request)) as found:
                    async for change in found:
                        yield change

    # ------------------------------------------------------------ what nodes make of them

    async def ResolveForNode(  # noqa: N802
        self, request: pb.ResolveForNodeRequest, context: Context
    ) -> pb.ResolveForNodeResponse:
        return await self._at_owner("ResolveForNode", request, context, resolving.resolve_for_node)

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainResponse:  # noqa: N802
        return await self._at_owner("Explain", request, context, resolving.explain_at)

    async def _at_owner(self, method: str, request: Any, context: Context, answer: Callable[[Here, Any], T]) -> T:
        """Has the replica answer that has the node's stream: it alone knows what the node has acknowledged."""
        async with self._plainly(context):
            owner = Owner() if request.this_replica else await self._joined.owner(request.node_name)
            if owner.address is None:
                found = answer(self._here, request)
            else:
                request.this_replica = True
                async with self._peers.stub(owner.address) as (stub, metadata):
                    found = await getattr(stub, method)(request, timeout=ANSWER_SECONDS, metadata=metadata)
            found.basis.silent_replicas.extend(owner.silent)
            return found

    async def Diff(self, request: pb.DiffRequest, context: Context) -> pb.DiffResponse:  # noqa: N802
        async with self._plainly(context):
            known = []
            for name in (request.node_name, request.other_node_name):
                resolving.node_named(self._here, name)
                known.append((await self._joined.node(pb.GetNodeRequest(node_name=name))).status)
            return await diff.diff(self._here, request, known[0], known[1])

    # ------------------------------------------------------------ what happens

    async def TailCommits(  # noqa: N802
        self, request: pb.TailCommitsRequest, context: Context
    ) -> AsyncIterator[pb.TailCommitsResponse]:
        async with self._plainly(context):
            with self._progress.tail(host_of(context.peer())) as commits:
                await context.send_initial_metadata(())  # from here on, the caller misses no commit
                async with aclosing(
                    tail_commits(self._here, self._peers, request, commits, self._progress.pause)
                ) as found:
                    async for message in found:
                        yield message

    async def WaitApplied(  # noqa: N802
        self, request: pb.WaitAppliedRequest, context: Context
    ) -> AsyncIterator[pb.WaitAppliedResponse]:
        caller = host_of(context.peer())
        async with self._plainly(context):
            await context.send_initial_metadata(())  # from here on, the caller knows that somebody listens
            if request.this_replica:
                answers = wait_here(self._here, self._waits, request, caller)
            else:
                answers = wait_everywhere(self._here, self._waits, self._peers, request, caller)
            async with aclosing(answers) as found:
                async for message in found:
                    yield message

    async def Dump(self, request: pb.DumpRequest, context: Context) -> AsyncIterator[pb.DumpResponse]:  # noqa: N802
        alone = request.this_replica
        status = await self.GetStatus(pb.GetStatusRequest(this_replica=alone), context)
        nodes = await self._joined.nodes(pb.ListNodesRequest(this_replica=alone))
        async with aclosing(dump(self._here, status, list(nodes.nodes), self._joined.mine)) as parts:
            async for part in parts:
                yield part

    # ------------------------------------------------------------ what is asked for

    async def ReleaseBrake(self, request: pb.ReleaseBrakeRequest, context: Context) -> pb.ReleaseBrakeResponse:  # noqa: N802
        chosen = [session for session in self._here.nodes if request.node_name in {"", session.node_name}]
        told = {session.node_name for session in chosen if session.release_brake()}
        asked = await self._joined.ask("ReleaseBrake", request)
        told.update(name for each in asked if each.answer is not None for name in each.answer.nodes)
        async with self._plainly(context):
            if request.node_name and not told and not request.this_replica:
                await self._joined.known(request.node_name)
            return pb.ReleaseBrakeResponse(nodes=sorted(told), replicas=self._joined.replicas(asked))

    async def ForceResync(self, request: pb.ForceResyncRequest, context: Context) -> pb.ForceResyncResponse:  # noqa: N802
        async with self._plainly(context):
            session = self._here.session(request.node_name)
            if session is not None and session.resync(time.monotonic()):
                return pb.ForceResyncResponse(server_id=self._here.server_id)
            asked = await self._joined.ask("ForceResync", request)
            server = next((each.answer.server_id for each in asked if each.answer and each.answer.server_id), "")
            if not server and not request.this_replica:
                await self._joined.known(request.node_name)
                raise objects.Unknown(f"node {request.node_name} has no open stream at any replica that answered")
            return pb.ForceResyncResponse(server_id=server, replicas=self._joined.replicas(asked))

    # ------------------------------------------------------------ what is wrong with a question

    @asynccontextmanager
    async def _plainly(self, context: Context) -> AsyncIterator[None]:
        """What is wrong with a question ends the call by its status, and says what."""
        try:
            yield
        except (TooManyTails, TooManyWaiters) as error:
            await self._refused.end(Refusal("RESOURCE_EXHAUSTED", _CROWDED[type(error)], str(error)), context)
        except Stopping as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except objects.Unknown as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except (grpc.aio.AioRpcError, Unusable) as error:
            if isinstance(error, grpc.aio.AioRpcError) and error.code() in OF_THE_QUESTION:
                await context.abort(error.code(), error.details() or "")
            text = f"the replica that has the node's stream did not answer: {said(error)}"
            await context.abort(grpc.StatusCode.UNAVAILABLE, text)
