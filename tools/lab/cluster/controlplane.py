"""The cluster's own programs on the API server's host: API server, controller manager, scheduler and CoreDNS.

Called by `cluster`. CoreDNS is reached through the Service `kube-system/kube-dns`, so that the proxy under test carries
names too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from tools.lab import manifests, parts
from tools.lab.apiserver import ApiServer
from tools.lab.fabric import Host
from tools.lab.process import Process, ProcessFailed
from tools.lab.rest import Refused

DNS_ADDRESS = "172.30.0.10"
DNS_DOMAIN = "cluster.local"
_COREFILE = """\
.:53 {{
  errors
  kubernetes {domain} in-addr.arpa ip6.arpa {{
    kubeconfig {kubeconfig} lab
    pods insecure
    fallthrough in-addr.arpa ip6.arpa
  }}
  cache 5
}}
"""


class ControlPlane:
    """Started with `start`; `api` is the API server. `without`: what kube-controller-manager is not to run."""

    def __init__(self, host: Host, folder: Path, nodes: Sequence[str], without: Sequence[str] = ()) -> None:
        self.host, self.folder = host, folder
        self._controllers = ",".join(("*", *(f"-{name}" for name in without)))
        self.api = ApiServer(host, folder, nodes)
        self.processes: list[Process] = []

    def start(self) -> None:
        """Returns when the API server answers and Pods can be made, which need the account that a controller makes."""
        self.api.start()
        manager, chosen = "kube-controller-manager", f"--controllers={self._controllers}"
        self._begin(manager, *self._shared(manager), *self._keys(), chosen)
        self._begin("kube-scheduler", *self._shared("kube-scheduler"))
        self._start_dns()
        self._wait_account()

    def _begin(self, name: str, *flags: str) -> None:
        command: list[str | Path] = [parts.find(name), *flags]
        self.processes.append(Process(name, command, self.folder / f"{name}.log", self.host.space))

    def _shared(self, name: str) -> list[str]:
        config = self.api.admin_kubeconfig
        return [
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            "--leader-elect=false",
            f"--cert-dir={self.folder / name}",
        ]

    def _keys(self) -> list[str]:
        return [
            f"--root-ca-file={self.api.certificate}",
            f"--service-account-private-key-file={self.api.accounts_key}",
            "--use-service-account-credentials=true",
        ]

    def _start_dns(self) -> None:
        corefile = self.folder / "Corefile"
        corefile.write_text(_COREFILE.format(domain=DNS_DOMAIN, kubeconfig=self.api.admin_kubeconfig))
        self._begin("coredns", "-conf", str(corefile))
        for thing in dns_objects(self.host):
            self.api.admin.apply(thing)

    def _wait_account(self, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(Refused):
                self.api.admin.get("ServiceAccount", "default")
                return
            if time.monotonic() > deadline:
                raise ProcessFailed(f"no account for Pods within {timeout:g} s:\n{self.processes[0].tail()}")
            time.sleep(0.1)

    def close(self) -> None:
        """Ends all of them."""
        for process in reversed(self.processes):
            process.stop()
        self.api.close()


def dns_objects(host: Host) -> list[manifests.Object]:
    """The Service of DNS and where it leads: CoreDNS runs on the API server's host and is no Pod."""
    protocols = [("dns", "UDP"), ("dns-tcp", "TCP")]
    ports = [manifests.port(53, name=name, protocol=protocol) for name, protocol in protocols]
    ends = [manifests.slice_port(53, name, protocol) for name, protocol in protocols]
    return [
        manifests.service("kube-dns", ports, [DNS_ADDRESS], namespace="kube-system"),
        manifests.endpoint_slice("kube-dns", [manifests.endpoint(host.v4)], ends, namespace="kube-system"),
    ]
