"""Starts the node's own programs by name, where this command runs as root on a node. Raises `Failed`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from deltaplane.v1 import views_pb2
from operatorcli.exits import Exit, Failed

MARGIN = 15.0  # seconds beyond its own time, for a program to start and to end
NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}


def traced(connection: views_pb2.Connection, timeout: float, *, wait: bool) -> dict[str, Any]:
    """What `nodeagent.tracing` saw of the flow's next packet (nodeagent/tracing/flow.py, `Traced`)."""
    command = [sys.executable, "-m", "nodeagent.tracing", connection.source, connection.address, str(connection.port)]
    command += [f"--protocol={NUMBERS[connection.protocol or 'TCP']}", f"--timeout={timeout:g}"]
    found: dict[str, Any] = json.loads(_run([*command, *(["--wait"] if wait else [])], timeout + MARGIN) or "{}")
    if found.get("error") or not found:
        advice = "Run this as root on the node, in its network namespace: in the agent's container, for example."
        raise Failed(Exit.FAILED, f"no trace: {found.get('error') or 'the tracing program ended early'}", advice)
    return found


def several(connection: views_pb2.Connection, timeout: float, count: int, *, wait: bool) -> Iterator[dict[str, Any]]:
    """Packets one after the other, as `traced` says each; the last one where none came in time."""
    for _ in range(count):
        found = traced(connection, timeout, wait=wait)
        yield found
        if not found["packets"]:
            return


def _run(command: Sequence[str], limit: float) -> str:
    """Its output. However this ends, the program has ended before, and has taken its rules away."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:  # noqa: S603 - our own program
        try:
            return child.communicate(timeout=limit)[0]
        except subprocess.TimeoutExpired:
            raise Failed(Exit.FAILED, f"no trace: the program did not end within {limit:g} s") from None
        finally:
            child.terminate()
