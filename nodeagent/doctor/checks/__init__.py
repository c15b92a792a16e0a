"""What would not work on a node, and what to do: pure functions of the machine and what is wanted, each with a reason.

A check yields findings; adding one is adding it to a module's `CHECKS`.
"""

from __future__ import annotations

from nodeagent.doctor.checks import firewalls, kernel, neighbours, proxies
from nodeagent.doctor.facts import Finding, Machine, Severity, Wanted

CHECKS = (*kernel.CHECKS, *firewalls.CHECKS, *proxies.CHECKS, *neighbours.CHECKS)


def findings(machine: Machine, wanted: Wanted) -> list[Finding]:
    """Everything there is to say of this node, what needs somebody to act first."""
    found = [finding for check in CHECKS for finding in check(machine, wanted)]
    return sorted(found, key=lambda each: each.severity is not Severity.ACT)
