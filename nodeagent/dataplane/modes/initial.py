"""What `--init-only` makes (L8): kernel settings that the agent has no right to where its /proc/sys is read-only."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path

from deltaplane.logs import event
from nodeagent.config import AgentSettings
from nodeagent.conntrack.module import load
from nodeagent.errors import AgentError
from nodeagent.node import sysctl

LOOPBACK = ("iptables",)  # modes whose node ports answer on 127.0.0.1 with the kernel's leave

log = logging.getLogger(__name__)


def initialised(settings: AgentSettings) -> int:
    """The exit code: 1 where a setting could not be made, which the log has named."""
    load()
    root = Path(settings.sysctl_root)
    failed = bool(sysctl.setup(settings.conntrack, root=root))
    if settings.proxy_mode in LOOPBACK and (reason := _loopback(settings, root)):
        event(log, logging.WARNING, "node ports do not answer on loopback", reason=reason)
        failed = True
    return int(failed)


def _loopback(settings: AgentSettings, root: Path) -> str:
    from nodeagent.dataplane.iptables.localnet import route
    from nodeagent.dataplane.modes.iptables import translated
    from nodeagent.linux.iptables.flavour import detect
    from nodeagent.linux.iptables.programs import Tools

    try:
        with closing(Tools(detect())) as kernel:
            return route(kernel, translated(settings, settings.cluster_cidrs), root)
    except AgentError as error:
        return str(error)
