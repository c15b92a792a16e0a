"""What goes wrong at the kernel's interfaces, as one line for the operator: what, where, what to do."""

from __future__ import annotations


class AgentError(Exception):
    """Base of the agent's own errors; the text is one line for the operator."""


class DataplaneUnavailable(AgentError):
    """This kernel or these permissions cannot do what is asked at all (exit code 1)."""


class KernelUnavailable(AgentError):
    """The kernel refused a whole transaction for now; the wanted state is kept and retried."""


class Unsure(KernelUnavailable):
    """Whether the kernel did what was sent is not known: read it before the next write."""


class RightLacking(KernelUnavailable):
    """This process may not ask the kernel that; it is no use to try again."""
