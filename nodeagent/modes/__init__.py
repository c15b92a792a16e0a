"""The proxy modes: which one runs, how its backend is opened, and how what another one left is taken away."""

from nodeagent.modes.backends import Backend, backend, chosen, cleanup, open_dataplane
from nodeagent.modes.choice import ORDER, Choice, candidates, choose

__all__ = ["ORDER", "Backend", "Choice", "backend", "candidates", "choose", "chosen", "cleanup", "open_dataplane"]
