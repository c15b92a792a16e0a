"""Which kinds of rules a kernel takes, by really writing one of each; `dataplane` asks at its start, and `probe`."""

from __future__ import annotations

from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.kinds import NFACCT, optional, required, trial
from nodeagent.dataplane.iptables.tools import Iptables, Refusal


def unwritable(kernel: Iptables, family: int) -> Refusal | None:
    """Why what is required cannot be written. Raises KernelUnavailable."""
    return kernel.attempt(family, trial(required(family)))


def lacking(kernel: Iptables, family: int) -> frozenset[str]:
    """The options that this kernel refuses; all at once are tried first, and one by one only where that fails.

    A kernel that is busy is taken to have all. Raises KernelUnavailable.
    """
    options = optional(family)
    if not all(map(kernel.account, n.COUNTERS)):
        del options[NFACCT]  # nothing to count into: not asked for
    refusal = kernel.attempt(family, trial(rule for option in options.values() for rule in option.rules))
    if refusal is None or refusal.busy:
        return frozenset()
    return frozenset(name for name, option in options.items() if kernel.attempt(family, trial(option.rules)))
