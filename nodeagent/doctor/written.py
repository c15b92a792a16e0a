"""The files that `deltaplane doctor` writes: the agent's configuration, and a kustomize component that mounts it."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from nodeagent.config import defaults, document
from nodeagent.config.addresses import split_host_port
from nodeagent.config.schema import KubeProxyConfiguration, file_path, replaced, value_at
from nodeagent.config.settings import problems

FILE = "agent.conf"
MOUNTED = "/etc/deltaplane/agent"
_HEAD = """\
# Does what kube-proxy's configuration did, made by `deltaplane doctor`: deltaplane agent --config={}
"""
_COMPONENT = f"""\
# Agents and their init container take {FILE}, made by `deltaplane doctor` of kube-proxy's configuration.
# Name this folder in `components` of your overlay, before beside-kube-proxy, which has no init container.
# The flag --proxy-mode of the base, or of the components iptables and ipvs, wins over the file's mode.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
configMapGenerator:
  - name: deltaplane-agent-configuration
    namespace: deltaplane-system
    files: [{FILE}]
patches:
  - target: {{kind: DaemonSet, name: deltaplane-agent}}
    patch: |
      - {{op: add, path: /spec/template/spec/containers/0/args/-, value: --config={MOUNTED}/{FILE}}}
      - op: add
        path: /spec/template/spec/containers/0/volumeMounts/-
        value: {{name: configuration, mountPath: {MOUNTED}, readOnly: true}}
      - {{op: add, path: /spec/template/spec/initContainers/0/args/-, value: --config={MOUNTED}/{FILE}}}
      - op: add
        path: /spec/template/spec/initContainers/0/volumeMounts/-
        value: {{name: configuration, mountPath: {MOUNTED}, readOnly: true}}
      - op: add
        path: /spec/template/spec/volumes/-
        value: {{name: configuration, configMap: {{name: deltaplane-agent-configuration}}}}
"""


def text(ours: KubeProxyConfiguration, name: str = FILE) -> str:
    """The file. Raises ValueError where the agent would not take it, which no configuration of kube-proxy's "
    "leads to."""
    made = _HEAD.format(name) + document.dump(ours)
    read, notes = document.load(made)
    wrong = [*problems(defaults.completed(defaults.filled(read))), *notes]
    if wrong:
        raise ValueError("; ".join(wrong))
    return made


def component(ours: KubeProxyConfiguration, folder: Path) -> list[str]:
    """Writes the component; the folder is made. Returns what of it is this node's alone. Raises OSError."""
    shared, left = of_every_node(ours)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(text(shared, f"{MOUNTED}/{FILE}"))
    (folder / "kustomization.yaml").write_text(_COMPONENT)
    return left


def of_every_node(ours: KubeProxyConfiguration) -> tuple[KubeProxyConfiguration, list[str]]:
    """What agents of all nodes can have, and the fields (`FIELD VALUE`) that name this one node."""
    given = {path: str(value_at(ours, path)) for path in _ONE_NODES}
    new = {path: _ONE_NODES[path](value) for path, value in given.items()}
    for path, value in new.items():
        ours = replaced(ours, path, value)
    return ours, [f"{file_path(path)} {given[path]}" for path in given if given[path] != new[path]]


def _anywhere(address: str) -> str:
    """An address that each node has."""
    packed = ip_address(address)
    common = packed.is_unspecified or packed.is_loopback
    return address if common else "0.0.0.0" if packed.version == 4 else "::"  # noqa: S104 - text, nothing listens


def _listener(text: str) -> str:
    """HOST:PORT at every address of a node, if the host is one node's."""
    if not text:
        return text
    host, port = split_host_port(text)
    other = _anywhere(host)
    return text if other == host else f"[{other}]:{port}" if ":" in other else f"{other}:{port}"


_ONE_NODES: dict[str, Callable[[str], str]] = {
    "hostname_override": lambda _: "",
    "bind_address": _anywhere,
    "healthz_bind_address": _listener,
    "metrics_bind_address": _listener,
}
