"""`deltaplane agent`: flags in, exit code out. What runs is wired in `nodeagent.app`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from deltaplane import heap, logs, loop_meter, supervise
from deltaplane.loop_meter import LoopMeter
from nodeagent import app, config
from nodeagent.config import AgentSettings, Task
from nodeagent.dataplane.modes import chosen, cleanup, hand_back, initialised
from nodeagent.errors import AgentError
from nodeagent.stream.journal import Journal


def main(arguments: Sequence[str]) -> int:
    """Runs until SIGTERM or SIGINT; 0 then, 1 with one line on standard error when it cannot run. The rules stay."""
    settings = config.parse(arguments)
    logs.configure(settings.verbosity)
    heap.tune(whole=2000)
    try:
        return _carry_out(settings)
    except (AgentError, OSError, supervise.Ended) as error:
        print(logs.line(f"deltaplane agent: {error}"), file=sys.stderr)
        return 1


def _carry_out(settings: AgentSettings) -> int:
    match settings.task:
        case Task.WRITE_CONFIG:
            config.write(settings)
        case Task.INIT:
            return initialised(settings)
        case Task.CLEANUP:
            clean = hand_back if settings.beside_kube_proxy else cleanup
            removed = [*clean(), *_remove_state(settings)]
            print(logs.line(f"removed: {', '.join(removed) or 'nothing was there'}"))
        case Task.RUN:
            choice = chosen(settings)
            meter = LoopMeter()
            loop_meter.run(app.run(config.in_mode(settings, choice.mode), choice, meter), meter)
    return 0


def _remove_state(settings: AgentSettings) -> list[str]:
    """The journal goes with the rules, or the next start would program what it says."""
    if not settings.state_dir or not Journal(settings.state_dir).remove():
        return []
    return [f"the state in {settings.state_dir}"]
