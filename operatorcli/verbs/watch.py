"""`watch`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import typer
import yaml
from google.protobuf.message import Message

from deltaplane import moments
from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1 import objects_pb2
from operatorcli import names
from operatorcli.ask import Replica
from operatorcli.exits import Exit
from operatorcli.flags import Asked, length, usage, verb
from operatorcli.output import Form, plain
from operatorcli.text import key as key_text
from operatorcli.views import changes as changes_view
from operatorcli.views import commits as commits_view

What = Annotated[str, typer.Argument(metavar="svc/NAME", help="Only this object.", show_default=False)]
Namespace = Annotated[str, typer.Option("--namespace", "-n", metavar="NAME", help="Of the object.")]
Commits = Annotated[bool, typer.Option("--commits", help="Commits in the nodes' kernels, as they are acknowledged.")]
Since = Annotated[
    str,
    typer.Option(
        "--since", metavar="REVISION|TIME", help="Also what came after this revision, or for so long, such as 10m."
    ),
]
Node = Annotated[str, typer.Option("--node", metavar="NODE", help="Commits of this node only.")]
Count = Annotated[int, typer.Option("--count", metavar="NUMBER", min=0, help="End after so many lines; 0: go on.")]
Timeout = Annotated[str, typer.Option("--timeout", metavar="TIME", help="End after this time, such as 30s; 0: go on.")]


def add(app: typer.Typer) -> None:
    """Adds it."""

    @verb(
        app, "watch", "watch --timeout=2s", "watch --since=10m --timeout=2s", "watch svc/shop/web --timeout=2s -o json",
        "watch --commits --node=node-a --timeout=2s",
    )  # fmt: skip
    def watch(
        asked: Asked, what: What = "", namespace: Namespace = "", commits: Commits = False, node: Node = "",
        since: Since = "", count: Count = 0, timeout: Timeout = "0",
    ) -> Exit:  # fmt: skip
        """Each change as it is sent to the agents, a line each; with --commits, each commit in a node's kernel.

        With svc/NAME also those of its endpoints. Each change is kept for five minutes; before that, --since shows the
        last change of each object. With -o json or yaml each is a document of its own. With --count and --timeout it
        ends with 1 when the time is up before so many came.
        """
        if since and (commits or node):
            raise usage("--since goes with changes alone", "Commits are not kept: --commits shows those from now on.")
        start = _start(since)
        limit = length("timeout", timeout) or None
        key = names.key(what, asked.namespace(namespace)) if what else objects_pb2.ObjectKey()
        number = 0
        with asked.replica() as replica:
            found = _commits(replica, key, node, limit) if commits or node else _changes(replica, key, start, limit)
            for message, line, name in islice(found, count or None):
                write(asked.form, message, line, name)
                number += 1
        return Exit.NO if number < count else Exit.YES


Line = tuple[Message, str, str]


def _start(since: str) -> pb.TailChangesRequest:
    """A revision is a plain number, a time has a unit."""
    if not since or since.isdecimal():
        return pb.TailChangesRequest(after_rev=int(since or 0))
    return pb.TailChangesRequest(after_unix_nano=moments.unix_nano() - int(length("since", since) * 1e9))


def _changes(
    replica: Replica, of: objects_pb2.ObjectKey, start: pb.TailChangesRequest, limit: float | None
) -> Iterator[Line]:
    request = pb.TailChangesRequest(namespace=of.namespace, name=of.name)
    if of.kind != names.SERVICE:
        request.kind = of.kind
    request.MergeFrom(start)
    for each in replica.follow("TailChanges", request, pb.TailChangesResponse, limit=limit):
        yield each, changes_view.line(each), key_text(each.key)


def _commits(replica: Replica, of: objects_pb2.ObjectKey, node: str, limit: float | None) -> Iterator[Line]:
    request = pb.TailCommitsRequest(node_name=node)
    if of.name:
        request.object.CopyFrom(of)
    for each in replica.follow("TailCommits", request, pb.TailCommitsResponse, limit=limit):
        yield each, commits_view.line(each), f"node/{each.node_name}"


def write(form: Form, message: Message, line: str, name: str) -> None:
    """One of many, each by itself, so that a reader sees it at once."""
    match form:
        case Form.JSON:
            text = json.dumps(plain(message), ensure_ascii=False) + "\n"
        case Form.YAML:
            text = "---\n" + yaml.safe_dump(plain(message), sort_keys=False, allow_unicode=True)
        case Form.NAME:
            text = f"{name}\n"
        case _:
            text = f"{line}\n"
    sys.stdout.write(text)
    sys.stdout.flush()
