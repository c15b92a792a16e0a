"""Every proxy mode beside kube-proxy in the same mode: the start on a clean node, and what a change takes and costs.

Called by `__main__`. Stage and writes are those of `packet`; each mode and size has a stage of its own. A mode that
this kernel cannot do, or kube-proxy has not, is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.packet import SYNCED, Measured, Pace, Setting, rest, run, stage
from nodeagent.dataplane.modes import backend
from nodeagent.errors import DataplaneUnavailable

SIZES = ((1_000, 3), (5_000, 10))
Found = tuple[Setting, Measured]


def measure(modes: Iterable[str], sizes: Iterable[tuple[int, int]] = SIZES, *, quick: bool = False) -> Iterator[Found]:
    """One mode and size after the other."""
    pace = Pace("a change every 2 to 3 s", 2.5, 0.8, 6 if quick else 40)
    everything = [Setting(mode, *size) for mode in modes if is_here(mode) for size in sizes]
    for setting in everything:
        with stage(setting) as (scene, controlplane, agent, reference):
            rest((agent, reference), 3.0 if quick else 20.0)
            yield setting, run(pace, scene, controlplane, agent, reference)


def is_here(mode: str) -> bool:
    """Whether both can do the mode on this kernel."""
    try:
        backend(mode).probe()
    except DataplaneUnavailable:
        return False
    return mode in SYNCED
