"""The agent's settings, from its command line and, with --config, a KubeProxyConfiguration file.

`parse`, called by `nodeagent.main`, reads flags and file and decides which of them counts. Values are ready for use:
addresses and CIDRs are canonical text, and the fields are those of the mode in use.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NoReturn

from msgspec import structs

from deltaplane import bounded
from deltaplane.flags import UsageError, joined
from nodeagent.config import addresses, defaults, document, flags, security, validation, watch, words
from nodeagent.config.durations import Duration, of
from nodeagent.config.notes import notes
from nodeagent.config.schema import Conntrack, KubeProxyConfiguration

OF_KUBE_PROXY = ("iptables", "ipvs")
"""Modes whose rules are kube-proxy's own, by name: two programs cannot share them."""
DRAIN_PORT = 10259
DRAIN_TIMEOUT = of(seconds=25)  # less than a Pod's usual 30 seconds from its hook to its end
SHORTEST, LONGEST = 1.0, 600.0  # seconds, of --drain-timeout; the control plane waits no longer


class Task(Enum):
    """What the process is to do."""

    RUN = "run"
    WRITE_CONFIG = "write-config-to"
    CLEANUP = "cleanup"
    INIT = "init-only"


class Detector(Enum):
    """How local traffic is recognised (I5)."""

    CLUSTER_CIDR = "ClusterCIDR"
    NODE_CIDR = "NodeCIDR"
    BRIDGE = "BridgeInterface"
    PREFIX = "InterfaceNamePrefix"


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The settings of one `deltaplane agent`."""

    task: Task
    servers: tuple[str, ...]  # HOST:PORT or unix:///PATH, tried in order
    security: security.Security
    node_name: str  # lower case, as the kubelet registers it
    proxy_mode: str  # the mode that was asked for; after `in_mode`, the one in use
    strict_mode: bool  # end if that mode cannot work, instead of taking another
    beside_kube_proxy: bool  # kube-proxy runs here too: its rules stay, and its kernel settings are its own
    cluster_cidrs: tuple[str, ...]  # one per family; none: no detector by address
    drain_seconds: float  # for how long connections that userspace or ipvs mode carries go on after a change of mode
    udp_idle_seconds: float  # userspace mode: how long a silent UDP client is remembered
    max_connections: int | None  # userspace mode: TCP connections at a time; None: its own limit
    max_udp_clients: int | None  # userspace mode, at once
    state_dir: str | None  # None: nothing is kept over a restart but the kernel's own state
    state_max_age: float  # seconds; an older state does not go to an empty kernel before a replica has confirmed it
    sysctl_root: str  # below which --init-only finds the host's /proc/sys, writable
    inspect_socket: str | None  # unix:///PATH of the agent's inspection service; None: none
    health_listen: str | None  # HOST:PORT of the gRPC health service; None: none
    drain_listen: tuple[str, ...]  # HOST:PORT each, where Pods ask when nobody sends to them any more; none: nowhere
    drain_timeout: float  # seconds that such a call waits at most
    verbosity: int
    detector: Detector
    bridge_interface: str  # with Detector.BRIDGE
    interface_name_prefix: str  # with Detector.PREFIX
    masquerade_all: bool
    masquerade_bit: int
    node_port_addresses: tuple[str, ...]  # CIDRs; ("primary",): the Node's own; empty: every address
    bind_address: str | None  # taken for the primary address of its family; None: as the Node says
    healthz_address: str | None  # HOST:PORT; None: none
    metrics_address: str | None
    bind_address_hard_fail: bool
    sync_period: Duration  # twice this is how late a change may be before /healthz says so (K2)
    oom_score_adj: int
    conntrack: Conntrack
    config_file: str | None
    write_config_to: str | None
    configuration: KubeProxyConfiguration  # complete, as served at /configz and written by --write-config-to
    notes: tuple[str, ...]  # settings without effect, one line each with the reason
    given: flags.Given = field(repr=False)  # the flags, for `in_mode`
    removed: tuple[str, ...] = ()  # notes on fields of the file that only earlier versions of kube-proxy had


def parse(arguments: Sequence[str]) -> AgentSettings:
    """Reads flags and file. Raises `UsageError` with one line; --help and --version end the process with 0."""
    said = flags.given(arguments)
    file = said.get("config") or None
    read, removed = _read(file) if file else (None, ())
    config = named(defaults.completed(merged(said, read)))
    wrong = problems(config)
    if wrong:
        said_wrong = "; ".join(wrong)
        _refuse(f"--config={file}: {said_wrong}" if file else f"{said_wrong}; see `deltaplane agent --help`")
    task = _task(said)
    if task is Task.RUN:
        _check_run(said)
    return _settings(said, config, task, removed)


def merged(said: flags.Given, read: KubeProxyConfiguration | None) -> KubeProxyConfiguration:
    """What flags and, if there is one, a file's configuration come to, without what `defaults.completed` adds."""
    return flags.from_flags(said) if read is None else flags.over_file(defaults.filled(read), said)


def problems(config: KubeProxyConfiguration) -> list[str]:
    """Everything that is wrong with a completed configuration; empty: nothing."""
    return [*validation.problems(config), *words.problems(config)]


def in_mode(settings: AgentSettings, mode: str) -> AgentSettings:
    """The settings with the parts of this mode: another than was asked for, where that cannot be had.

    Where node ports answer stays what it was: another kernel dialect opens no more of them.
    """
    config = structs.replace(settings.configuration, mode=mode)
    return _settings(settings.given, config, settings.task, settings.removed)


def write(settings: AgentSettings) -> None:
    """Carries out --write-config-to. Raises OSError where the file cannot be written."""
    Path(settings.write_config_to or "").write_text(document.dump(settings.configuration), encoding="utf-8")


