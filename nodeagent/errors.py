"""The agent's errors. Edges translate foreign exceptions into these once, with the cause chained."""

from __future__ import annotations


class AgentError(Exception):
    """Base of the agent's own errors; the text is one line for the operator: what, where, what to do."""


class DataplaneUnavailable(AgentError):
    """This kernel or these permissions cannot do the mode at all (exit code 1)."""


class KernelUnavailable(AgentError):
    """The kernel refused a whole transaction for now; the wanted state is kept and retried."""
