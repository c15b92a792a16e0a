"""`deltaplane controlplane`: flags, exit codes, and why it could not run. `app` wires what runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from controlplane.app import App
from controlplane.errors import ControlPlaneError
from controlplane.settings import Settings, parse
from deltaplane import heap, logs, loop_meter, supervise
from deltaplane.loop_meter import LoopMeter

WHOLE = 4  # what a storm of streams leaves behind goes after two million objects more


def main(arguments: Sequence[str]) -> int:
    """Runs until SIGTERM or SIGINT; 0 then, 1 with one line on standard error when it cannot run."""
    settings = parse(arguments)
    logs.configure(settings.verbosity)
    heap.tune(whole=WHOLE)
    failures: list[Exception] = []
    meter = LoopMeter()
    try:
        loop_meter.run(_run(settings, meter), meter)
    except* (ControlPlaneError, supervise.Ended) as group:
        failures += _flat(group)
    for failure in failures[:1]:
        print(logs.line(f"deltaplane controlplane: {failure}"), file=sys.stderr)
    return 1 if failures else 0


def _flat(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _flat(error)
        else:
            yield error


async def _run(settings: Settings, meter: LoopMeter) -> None:
    await App(settings, meter).run()
