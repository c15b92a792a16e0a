"""The proxy modes: which one runs, how its backend is opened, and how what another one left is taken away."""

from nodeagent.modes.backends import Backend, alone, backend, chosen, cleanup, leftovers, open_dataplane
from nodeagent.modes.choice import ORDER, Choice, candidates, choose
from nodeagent.modes.opened import Opened

__all__ = [
    "Opened",
    "alone",
    "ORDER",
    "Backend",
    "Choice",
    "backend",
    "candidates",
    "choose",
    "chosen",
    "cleanup",
    "leftovers",
    "open_dataplane",
]
