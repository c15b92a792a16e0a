"""The agent's command line: its own flags, and every flag of kube-proxy. Called by `settings.parse`."""

from __future__ import annotations

import re
from argparse import Action, ArgumentTypeError, _ArgumentGroup  # the group has no public name
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import structs

import deltaplane
from deltaplane import flags
from nodeagent.config import addresses, security
from nodeagent.config.defaults import default_text, filled
from nodeagent.config.durations import of
from nodeagent.config.kinds import BOOL, DURATION, INT
from nodeagent.config.options import OPTIONS, PORTS, Option
from nodeagent.config.schema import HEALTHZ_PORT, METRICS_PORT, KubeProxyConfiguration, VmoduleItem, replaced

SHARED = {
    "iptables-sync-period": "nftables.sync_period",
    "iptables-min-sync-period": "nftables.min_sync_period",
    "masquerade-all": "iptables.masquerade_all",
}
"""Flags that set a second field."""

DRAIN_PERIOD = of(seconds=10)
STATE_MAX_AGE = of(hours=24)
LIMITS = {
    "userspace-max-connections": "userspace mode: TCP connections at once; further ones wait in the kernel's queues "
    "(default: 8192)",
    "userspace-max-udp-clients": "userspace mode: UDP clients at once; the one silent for longest gives way "
    "(default: 8192)",
}
"""Our own flags for what one agent carries in userspace mode."""

MODE_TEXT = "auto (the default: the first that works here), nftables, iptables, ipvs or userspace"

Given = dict[str, Any]  # flag without dashes -> what was given; a flag that was not given is absent
ALSO_WITH_A_FILE = ("hostname-override", "proxy-mode")
"""Besides the logging flags: what counts although --config is given."""


def given(arguments: Sequence[str]) -> Given:
    """Reads the command line. Raises `deltaplane.flags.UsageError`."""
    found = vars(_parser().parse_args([_normal(argument) for argument in arguments]))
    if not found["hostname-override"]:
        found["hostname-override"] = None  # for kube-proxy, too, an empty one is as good as none
    return {flag: value for flag, value in found.items() if value is not None}


def from_flags(said: Given) -> KubeProxyConfiguration:
    """The configuration that flags alone make, where no file is given."""
    config = _applied(filled(KubeProxyConfiguration()), said, OPTIONS)
    config = structs.replace(config, mode=said.get("proxy-mode", ""))
    return _with_ports(_for_the_mode(config, said), said)


def over_file(config: KubeProxyConfiguration, said: Given) -> KubeProxyConfiguration:
    """A file's configuration with the few flags that count beside it."""
    config = _applied(config, said, (option for option in OPTIONS if _counts_with_a_file(option)))
    return structs.replace(config, mode=said.get("proxy-mode") or config.mode)


def ignored_with_file(said: Given) -> tuple[str, ...]:
    """The flags among `said` that say nothing beside a file."""
    of_kube_proxy = {option.flag for option in OPTIONS if not _counts_with_a_file(option)} | set(PORTS)
    return tuple(sorted(of_kube_proxy & set(said)))


def _counts_with_a_file(option: Option) -> bool:
    return option.flag in ALSO_WITH_A_FILE or option.path.startswith("logging.") or not option.path


def _applied(config: KubeProxyConfiguration, said: Given, options: Iterable[Option]) -> KubeProxyConfiguration:
    for option in options:
        if option.path and option.flag in said:
            config = replaced(config, option.path, _value(option, said[option.flag]))
    return config


def _value(option: Option, value: Any) -> Any:
    if option.kind.repeats:
        value = tuple(item for occurrence in value for item in occurrence)
    if option.path == "feature_gates":
        return dict(value)
    if option.path == "logging.vmodule":
        pairs = (part.rpartition("=") for part in value.split(",") if part)
        return tuple(VmoduleItem(pattern, int(level) if level.isdecimal() else 0) for pattern, _, level in pairs)
    return value


def _for_the_mode(config: KubeProxyConfiguration, said: Given) -> KubeProxyConfiguration:
    """Flags that count in a mode they are not named after: kube-proxy has none for nftables alone."""
    for flag, path in SHARED.items():
        if flag in said:
            config = replaced(config, path, said[flag])
    return config


def _with_ports(config: KubeProxyConfiguration, said: Given) -> KubeProxyConfiguration:
    defaults = {"healthz-port": HEALTHZ_PORT, "metrics-port": METRICS_PORT}
    for flag, path in PORTS.items():
        port = said.get(flag, defaults[flag])
        address = getattr(config, path)
        config = replaced(config, path, addresses.with_port(address, port) if port and address else "")
    return config


