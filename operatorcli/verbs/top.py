"""`top`."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import ExitStack
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live

from deltaplane.v1 import inspection_pb2 as pb
from operatorcli import tables
from operatorcli.ask import Replica
from operatorcli.exits import Failed
from operatorcli.flags import Asked, length, usage, verb
from operatorcli.output import Answer, Form, terminal
from operatorcli.views.top import Sample, Top

Interval = Annotated[str, typer.Option("--interval", metavar="TIME", help="Between two looks.")]
Count = Annotated[
    int,
    typer.Option("--count", metavar="NUMBER", min=0, help="End after so many looks; 0: go on on a terminal, else 1."),
]
Rows = Annotated[int, typer.Option("--rows", metavar="NUMBER", min=1, help="How many nodes, the slowest first.")]


def add(app: typer.Typer) -> None:
    """Adds it."""

    @verb(app, "top", "top --interval=500ms --count=2", "top --rows=3 --count=1 --interval=500ms")
    def top(asked: Asked, interval: Interval = "2s", count: Count = 0, rows: Rows = 10) -> None:
        """Live: changes per second, how far nodes are behind, the slowest nodes, and how long commits take.

        On a terminal it goes on until Ctrl-C; elsewhere it writes one look, or --count of them.
        """
        pause = length("interval", interval)
        if pause < 0.1:
            raise usage(f"--interval={interval} is too short", "The shortest is 100ms.")
        live = sys.stdout.isatty() and asked.form in (Form.TABLE, Form.WIDE)
        with asked.replica() as replica, ExitStack() as stack:
            seen = Watching(replica)
            screen = (
                stack.enter_context(Live(console=terminal(sys.stdout), screen=True, auto_refresh=False))
                if live
                else None
            )
            for _ in range(count or (sys.maxsize if live else 1)):
                time.sleep(pause)
                seen.look()
                answer = seen.frame(rows)
                if screen is None:
                    asked.show(answer)
                else:
                    screen.update(Group(*tables.drawn(answer.blocks)), refresh=True)


class Watching:
    """Looks at the nodes when it is told to, and hears of commits all the time."""

    def __init__(self, replica: Replica) -> None:
        self._replica, self._top = replica, Top()
        self._lock = threading.Lock()
        self.look()
        threading.Thread(target=self._hear, name="commits", daemon=True).start()

    def look(self) -> None:
        """Raises `Failed`."""
        nodes = self._replica.ask("ListNodes", pb.ListNodesRequest(), pb.ListNodesResponse)
        with self._lock:
            self._top.take(Sample(time.monotonic(), nodes))

    def _hear(self) -> None:
        try:
            for commit in self._replica.follow("TailCommits", pb.TailCommitsRequest(), pb.TailCommitsResponse):
                with self._lock:
                    self._top.told(time.monotonic(), commit)
        except (Failed, ValueError) as failure:  # ValueError: the channel was closed
            with self._lock:
                self._top.deaf = str(failure)

    def frame(self, rows: int) -> Answer:
        with self._lock:
            return self._top.frame(rows)