def _read(file: str) -> tuple[KubeProxyConfiguration, tuple[str, ...]]:
    try:
        return document.load(bounded.read(file, watch.MOST_BYTES))
    except (document.Unreadable, bounded.TooMuch) as error:
        _refuse(f"--config={file}: {error}")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        _refuse(f"--config={file}: {reason}")


def _refuse(reason: str) -> NoReturn:
    raise UsageError(f"deltaplane agent: {reason}")


def named(config: KubeProxyConfiguration) -> KubeProxyConfiguration:
    """The node's name is compared with the kubelet's, which is in lower case. Raises `UsageError` for blanks."""
    name = config.hostname_override
    if name and not name.strip():
        _refuse("--hostname-override: only blanks; name this node or leave the flag out")
    return structs.replace(config, hostname_override=name.strip().lower())


def _task(said: flags.Given) -> Task:
    """The first of them that is asked for, in kube-proxy's order."""
    return next((task for task in (Task.WRITE_CONFIG, Task.CLEANUP, Task.INIT) if said.get(task.value)), Task.RUN)


def _check_run(said: flags.Given) -> None:
    if "server" not in said:
        _refuse("--server is required: HOST:PORT of the control plane's replicas")
    if wrong := security.problem(said):
        _refuse(wrong)


def _settings(said: flags.Given, config: KubeProxyConfiguration, task: Task, removed: tuple[str, ...]) -> AgentSettings:
    node_name = config.hostname_override or socket.gethostname().strip().lower()
    if not node_name:
        _refuse("--hostname-override: not given, and this machine has no host name")
    beside = bool(said.get("beside-kube-proxy"))
    if beside and config.mode in OF_KUBE_PROXY:
        _refuse(
            f"--beside-kube-proxy does not go with mode {config.mode}, which has kube-proxy's own chains: "
            "choose nftables or userspace"
        )
    section = config.nftables if config.mode in ("nftables", "") else config.iptables
    return AgentSettings(
        task=task,
        servers=said.get("server", ()),
        security=security.security(said),
        node_name=node_name,
        proxy_mode=config.mode or defaults.AUTO,
        strict_mode=bool(said.get("strict-mode")),
        beside_kube_proxy=beside,
        cluster_cidrs=_cluster_cidrs(config),
        drain_seconds=_seconds(said, "drain-period", flags.DRAIN_PERIOD),
        udp_idle_seconds=config.udp_idle_timeout.seconds,
        max_connections=_limit(said, "userspace-max-connections"),
        max_udp_clients=_limit(said, "userspace-max-udp-clients"),
        state_dir=said.get("state-dir") or None,
        state_max_age=_seconds(said, "state-max-age", flags.STATE_MAX_AGE),
        sysctl_root=said.get("sysctl-root") or "/",
        inspect_socket=said.get("inspect-socket") or None,
        health_listen=said.get("health-listen") or None,
        drain_listen=_drain_listen(said),
        drain_timeout=min(LONGEST, max(SHORTEST, _seconds(said, "drain-timeout", DRAIN_TIMEOUT))),
        verbosity=config.logging.verbosity,
        detector=Detector(config.detect_local_mode),
        bridge_interface=config.detect_local.bridge_interface,
        interface_name_prefix=config.detect_local.interface_name_prefix,
        masquerade_all=section.masquerade_all,
        masquerade_bit=section.masquerade_bit,
        node_port_addresses=_node_port_addresses(config),
        bind_address=_bind_address(config),
        healthz_address=_page(config.healthz_bind_address, "healthz-bind-address", said),
        metrics_address=_page(config.metrics_bind_address, "metrics-bind-address", said),
        bind_address_hard_fail=config.bind_address_hard_fail,
        sync_period=validation.periods(config)[0],
        oom_score_adj=config.oom_score_adj,
        conntrack=config.conntrack,
        config_file=said.get("config") or None,
        write_config_to=said.get("write-config-to") or None,
        configuration=config,
        notes=notes(config, said, removed),
        given=said,
        removed=removed,
    )


def _page(address: str, flag: str, said: flags.Given) -> str | None:
    """Beside kube-proxy the default's port is taken, so there is a page where a flag says so."""
    return address if address and (flag in said or not said.get("beside-kube-proxy")) else None


def _seconds(said: flags.Given, flag: str, default: Duration) -> float:
    period = said.get(flag, default)
    if period < 0:
        _refuse(f"--{flag}={period}: must be greater than or equal to 0")
    return float(period.seconds)


def _drain_listen(said: flags.Given) -> tuple[str, ...]:
    port = said.get("drain-port", DRAIN_PORT)
    if not 0 < port <= 65535:
        _refuse(f"--drain-port={port}: must be from 1 to 65535")
    return tuple(joined(address, port) for address in said.get("drain-listen", ()))


def _limit(said: flags.Given, flag: str) -> int | None:
    number: int | None = said.get(flag)
    if number is not None and number < 1:
        _refuse(f"--{flag}={number}: must be greater than 0")
    return number


def _cluster_cidrs(config: KubeProxyConfiguration) -> tuple[str, ...]:
    if config.detect_local_mode != Detector.CLUSTER_CIDR.value or not config.cluster_cidr:
        return ()
    return tuple(str(addresses.network(text)) for text in config.cluster_cidr.split(","))


def _node_port_addresses(config: KubeProxyConfiguration) -> tuple[str, ...]:
    texts = config.node_port_addresses
    return texts if defaults.PRIMARY in texts else tuple(str(addresses.network(text)) for text in texts)


def _bind_address(config: KubeProxyConfiguration) -> str | None:
    address = addresses.address(config.bind_address)
    return None if address.is_unspecified else str(address)
