"""Taking away what userspace mode leaves, for `--cleanup` and after a change of mode: redirects and own addresses.

And what kube-proxy's userspace mode, which it had up to 1.25, left in iptables.
"""

from __future__ import annotations

import os
from ipaddress import ip_address

from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.program.nftables import cleanup as tables
from nodeagent.program.nftables.kernel import NetlinkKernel, unavailable
from nodeagent.program.userspace.loopback import Route
from nodeagent.program.userspace.settings import Settings


def cleanup(settings: Settings | None = None) -> tuple[str, ...]:
    """Removes it from this network namespace; what was there, such as "nftables ip deltaplane-userspace".

    Raises AgentError.
    """
    chosen = settings or Settings()
    return (*_tables(chosen), *_addresses(chosen))


def _tables(settings: Settings) -> tuple[str, ...]:
    try:
        kernel = NetlinkKernel()
    except DataplaneUnavailable:
        return ()  # where there is no nftables, nothing was left in it
    try:
        return tuple(f"nftables {found}" for found in tables.cleanup(kernel, (settings.table,)))
    except OSError as error:
        raise unavailable(error, settings.table) from error
    finally:
        kernel.close()


def _addresses(settings: Settings) -> tuple[str, ...]:
    route = Route()
    try:
        return tuple(
            f"{ip_address(address)} on the loopback interface"
            for address in (settings.address(4), settings.address(6))
            if route.remove(address)
        )
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        text = f"userspace: removing our addresses from the loopback interface failed ({reason})"
        raise KernelUnavailable(f"{text}: give the agent CAP_NET_ADMIN in this network namespace") from error
    finally:
        route.close()
