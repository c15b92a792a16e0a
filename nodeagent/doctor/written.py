"""The files that `deltaplane doctor` writes: the agent's configuration, and a kustomize component that mounts it."""

from __future__ import annotations

from pathlib import Path

from nodeagent.config import defaults, document
from nodeagent.config.schema import KubeProxyConfiguration
from nodeagent.config.settings import problems

FILE = "agent.conf"
MOUNTED = "/etc/deltaplane/agent"
_HEAD = """\
# Does what kube-proxy's configuration did, made by `deltaplane doctor`: deltaplane agent --config={}
"""
_COMPONENT = f"""\
# Agents and their init container take {FILE}, made by `deltaplane doctor` of kube-proxy's configuration.
# Name this folder in `components` of your overlay.
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


def component(ours: KubeProxyConfiguration, folder: Path) -> None:
    """Writes the component; the folder is made. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(text(ours, f"{MOUNTED}/{FILE}"))
    (folder / "kustomization.yaml").write_text(_COMPONENT)
