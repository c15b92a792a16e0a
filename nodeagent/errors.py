"""The agent's errors. Edges translate foreign exceptions into these once, with the cause chained.

`nodeagent.linux`, which imports nothing of the agent, raises them too and therefore defines them.
"""

from __future__ import annotations

from nodeagent.linux.errors import AgentError, DataplaneUnavailable, KernelUnavailable, Unsure

__all__ = ["AgentError", "DataplaneUnavailable", "KernelUnavailable", "Unsure"]
