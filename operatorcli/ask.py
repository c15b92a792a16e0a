"""Questions to one replica. gRPC's errors become `Failed`, which says what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from deltaplane.v1 import agent_pb2_grpc, inspection_pb2_grpc, objects_pb2
from operatorcli.connect.channel import Opened, opened
from operatorcli.connect.target import Flags
from operatorcli.exits import Exit, Failed

Answer = TypeVar("Answer", bound=Message)
Code = grpc.StatusCode


class Replica:
    """A control plane's replica, or an agent behind its own socket. `where`: for people."""

    def __init__(self, way: Opened, timeout: float) -> None:
        self.where = way.where
        self.timeout = timeout  # seconds
        self._way = way
        self._stubs: tuple[Any, ...] = (
            inspection_pb2_grpc.InspectionServiceStub(way.channel),
            agent_pb2_grpc.AgentServiceStub(way.channel),
        )

    def ask(self, method: str, request: Message, kind: type[Answer], *, longer: float = 0.0) -> Answer:
        """One answer. `longer`: seconds that the replica itself may wait. Raises `Failed`."""
        limit = self.timeout + longer
        with self._translated(method, limit):
            answer: Answer = self._method(method)(request, timeout=limit, metadata=self._way.metadata)
        return answer

    def follow(
        self,
        method: str,
        request: Message,
        kind: type[Answer],
        *,
        limit: float | None = None,
        began: Callable[[], object] = bool,
    ) -> Iterator[Answer]:
        """Answers as they come, until the caller stops or `limit` seconds are over.

        `began` is called once none is missed any more. Raises `Failed`.
        """
        with self._translated(method, self.timeout):
            call, listens = self._method(method)(request, timeout=limit, metadata=self._way.metadata), False
            try:
                call.initial_metadata()  # the replica sends it when it listens
                listens = True
                began()
                yield from call
            except grpc.RpcError as error:
                if listens and error.code() is Code.UNAVAILABLE:
                    raise self._way.failed() or _broken_off(self.where, _said(error)) from error
                if limit is None or error.code() is not Code.DEADLINE_EXCEEDED:
                    raise
            finally:
                call.cancel()

    def version(self, of: objects_pb2.ObjectKey) -> str:
        """The resourceVersion that the API server has, where the way leads through it; else empty. Raises `Failed`."""
        return self._way.cluster.version(of) if self._way.cluster else ""

    def pod_addresses(self, namespace: str, name: str) -> list[str]:
        """Of a pod, by the API server: one for each family that it has. Raises `Failed`."""
        if self._way.cluster is None:
            raise Failed(
                Exit.USAGE, f"the address of pod {name} is not known here",
                "Give the pod's address: --for=removed=ADDRESS; names need a kubeconfig instead of --server.",
            )  # fmt: skip
        return self._way.cluster.pod_addresses(namespace, name)

    def _method(self, name: str) -> Callable[..., Any]:
        found: Callable[..., Any] = next(getattr(stub, name) for stub in self._stubs if hasattr(stub, name))
        return found

    @contextmanager
    def _translated(self, method: str, limit: float) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise self._way.failed() or meaning(error, method, self.where, limit) from error


@contextmanager
def replica(flags: Flags) -> Iterator[Replica]:
    """The one that the flags name. Raises `Failed`."""
    with opened(flags) as way:
        yield Replica(way, flags.request_timeout)


def meaning(error: Any, method: str, where: str, limit: float) -> Failed:
    """What the status says to whoever asked. Pure."""
    code, said = error.code(), _said(error)
    if code is Code.UNAVAILABLE:
        return _unavailable(where, said)
    exit_code, text, advice = MEANING.get(
        code, (Exit.FAILED, "the replica at {where}: {code}: {said}", "Its log says more.")
    )
    return Failed(exit_code, text.format(where=where, said=said, method=method, limit=limit, code=code.name), advice)


MEANING = {
    Code.DEADLINE_EXCEEDED: (
        Exit.UNREACHED, "the replica at {where} did not answer within {limit:g} s",
        "See its health and log; --request-timeout waits longer.",
    ),
    Code.UNAUTHENTICATED: (
        Exit.FORBIDDEN, "the replica at {where} does not accept who you are: {said}",
        "Give a token of this audience by --token-file, or let the kubeconfig's user make one: `deltaplane options`.",
    ),
    Code.PERMISSION_DENIED: (
        Exit.FORBIDDEN, "the replica at {where} refuses: {said}",
        "A token's account needs the ClusterRole deltaplane-inspector or deltaplane-operator (kubectl can bind it).",
    ),
    Code.UNIMPLEMENTED: (
        Exit.FAILED, "what answers at {where} cannot answer this ({method})",
        "An agent's socket answers status, get svc NAME, explain and trace only: ask a replica, which may be too old.",
    ),
    Code.RESOURCE_EXHAUSTED: (Exit.FAILED, "the replica at {where} has too much to do: {said}", "Ask again later."),
    Code.NOT_FOUND: (
        Exit.NO, "{said}", "`deltaplane get svc -A` and `deltaplane get node` list what there is, at a replica.",
    ),
    Code.INVALID_ARGUMENT: (Exit.USAGE, "{said}", "`deltaplane VERB --help` has examples."),
}  # fmt: skip


def _unavailable(where: str, said: str) -> Failed:
    lower = said.lower()
    if any(word in lower for word in ("certificate", "handshake", "ssl", "tls", "hostname verification", "peer name")):
        advice = "See that --ca-file is the replicas' CA, and that the address is in their certificate (--server-name)."
        return Failed(Exit.UNREACHED, f"no TLS with the replica at {where}: {said}", advice)
    advice = "See that it runs and listens there, and that --server, --insecure and the network are right."
    return Failed(Exit.UNREACHED, f"no replica answers at {where}: {said}", advice)


def _broken_off(where: str, said: str) -> Failed:
    """The replica was there, and went away while it was listened to."""
    return Failed(
        Exit.UNREACHED, f"the replica at {where} broke off its answer: {said}",
        "Ask again: any other replica answers for all (--server with several of them, or --replica).",
    )  # fmt: skip


def _said(error: Any) -> str:
    return " ".join((error.details() or "").split())[:400]
