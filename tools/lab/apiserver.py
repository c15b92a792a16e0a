"""A real Kubernetes API: etcd and kube-apiserver on the API server's host of the fabric.

Called by end-to-end tests, the benchmark and the two-node cluster. The administrator is a static token; everybody else
is a real ServiceAccount with RBAC, or a kubelet. Where no kubelet and no controllers run, Services, slices and nodes
are written by hand through `admin` (see `rest`).
"""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from collections.abc import Iterable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import yaml

from tools.lab import parts
from tools.lab.fabric import SERVICE_CIDRS, Host
from tools.lab.manifests import Object
from tools.lab.process import Process
from tools.lab.rest import Refused, Rest
from tools.lab.rules import run

PORT = 6443
ETCD = "http://127.0.0.1:2379"


class ApiServer:
    """Started with `start`; `stop` and `start` again is a restart on the same data and port."""

    def __init__(self, host: Host, folder: Path, kubelets: Iterable[str] = ()) -> None:
        """`kubelets`: names of nodes that real kubelets run on; then Pods get their ServiceAccounts, too."""
        self.host, self.folder = host, folder
        self._kubelets = {name: secrets.token_hex(16) for name in kubelets}
        self._certificate = folder / "certs" / "apiserver.crt"
        self._admin_token = secrets.token_hex(16)
        self.admin = Rest(host.space, host.v4, PORT, self._certificate, self._admin_token)
        self.etcd: Process | None = None
        self.process: Process | None = None
        self._programs = {name: parts.find(name) for name in ("kube-apiserver", "kubectl")}
        self._programs["etcd"] = parts.installed("etcd")
        self._programs["openssl"] = parts.installed("openssl")

    @property
    def url(self) -> str:
        """As nodes and the control plane reach it."""
        return f"https://{self.host.v4}:{PORT}"

    def start(self, timeout: float = 90.0) -> None:
        """Returns when /readyz says ok (about 8 s the first time)."""
        if self.etcd is None:
            self._prepare()
            self.etcd = self._start_etcd()
        self.process = Process("kube-apiserver", self._command(), self.folder / "kube-apiserver.log", self.host.space)
        self.process.wait_until(self._ready, timeout, "ready at /readyz")
        self._write_kubeconfig(self.folder / "admin.kubeconfig", self._admin_token)

    def _prepare(self) -> None:
        (self.folder / "certs").mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [self._programs["openssl"], "genrsa", "-out", self.accounts_key, "2048"], check=True, capture_output=True
        )
        lines = [f'{self._admin_token},admin,admin,"system:masters"']
        lines += [f'{token},system:node:{name},{name},"system:nodes"' for name, token in self._kubelets.items()]
        tokens = self.folder / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text("\n".join(lines) + "\n")

    def _start_etcd(self) -> Process:
        command: list[str | Path] = [
            self._programs["etcd"], f"--data-dir={self.folder / 'etcd'}", "--unsafe-no-fsync",
            f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}",
            "--listen-peer-urls=http://127.0.0.1:2380", "--logger=zap",
        ]  # fmt: skip
        etcd = Process("etcd", command, self.folder / "etcd.log", self.host.space, {"ETCD_UNSUPPORTED_ARCH": "arm64"})
        etcd.wait_until(lambda: self.ask_etcd("kv/range", {"key": "AA=="}), 30, "answering")
        return etcd

    def _command(self) -> list[str | Path]:
        return [
            self._programs["kube-apiserver"],
            f"--etcd-servers={ETCD}",
            f"--secure-port={PORT}",
            f"--advertise-address={self.host.v4}",
            f"--cert-dir={self.folder / 'certs'}",
            f"--service-cluster-ip-range={','.join(SERVICE_CIDRS)}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.accounts_key}",
            f"--service-account-signing-key-file={self.accounts_key}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--allow-privileged=true",  # as installers have it
            *self._admission(),
            "--max-requests-inflight=2000",
            "--max-mutating-requests-inflight=2000",
            "--enable-priority-and-fairness=false",
        ]

    def _admission(self) -> list[str]:
        if not self._kubelets:
            return ["--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"]
        return [
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--kubelet-preferred-address-types=InternalIP",
        ]

    def _ready(self) -> bool:
        if not self._certificate.exists():
            return False
        try:
            return bool(self.admin.call("GET", "/readyz") == "ok")
        except Refused:
            return False

    def stop(self, grace: float = 2.0) -> None:
        """Stops kube-apiserver and leaves etcd: every watch breaks, and resumes with 410 after `start`.

        It waits long for its watchers to go, so it is killed after `grace` seconds.
        """
        self.admin.close()
        if self.process:
            self.process.stop(grace)

    def restart(self) -> None:
        """What a new version or a crash does to its clients."""
        self.stop()
        self.start()

    def compact(self) -> int:
        """Makes etcd forget all old revisions; returns the one that is left."""
        revision = int(self.ask_etcd("kv/range", {"key": "AA=="})["header"]["revision"])
        self.ask_etcd("kv/compaction", {"revision": str(revision), "physical": True})
        return revision

    def ask_etcd(self, call: str, body: dict[str, Any]) -> dict[str, Any]:
        """etcd's answer to this call of its JSON gateway; keys and values are base64."""
        with closing(HTTPConnection("127.0.0.1", 2379, timeout=10)) as connection:
            with self.host.space.entered():
                connection.connect()
            connection.request("POST", f"/v3/{call}", json.dumps(body))
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True, timeout: float = 120) -> str:
        """The output of kubectl as administrator. Raises RuntimeError with its complaint."""
        config = f"--kubeconfig={self.folder / 'admin.kubeconfig'}"
        command = (str(self._programs["kubectl"]), config, *arguments)
        return run(self.host.space, *command, stdin=stdin, check=check, timeout=timeout)

    def kubeconfig(self, account: str, namespace: str) -> Path:
        """A file with which a program is this ServiceAccount, with a fresh token."""
        path = self.folder / f"{namespace}-{account}.kubeconfig"
        return self._write_kubeconfig(path, self.admin.create_token(account, namespace))

    def node_kubeconfig(self, name: str) -> Path:
        """A file with which the kubelet is the node of this name, one of `kubelets`."""
        return self._write_kubeconfig(self.folder / f"{name}.kubeconfig", self._kubelets[name])

    @property
    def certificate(self) -> Path:
        """Its own, with the CA that signed it."""
        return self._certificate

    @property
    def accounts_key(self) -> Path:
        """What tokens of ServiceAccounts are signed with."""
        return self.folder / "accounts.key"

    @property
    def admin_kubeconfig(self) -> Path:
        """Almighty: for kube-proxy as reference and for kubectl, not for the program under test."""
        return self.folder / "admin.kubeconfig"

    def _write_kubeconfig(self, path: Path, token: str) -> Path:
        authority = base64.b64encode(self._certificate.read_bytes()).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {"server": self.url, "certificate-authority-data": authority}}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "user"}}],
            "current-context": "lab",
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    def kustomize(self, folder: Path) -> list[Object]:
        """The objects `kubectl kustomize` makes of this folder."""
        return [thing for thing in yaml.safe_load_all(self.kubectl("kustomize", str(folder))) if thing]

    def grant(self, objects: Iterable[Object]) -> None:
        """Applies those of the objects that say who may do what: namespaces, accounts, roles and bindings."""
        order = ["Namespace", "ServiceAccount", "ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding"]
        chosen = [thing for thing in objects if thing["kind"] in order]
        for thing in sorted(chosen, key=lambda thing: order.index(thing["kind"])):
            self.admin.apply(thing)

    def close(self) -> None:
        """Ends both."""
        self.stop()
        if self.etcd:
            self.etcd.stop()
        self.admin.close()
