"""Why a stream ended of which the agent did not say goodbye: what this replica knows, and no more. Pure."""

from __future__ import annotations

from controlplane.acked import Acked


def without_goodbye(heard_at: float, sent_rev: int, acked: Acked, now: float) -> str:
    """gRPC does not tell whether the agent ended the call or the connection was lost.

    `heard_at`: when the agent's last message came, in monotonic seconds; 0: never. `sent_rev`: what was sent last.
    """
    parts = ["the stream ended without a goodbye: the agent gave it up or ended, or the connection was lost"]
    if heard_at:
        parts.append(f"its last message came {now - heard_at:.0f} s before")
    if sent_rev > acked.received_rev:
        lacking = f"it was sent revision {sent_rev} and confirmed {acked.received_rev}"
        parts.append(f"{lacking}, so what this replica sends may not have reached it")
    return "; ".join(parts)
