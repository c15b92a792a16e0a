"""Rules of others as `iptables-save` printed them, given back to `iptables-restore` to be deleted."""

from __future__ import annotations

from nodeagent.errors import KernelUnavailable
from nodeagent.linux.text import UnsafeText, printable


def rule(text: str) -> str:
    """The rule. Raises KernelUnavailable for one that cannot be given back.

    `iptables-restore` reads line by line, so that a rule with a line end in its comment would be several lines there.
    """
    try:
        return printable(text)
    except UnsafeText as error:
        raise KernelUnavailable(f"rule {error}: delete it with iptables -D; it is retried") from error
