"""The person's cluster, by a kubeconfig: a replica's Pod, the CA that agents believe, and a token.

The Kubernetes client is imported when it is needed: it costs a second. What it raises becomes `Failed` here.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from deltaplane.v1 import objects_pb2
from operatorcli.connect import target, token
from operatorcli.connect.forward import Far
from operatorcli.connect.target import Flags
from operatorcli.exits import Exit, Failed

LABEL = "app.kubernetes.io/name=deltaplane-controlplane"
PORT_NAME = "grpc"
AUTHORITIES, AUTHORITIES_KEY = "deltaplane-ca", "ca.crt"
TOKEN_SECONDS = 600  # the least that an API server gives


class Replica(Struct, frozen=True):
    """A Pod of the control plane. `address`: what its certificate is for."""

    pod: str
    address: str
    port: int


class Workload(Struct, frozen=True):
    """`words`: the command line; `mounts`: sources of ConfigMaps (core/v1 ConfigMapVolumeSource) by folder."""

    words: list[str]
    mounts: dict[str, Any]
    namespace: str


class Cluster:
    """Asks nothing before it is asked. `origin`: where its address and credentials come from, for error texts."""

    def __init__(self, flags: Flags) -> None:
        try:
            from kubernetes import client, config
        except ImportError as error:  # the image keeps what the two programs use of it
            raise Failed(
                Exit.UNREACHED, "this installation has no Kubernetes client, as in Deltaplane's image",
                "Name a replica by --server=HOST:PORT, or this node's agent by --server=unix:///PATH.",
            ) from error  # fmt: skip
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # what it tries again is no news for a person
        self._flags = flags
        self.origin = _file(flags) or "~/.kube/config"
        try:
            self._client = _client(config, flags)
        except Exception as error:
            raise Failed(
                Exit.UNREACHED, f"the kubeconfig {self.origin} cannot be used: {_one_line(error)}",
                "Name one by --kubeconfig=FILE and its context by --context=NAME. None is needed with "
                "--server=HOST:PORT and --token-file, or --tls-cert-file and --tls-private-key-file.",
            ) from error  # fmt: skip
        self._api = client.CoreV1Api(self._client)

    def replica(self) -> Replica:
        """A ready replica's Pod; the one of --replica, if that is given."""
        space = self._flags.system_namespace
        with self._asking(f"list pods in namespace {space}", "list pods"):
            pods = self._api.list_namespaced_pod(
                space, label_selector=LABEL, _request_timeout=self._flags.request_timeout
            ).items
        found = [_replica(pod) for pod in sorted(pods, key=lambda pod: pod.metadata.name) if _ready(pod)]
        chosen = [each for each in found if self._flags.replica in {"", each.pod}]
        if not chosen:
            raise self._none(pods, found)
        return chosen[0]

    def _none(self, pods: list[Any], found: list[Replica]) -> Failed:
        space = self._flags.system_namespace
        if self._flags.replica and found:
            names = ", ".join(each.pod for each in found)
            return Failed(
                Exit.NO, f"no ready replica is named {self._flags.replica}", f"Those that are ready: {names}."
            )
        if pods:
            names = ", ".join(pod.metadata.name for pod in pods)
            return Failed(
                Exit.UNREACHED, f"no replica in namespace {space} is ready: {names}",
                f"See why: kubectl -n {space} describe pod {pods[0].metadata.name}",
            )  # fmt: skip
        return Failed(
            Exit.UNREACHED, f"no Pod in namespace {space} has the label {LABEL}",
            "Name the control plane's namespace by --system-namespace=NAME, the cluster by --context=NAME.",
        )  # fmt: skip

    def authorities(self) -> str:
        """The CAs that agents believe, PEM."""
        space = self._flags.system_namespace
        with self._asking(f"get configmap {AUTHORITIES} in namespace {space}", f"get configmaps {AUTHORITIES}"):
            found = self._api.read_namespaced_config_map(
                AUTHORITIES, space, _request_timeout=self._flags.request_timeout
            )
        text = (found.data or {}).get(AUTHORITIES_KEY, "")
        if not text:
            raise Failed(
                Exit.UNREACHED, f"the ConfigMap {space}/{AUTHORITIES} has no {AUTHORITIES_KEY}",
                "Name the CA of the replicas by --ca-file=FILE.",
            )  # fmt: skip
        return str(text)

    def token(self) -> str:
        """The person's own, if it is for the audience; else one of the ServiceAccount that --account names."""
        own = str(self._client.configuration.get_api_key_with_prefix("BearerToken", alias="authorization") or "")
        own = own.removeprefix("Bearer ")
        if token.fits(own, self._flags.audience, time.time()):
            return own
        return self._requested()

    def _requested(self) -> str:
        """TokenRequest (authentication.k8s.io/v1)."""
        namespace, name = target.account(self._flags.account)
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        wanted = {"spec": {"audiences": [self._flags.audience], "expirationSeconds": TOKEN_SECONDS}}
        what = f"create a token for the ServiceAccount {namespace}/{name}"
        with self._asking(what, f"create serviceaccounts/token {name}"):
            made = self._api.create_namespaced_service_account_token(
                name, namespace, {**body, **wanted}, _request_timeout=self._flags.request_timeout
            )
        return str(made.status.token)

    def version(self, of: objects_pb2.ObjectKey) -> str:
        """The resourceVersion of a Service or Node now; empty: there is none, it may not be asked, or another kind."""
        from kubernetes.client import ApiException

        with self._asking(f"get {of.name}", "get services, nodes"), suppress(ApiException):
            if of.kind == objects_pb2.KIND_SERVICE:
                found = self._api.read_namespaced_service(
                    of.name, of.namespace, _request_timeout=self._flags.request_timeout
                )
            elif of.kind == objects_pb2.KIND_NODE:
                found = self._api.read_node(of.name, _request_timeout=self._flags.request_timeout)
            else:
                return ""
            return str(found.metadata.resource_version)
        return ""

    def pod_addresses(self, namespace: str, name: str) -> list[str]:
        """Of a pod that is there still: one for each family that it has."""
        with self._asking(f"get pod {namespace}/{name}", f"get pods in namespace {namespace}"):
            pod = self._api.read_namespaced_pod(name, namespace, _request_timeout=self._flags.request_timeout)
        if not pod.status.pod_ip:
            raise Failed(Exit.NO, f"pod {namespace}/{name} has no address yet", "Ask again when it has one.")
        return [str(each.ip) for each in pod.status.pod_ips or ()] or [str(pod.status.pod_ip)]

    def workload(self, namespace: str, name: str) -> Workload:
        """A DaemonSet's first container, and the files that ConfigMaps give it."""
        from kubernetes.client import AppsV1Api

        what = f"get the DaemonSet {namespace}/{name}"
        with self._asking(what, "get daemonsets.apps and configmaps", namespace):
            found = AppsV1Api(self._client).read_namespaced_daemon_set(
                name, namespace, _request_timeout=self._flags.request_timeout
            )
        spec = found.spec.template.spec
        container = spec.containers[0]
        sources = {each.name: each.config_map for each in spec.volumes or [] if each.config_map}
        mounts = {each.mount_path: sources[each.name] for each in container.volume_mounts or [] if each.name in sources}
        return Workload([*(container.command or ()), *(container.args or ())], mounts, namespace)

    def file_of(self, workload: Workload, path: str) -> tuple[str, str] | None:
        """The text at a path of the workload's container, and which ConfigMap and key it is; None: no ConfigMap's."""
        for mounted, source in workload.mounts.items():
            if (rest := path.removeprefix(mounted.rstrip("/") + "/")) != path:
                keys = {item.path: item.key for item in source.items or []}
                key = keys.get(rest, rest)
                found = self.config_map(workload.namespace, source.name).get(key)
                return None if found is None else (found, f"ConfigMap {workload.namespace}/{source.name}, {key}")
        return None

    def config_map(self, namespace: str, name: str, *, optional: bool = False) -> dict[str, str]:
        """Its data. `optional`: nothing where it is not there, or may not be read."""
        try:
            with self._asking(f"get the ConfigMap {namespace}/{name}", "get configmaps", namespace):
                found = self._api.read_namespaced_config_map(
                    name, namespace, _request_timeout=self._flags.request_timeout
                )
        except Failed:
            if optional:
                return {}
            raise
        return dict(found.data or {})

    def dialling(self, replica: Replica) -> Callable[[], Far]:
        """What opens a connection to the replica's port. Raises what the client raises: see `forwarding_failed`."""
        from operatorcli.connect.portforward import Connection

        method = self._api.connect_get_namespaced_pod_portforward
        return partial(Connection, method, replica.pod, self._flags.system_namespace, replica.port)

    def forwarding_failed(self, replica: Replica, error: Exception) -> Failed:
        """What a failure of `dialling` means."""
        space = self._flags.system_namespace
        return self._failed(error, f"forward a port to pod {space}/{replica.pod}", "get and create pods/portforward")

    @contextmanager
    def _asking(self, what: str, right: str, namespace: str = "") -> Iterator[None]:
        try:
            yield
        except Failed:
            raise
        except Exception as error:
            raise self._failed(error, what, right, namespace) from error

    def _failed(self, error: Exception, what: str, right: str, namespace: str = "") -> Failed:
        status = _status(error)
        server = self._client.configuration.host
        if status == 401:
            advice = f"Renew the credentials in {self.origin}; `kubectl auth whoami` says whether they work."
            return Failed(Exit.FORBIDDEN, f"the API server {server} does not accept the credentials (401)", advice)
        if status == 403 and namespace:
            return Failed(Exit.FORBIDDEN, f"you may not {what}", f"Let somebody grant you: {right} in {namespace}.")
        if status == 404 and namespace:
            advice = (
                "See `kubectl get daemonsets -A`; where kube-proxy is something else, ask on a node, or name a FILE."
            )
            return Failed(Exit.UNREACHED, f"cannot {what}: it is not there (404)", advice)
        if status == 403:
            advice = (
                f"Let somebody grant you: {right} in {self._flags.system_namespace}, as Role deltaplane-command has it."
            )
            return Failed(Exit.FORBIDDEN, f"you may not {what}", advice)
        if status == 404:
            advice = "Apply the manifests of this version, or name another: --account, --system-namespace, --ca-file."
            return Failed(Exit.UNREACHED, f"cannot {what}: it is not there (404)", advice)
        advice = f"See whether `kubectl get nodes` works with the kubeconfig {self.origin}."
        return Failed(Exit.UNREACHED, f"cannot {what} at {server}: {_one_line(error)}", advice)

    def close(self) -> None:
        self._client.close()


