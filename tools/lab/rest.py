"""Kubernetes objects written over plain HTTPS, from this process, to an API server that only exists inside a namespace.

Called by tests and benchmark, which play the user and the controllers. Knows paths and verbs, no typed clients.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tools.lab.manifests import Object
from tools.lab.netns import Namespace

CLUSTER_SCOPED = frozenset({"Node", "Namespace", "ClusterRole", "ClusterRoleBinding", "ServiceCIDR", "IPAddress"})
JSON, APPLY, MERGE = "application/json", "application/apply-patch+yaml", "application/merge-patch+json"


class Refused(RuntimeError):
    """The API server said no: `status` is the HTTP status, `reason` its word for it."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason = status, reason


class _Connection(http.client.HTTPSConnection):
    """Connects from inside the namespace; the certificate is checked against the address."""

    def __init__(self, space: Namespace, address: str, port: int, context: ssl.SSLContext) -> None:
        super().__init__(address, port, timeout=30, context=context)
        self._space, self._tls = space, context

    def connect(self) -> None:
        plain = self._space.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            plain.settimeout(30)
            plain.connect((self.host, self.port))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)
        except OSError:
            plain.close()
            raise


class Rest:
    """One identity (token) at one API server. Calls are safe from any thread, one at a time."""

    def __init__(self, space: Namespace, address: str, port: int, ca: Path, token: str) -> None:
        self._where = (space, address, port)
        self._ca, self._token = ca, token
        self._lock = threading.Lock()
        self._connection: _Connection | None = None

    def another(self) -> Rest:
        """The same identity with a connection of its own."""
        return Rest(*self._where, self._ca, self._token)

    def call(self, method: str, path: str, body: object = None, content_type: str = JSON, **query: object) -> Any:
        """The decoded answer. Raises `Refused`, or OSError where the server cannot be reached."""
        target = path + (f"?{urlencode(query)}" if query else "")
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content_type, "Accept": JSON}
        payload = None if body is None else json.dumps(body)
        with self._lock:
            status, answer = self._exchange(method, target, payload, headers)
        try:
            decoded = json.loads(answer)
        except ValueError:
            decoded = answer.decode(errors="replace")
        if status >= 400:
            said = decoded if isinstance(decoded, dict) else {}
            raise Refused(status, said.get("reason", ""), said.get("message", str(decoded)))
        return decoded

    def _exchange(self, method: str, target: str, payload: str | None, headers: dict[str, str]) -> tuple[int, bytes]:
        fresh = self._connection is None
        try:
            return self._once(method, target, payload, headers)
        except (OSError, http.client.HTTPException) as failure:
            self.close()
            if fresh:
                raise OSError(f"{method} {target}: {failure}") from failure
        # A kept connection may have been closed by a restart of the server: once more on a new one.
        return self._exchange(method, target, payload, headers)

    def _once(self, method: str, target: str, payload: str | None, headers: dict[str, str]) -> tuple[int, bytes]:
        if self._connection is None:
            context = ssl.create_default_context(cafile=str(self._ca))
            self._connection = _Connection(*self._where, context)
        self._connection.request(method, target, payload, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        """Closes the kept connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, kind: str, name: str, namespace: str = "default", api: str = "v1") -> Object:
        """The object as the server has it."""
        found: Object = self.call("GET", path_to(api, kind, namespace, name))
        return found

    def create(self, thing: Object) -> Object:
        """POST; 409 where it exists."""
        made: Object = self.call("POST", path_of(thing, named=False), thing)
        return made

    def replace(self, thing: Object) -> Object:
        """PUT the whole object (with its resourceVersion: only if unchanged)."""
        put: Object = self.call("PUT", path_of(thing), thing)
        return put

    def apply(self, thing: Object, sub: str = "") -> Object:
        """Server-side apply: made or changed to say this. `sub`: a subresource such as "status"."""
        path = path_of(thing) + (f"/{sub}" if sub else "")
        applied: Object = self.call("PATCH", path, thing, APPLY, fieldManager="lab", force="true")
        return applied

    def apply_node(self, node: Object) -> None:
        """A Node with its status, which has a door of its own."""
        self.apply({key: value for key, value in node.items() if key != "status"})
        # Its addresses cannot be applied: two of one type are duplicate keys to server-side apply.
        self.patch("Node", node["metadata"]["name"], {"status": node["status"]}, sub="status")

    def patch(
        self, kind: str, name: str, change: Object, *, namespace: str = "default", api: str = "v1", sub: str = ""
    ) -> Object:
        """A merge patch; None in it removes a field."""
        path = path_to(api, kind, namespace, name) + (f"/{sub}" if sub else "")
        patched: Object = self.call("PATCH", path, change, MERGE)
        return patched

    def delete(self, thing: Object, *, missing_ok: bool = True) -> None:
        """DELETE of the object with this kind, namespace and name."""
        try:
            self.call("DELETE", path_of(thing))
        except Refused as refusal:
            if not (missing_ok and refusal.status == 404):
                raise

    def create_token(
        self, account: str, namespace: str, seconds: int = 86400, *, audience: str = "", pod: Object | None = None
    ) -> str:
        """A token of this ServiceAccount, as a pod of it would get (TokenRequest). `pod`: the one it is bound to."""
        wanted: dict[str, object] = {"expirationSeconds": seconds}
        if audience:
            wanted["audiences"] = [audience]
        if pod is not None:
            names = {key: pod["metadata"][key] for key in ("name", "uid")}
            wanted["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", **names}
        path = f"{path_to('v1', 'ServiceAccount', namespace, account)}/token"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        answer = self.call("POST", path, request | {"spec": wanted})
        return str(answer["status"]["token"])


def path_to(api: str, kind: str, namespace: str = "", name: str = "") -> str:
    """The URL path of a collection or object; `kind` as in manifests."""
    root = "/api/v1" if api == "v1" else f"/apis/{api}"
    scope = "" if kind in CLUSTER_SCOPED or not namespace else f"/namespaces/{namespace}"
    return f"{root}{scope}/{kind.lower()}s" + (f"/{name}" if name else "")


def path_of(thing: Object, *, named: bool = True) -> str:
    """The URL path of this object, or of the collection it belongs to."""
    metadata = thing["metadata"]
    namespace = metadata.get("namespace", "default")
    return path_to(thing["apiVersion"], thing["kind"], namespace, metadata["name"] if named else "")
