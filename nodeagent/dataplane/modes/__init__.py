"""The proxy modes: which one runs, how its backend is opened, and how what another one left is taken away."""

from nodeagent.dataplane.modes.backends import (
    Backend,
    Others,
    alone,
    backend,
    chosen,
    cleanup,
    hand_back,
    open_dataplane,
)
from nodeagent.dataplane.modes.choice import ORDER, Choice, candidates, choose
from nodeagent.dataplane.modes.initial import initialised
from nodeagent.dataplane.modes.opened import Opened, Released

__all__ = [
    "Opened",
    "Others",
    "Released",
    "alone",
    "ORDER",
    "Backend",
    "Choice",
    "backend",
    "candidates",
    "choose",
    "chosen",
    "cleanup",
    "hand_back",
    "initialised",
    "open_dataplane",
]