def _client(config: Any, flags: Flags) -> Any:
    if not _file(flags) and _inside():
        from kubernetes.client import ApiClient, Configuration

        configuration = Configuration()
        config.load_incluster_config(client_configuration=configuration)
        return ApiClient(configuration)
    return config.new_client_from_config(_file(flags), flags.context or None, persist_config=False)


def _file(flags: Flags) -> str | None:
    """The kubeconfig's path, or paths; none: the client's default."""
    return flags.kubeconfig or os.environ.get("KUBECONFIG") or None


def _inside() -> bool:
    """Whether this is a Pod, which has no kubeconfig."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and not Path("~/.kube/config").expanduser().exists()


def _status(error: Exception) -> int:
    """The HTTP status; of a websocket's refusal too, which the client knows as a text only."""
    status = int(getattr(error, "status", 0) or 0)
    for code in (401, 403, 404):
        if not status and f"Handshake status {code}" in str(error):
            return code
    return status


def _ready(pod: Any) -> bool:
    conditions = pod.status.conditions or []
    return not pod.metadata.deletion_timestamp and any(
        each.type == "Ready" and each.status == "True" for each in conditions
    )


def _replica(pod: Any) -> Replica:
    named = [port.container_port for each in pod.spec.containers for port in each.ports or [] if port.name == PORT_NAME]
    return Replica(pod.metadata.name, pod.status.pod_ip or "", (named or [target.PORT])[0])


def _one_line(error: Exception) -> str:
    """The reason without what is around it."""
    cause: Any = getattr(error, "reason", None) if isinstance(getattr(error, "reason", None), Exception) else error
    return " ".join(str(cause).split())[:300] or type(error).__name__


def namespace(flags: Flags) -> str:
    """The namespace that the kubeconfig's context names; "default" where there is none."""
    from kubernetes import config

    try:
        contexts, current = config.list_kube_config_contexts(_file(flags))
    except Exception:  # noqa: BLE001 - no usable kubeconfig: whoever connects through it says so
        return "default"
    chosen = next((each for each in contexts if each["name"] == flags.context), current)
    return str(chosen["context"].get("namespace") or "default")