def _normal(argument: str) -> str:
    """Underscores in a flag's name are dashes, as for kube-proxy."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _parser() -> flags.Parser:
    parser = flags.Parser("deltaplane agent", "Take deltas from a control plane and program this node's kernel.")
    parser.add_argument("--version", action="version", version=f"deltaplane {deltaplane.__version__}")
    _own(parser.add_argument_group("Deltaplane's own flags"))
    _tasks(parser.add_argument_group("what to do"))
    group = parser.add_argument_group("kube-proxy's flags")
    idle = parser.add_argument_group("kube-proxy's flags that do nothing here")
    for option in OPTIONS:
        if option.flag:
            _add(idle if option.idle else group, option)
    for flag, path in PORTS.items():
        default = HEALTHZ_PORT if flag == "healthz-port" else METRICS_PORT
        text = f"the port of --{path.replace('_', '-')}, 0: none; deprecated (default: {default})"
        group.add_argument(f"--{flag}", dest=flag, type=INT.parse, metavar="PORT", help=text)
    return parser


def _own(group: _ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--server", type=flags.places, metavar="HOST:PORT[,...]",
        help="control plane replicas; unix:///PATH for one on this machine",
    )  # fmt: skip
    security.add(group)
    _switch(group, "insecure", "plain text, and whoever answers is believed")
    add(
        "--drain-period", dest="drain-period", type=DURATION.parse, metavar="DURATION",
        help="for how long connections that userspace or ipvs mode carries may go on after a change of mode "
        f"(default: {DRAIN_PERIOD})",
    )  # fmt: skip
    for flag, text in LIMITS.items():
        add(f"--{flag}", dest=flag, type=INT.parse, metavar="N", help=text)
    add("--state-dir", dest="state-dir", metavar="DIR", help="where the agent keeps what it was sent, to resume")
    add(
        "--state-max-age", dest="state-max-age", type=DURATION.parse, metavar="DURATION",
        help="after a reboot, do not program what was kept for longer before a replica has confirmed it "
        f"(default: {STATE_MAX_AGE})",
    )  # fmt: skip
    add(
        "--health-listen", dest="health-listen", type=_optional_address, metavar="HOST:PORT", help="gRPC health service"
    )
    add(
        "--drain-listen", dest="drain-listen", type=_own_addresses, metavar="ADDRESS[,...]",
        help="this node's addresses where a Pod of it asks, by GET /drain, when no node sends to it any more",
    )  # fmt: skip
    add(
        "--drain-port", dest="drain-port", type=INT.parse, metavar="PORT",
        help="the port of --drain-listen, which kube-scheduler has on loopback (default: 10259)",
    )  # fmt: skip
    add(
        "--drain-timeout", dest="drain-timeout", type=DURATION.parse, metavar="DURATION",
        help="for how long such a call waits at most, from 1s to 10m (default: 25s)",
    )  # fmt: skip
    add(
        "--inspect-socket", dest="inspect-socket", type=_socket, metavar="unix:///PATH",
        help="where this agent says what it wants, has applied and reads back from the kernel; for its user alone",
    )  # fmt: skip
    add("--proxy-mode", dest="proxy-mode", metavar="MODE", help=f"{MODE_TEXT}; wins over a file's mode")
    _switch(
        group, "beside-kube-proxy",
        "leave kube-proxy's rules, kernel settings and ports to it: it serves the other Services of this node",
    )  # fmt: skip
    _switch(group, "strict-mode", "end where the mode that is asked for cannot work here, instead of taking another")


def _socket(text: str) -> str:
    """An argparse type: unix:///PATH, or empty."""
    if text and not flags.is_socket(text):
        raise ArgumentTypeError(f"{text!r}: a unix socket is unix:///PATH, with its whole path")
    return flags.place(text) if text else text


def _tasks(group: _ArgumentGroup) -> None:
    add = group.add_argument
    add("--config", metavar="FILE", help="a KubeProxyConfiguration; kube-proxy's other flags are ignored then")
    add("--write-config-to", dest="write-config-to", metavar="FILE", help="write the configuration, defaults and all")
    _switch(group, "cleanup", "remove everything of ours from the kernel, and end")
    _switch(group, "init-only", "do what needs full privileges, and end; afterwards CAP_NET_ADMIN is enough")
    add(
        "--sysctl-root", dest="sysctl-root", metavar="DIR",
        help="where --init-only finds the host's proc/sys: a container's own cannot be written (default: /)",
    )  # fmt: skip


def _switch(group: _ArgumentGroup, flag: str, text: str) -> Action:
    return group.add_argument(f"--{flag}", dest=flag, nargs="?", const=True, type=BOOL.parse, metavar="BOOL", help=text)


def _add(group: _ArgumentGroup, option: Option) -> None:
    text = re.sub(r"\.$", "", option.text) + (f": {option.idle}" if option.idle else "")
    if option.path and not option.idle and "default" not in text and (default := default_text(option.path)):
        text += f" (default: {default})"
    if option.kind is BOOL:
        _switch(group, option.flag, text)
        return
    names = [f"--{option.flag}", *(["-v"] if option.flag == "v" else [])]
    action = "append" if option.kind.repeats else "store"
    kind = option.kind
    group.add_argument(*names, dest=option.flag, action=action, type=kind.parse, metavar=kind.placeholder, help=text)


def _optional_address(text: str) -> str:
    return flags.address(text) if text else ""


def _own_addresses(text: str) -> tuple[str, ...]:
    """An argparse type: IP addresses with commas between, or none; each in brackets or not."""
    try:
        return tuple(str(addresses.address(part.strip().strip("[]"))) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
