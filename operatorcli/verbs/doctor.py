"""`doctor`: what would change, and what would not work, with Deltaplane in kube-proxy's place. Asks no replica."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from operatorcli.exits import Exit, Failed
from operatorcli.flags import Asked, usage, verb
from operatorcli.views import doctor as view

if TYPE_CHECKING:
    from nodeagent.doctor import KubeProxy, Translation

FLAGS = ("kubeconfig", "context", "request_timeout")
SPACE, NAME = "kube-system", "kube-proxy"
MODES = ("nftables", "iptables", "ipvs", "userspace")
Where = Annotated[
    str,
    typer.Option(
        "--kube-proxy", metavar="WHERE",
        help="Where its configuration is: node (the process that runs here), cluster (the DaemonSet "
        "kube-system/kube-proxy and its ConfigMap), none, or a FILE (a KubeProxyConfiguration). auto: node, else "
        "cluster where there is a kubeconfig, else none.",
    ),
]  # fmt: skip
Mode = Annotated[str, typer.Option("--proxy-mode", metavar="MODE", help="The agent's mode: " + ", ".join(MODES) + ".")]
Node = Annotated[bool, typer.Option("--node/--no-node", help="Look at this machine; as root, in the host's network.")]
File = Annotated[str, typer.Option("--write", metavar="FILE", help="Write the agent's configuration file (--config).")]
Folder = Annotated[
    str, typer.Option("--write-component", metavar="FOLDER", help="Write a kustomize component that has agents use it.")
]


def add(app: typer.Typer) -> None:
    """Adds it."""

    @verb(
        app, "doctor", "doctor", "doctor --proxy-mode=iptables -o json",
        "doctor --kube-proxy=kube-proxy.conf --no-node --write=agent.conf", only=FLAGS,
    )  # fmt: skip
    def doctor(
        asked: Asked, kube_proxy: Where = "auto", proxy_mode: Mode = "nftables", node: Node = True,
        write: File = "", write_component: Folder = "",
    ) -> Exit:  # fmt: skip
        """What would change, and what would not work, with Deltaplane in kube-proxy's place on this node.

        It compares each of kube-proxy's settings with the agent's, and looks at the node: kernel, firewalls, NodeLocal
        DNSCache, bridges, host ports, other Service proxies, ports in use. It changes nothing. Ends with 0 when nothing
        needs you, with 1 when a finding does (marked in the table; severity "act" in json), with 2 when kube-proxy's
        configuration cannot be read.
        """
        from nodeagent import doctor as checks

        if proxy_mode not in MODES:
            raise usage(f"--proxy-mode={proxy_mode} is no mode", f"Choose one of {', '.join(MODES)}.")
        try:
            given, neighbours = _read(asked, kube_proxy)
            found = checks.translated(given or checks.KubeProxy("defaults"), proxy_mode)
        except checks.BadInput as error:
            raise usage(str(error), "Correct it, or name another by --kube-proxy=FILE.") from error
        report = _report(found, given, neighbours, node=node)
        told, code = view.answer(report, _written(found, write, write_component))
        asked.show(told)
        return code


def _report(found: Translation, given: KubeProxy | None, neighbours: dict[str, str], *, node: bool) -> dict[str, Any]:
    import msgspec

    from nodeagent import doctor as checks

    theirs = found.theirs if given else None
    wanted = checks.Wanted(found.ours.mode, found.ours, theirs, neighbours)
    machine = _machine() if node else checks.Machine()
    return {
        "kube_proxy": given.origin if given else "",
        "node": platform.node() if node else "",
        "mode": found.ours.mode,
        "findings": msgspec.to_builtins(checks.findings(machine, wanted)),
        "settings": msgspec.to_builtins(checks.changes(found)) if given else [],
        "notes": list(found.notes),
    }


def _machine() -> Any:
    from nodeagent.doctor import machine

    return machine.read()


def _read(asked: Asked, where: str) -> tuple[KubeProxy | None, dict[str, str]]:
    """How kube-proxy is set up, None: it is not known; and what the cluster says of others. Raises `BadInput`."""
    from nodeagent.doctor import KubeProxy, process

    if where == "none":
        return None, {}
    if where in ("auto", "node"):
        if found := process.kube_proxy():
            return found, {}
        if where == "node":
            raise usage("no kube-proxy runs in this network namespace", "Name a FILE, or --kube-proxy=cluster.")
    if where == "cluster" or (where == "auto" and _has_kubeconfig(asked)):
        return _of_cluster(asked)
    if where == "auto":
        return None, {}
    return KubeProxy(where, (), process.text(Path(where), f"--kube-proxy={where}"), where), {}


def _has_kubeconfig(asked: Asked) -> bool:
    named = asked.flags.kubeconfig or asked.flags.context or os.environ.get("KUBECONFIG")
    return bool(named) or Path("~/.kube/config").expanduser().exists()


def _of_cluster(asked: Asked) -> tuple[KubeProxy, dict[str, str]]:
    from nodeagent.doctor import KubeProxy
    from nodeagent.doctor.process import config_name
    from operatorcli.connect.cluster import Cluster

    cluster = Cluster(asked.flags)
    try:
        workload = cluster.workload(SPACE, NAME)
        words = tuple(workload.words[1:])
        name = config_name(words)
        file = cluster.file_of(workload, name) if name else None
        cilium = cluster.config_map(SPACE, "cilium-config", optional=True)
    finally:
        cluster.close()
    origin = f"DaemonSet {SPACE}/{NAME}"
    if name and file is None:
        raise usage(f"{origin}: --config={name} is in no ConfigMap that it mounts", "Name the file: --kube-proxy=FILE.")
    said = {f"cilium/{key}": cilium[key] for key in ("kube-proxy-replacement",) if key in cilium}
    text, at = file or (None, "")
    return KubeProxy(f"{origin}, {at}" if at else origin, words, text, name), said


def _written(found: Translation, file: str, folder: str) -> list[str]:
    from nodeagent.doctor import written

    told = []
    try:
        if file:
            Path(file).write_text(written.text(found.ours, file))
            told.append(f"Written: {file}, for `deltaplane agent --config={file}`.")
        if folder:
            left = written.component(found.ours, Path(folder))
            told.append(f"Written: {folder}, for `components` of an overlay.")
            if left:
                told.append(f"Not in {folder}, because it is this node's alone: {', '.join(left)}.")
    except OSError as error:
        name = error.filename or file or folder
        raise Failed(Exit.FAILED, f"{name} cannot be written: {error.strerror}", "Name another place.") from error
    return told
