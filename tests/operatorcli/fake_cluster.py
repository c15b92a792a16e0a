"""As much of an API server as the command asks: pods, one ConfigMap, tokens, port-forwards to a port of this host."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import WSMsgType, web

BEARER = "a-persons-token"
POD_STATUS = {"podIP": "10.244.1.7", "podIPs": [{"ip": "10.244.1.7"}, {"ip": "fd00:10:244:1::7"}]}
DATA, ERROR = b"\x00", b"\x01"

COMMAND = ["/usr/local/bin/kube-proxy", "--config=/var/lib/kube-proxy/config.conf", "--hostname-override=$(NODE_NAME)"]
KUBE_PROXY = {
    "kind": "DaemonSet", "apiVersion": "apps/v1", "metadata": {"name": "kube-proxy"},
    "spec": {"selector": {}, "template": {"spec": {
        "containers": [{"name": "kube-proxy", "command": COMMAND, "volumeMounts": [
            {"name": "kube-proxy", "mountPath": "/var/lib/kube-proxy"}]}],
        "volumes": [{"name": "kube-proxy", "configMap": {"name": "kube-proxy"}}],
    }}},
}  # fmt: skip
"""As kubeadm makes it, as far as it matters."""


class Api:
    """`refused`: paths' ends that are answered with a status. `port`: where port-forwards lead.

    `closed`: what the kubelet says in place of a connection to the port.
    """

    def __init__(self, authorities: str, port: int) -> None:
        self.pods = [pod("deltaplane-controlplane-0", ready=False), pod("deltaplane-controlplane-1")]
        self.refused: dict[str, int] = {}
        self.closed = ""
        self.asked: list[str] = []
        self.tokens: list[dict[str, Any]] = []
        self.kube_proxy = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n"
        self.audience = ["deltaplane.dev/control-plane"]
        self._authorities, self._port = authorities, port
        self.url = ""

    def application(self) -> web.Application:
        space = "/api/v1/namespaces/deltaplane-system"
        made = web.Application(middlewares=[self._note])
        made.add_routes([
            web.get(f"{space}/pods", self._pods),
            web.get(f"{space}/configmaps/deltaplane-ca", self._config),
            web.post(f"{space}/serviceaccounts/deltaplane-inspector/token", self._token),
            web.get(f"{space}/pods/{{name}}/portforward", self._forward),
            web.get("/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy", self._kube_proxy),
            web.get("/api/v1/namespaces/kube-system/configmaps/kube-proxy", self._kube_proxys_files),
            web.get("/api/v1/namespaces/shop/services/web", self._service),
            web.get("/api/v1/namespaces/shop/pods/web-1", self._pod),
        ])  # fmt: skip
        return made

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if request.headers.get("authorization") != f"Bearer {BEARER}":
            return status(401)
        code = next((code for end, code in self.refused.items() if request.path.endswith(end)), 0)
        return status(code) if code else await handler(request)

    async def _pods(self, request: web.Request) -> web.Response:
        assert request.query["labelSelector"] == "app.kubernetes.io/name=deltaplane-controlplane"
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": self.pods})

    async def _config(self, _: web.Request) -> web.Response:
        return web.json_response({"kind": "ConfigMap", "apiVersion": "v1", "data": {"ca.crt": self._authorities}})

    async def _kube_proxy(self, _: web.Request) -> web.Response:
        return web.json_response(KUBE_PROXY)

    async def _kube_proxys_files(self, _: web.Request) -> web.Response:
        return web.json_response({"kind": "ConfigMap", "apiVersion": "v1", "data": {"config.conf": self.kube_proxy}})

    async def _token(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self.tokens.append(asked["spec"])
        answer = {"expirationTimestamp": "2100-01-01T00:00:00Z", "token": jwt(aud=asked["spec"]["audiences"])}
        return web.json_response({"kind": "TokenRequest", "spec": asked["spec"], "status": answer}, status=201)

    async def _service(self, _: web.Request) -> web.Response:
        return web.json_response({"kind": "Service", "apiVersion": "v1", "metadata": {"resourceVersion": "4711"}})

    async def _pod(self, _: web.Request) -> web.Response:
        return web.json_response({"kind": "Pod", "apiVersion": "v1", "status": POD_STATUS})

    async def _forward(self, request: web.Request) -> web.WebSocketResponse:
        asked = int(request.query["ports"])
        if self.closed:
            near = await channels(request, asked)
            await near.send_bytes(ERROR + self.closed.encode())
            return near
        return await forwarded(request, asked, "127.0.0.1", self._port)


async def forwarded(request: web.Request, asked: int, host: str, port: int) -> web.WebSocketResponse:
    near = await channels(request, asked)
    reader, writer = await asyncio.open_connection(host, port)
    back = asyncio.create_task(carried(reader, near))
    try:
        async for message in near:
            if message.type is WSMsgType.BINARY and message.data[:1] == DATA:
                writer.write(message.data[1:])
    finally:
        back.cancel()
        writer.close()
        await asyncio.gather(back, writer.wait_closed(), return_exceptions=True)
    return near


async def channels(request: web.Request, asked: int) -> web.WebSocketResponse:
    """The kubelet's side of v4.channel.k8s.io: each channel begins with the port that was asked for, in two bytes."""
    near = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
    await near.prepare(request)
    for channel in (DATA, ERROR):
        await near.send_bytes(channel + asked.to_bytes(2, "little"))
    return near


async def carried(reader: asyncio.StreamReader, near: web.WebSocketResponse) -> None:
    while data := await reader.read(65536):
        await near.send_bytes(DATA + data)
    await near.close()


def pod(name: str, *, ready: bool = True) -> dict[str, Any]:
    ports = [{"name": "grpc", "containerPort": 50051}, {"name": "health", "containerPort": 50052}]
    return {
        "metadata": {"name": name, "namespace": "deltaplane-system"},
        "spec": {"containers": [{"name": "controlplane", "image": "deltaplane", "ports": ports}]},
        "status": {"podIP": "192.0.2.77", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def jwt(**claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.c2ln"


def status(code: int) -> web.Response:
    return web.json_response({"kind": "Status", "status": "Failure", "code": code, "message": "no"}, status=code)


@contextmanager
def serving(api: Api, folder: Path) -> Iterator[Path]:
    """Serves it in a thread; gives a kubeconfig."""
    started, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        runner = web.AppRunner(api.application(), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        api.url = f"http://{host}:{port}"
        started.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert started.wait(20)
    try:
        yield kubeconfig(folder / "kubeconfig", api.url)
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(20)


def kubeconfig(path: Path, url: str, token: str = BEARER) -> Path:
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(document))
    return path
