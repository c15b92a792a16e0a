"""An API server in a thread that lists by watch, holds a list back, and sends events when the test says so."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.faults.world import Replica, World
from tests.unit.controlplane.source.apiserver import added, bookmark, deleted, modified
from tests.unit.controlplane.source.following import kubeconfig

Object = dict[str, Any]
VIP = "10.96.0.1"
GROUPED = ("services", "endpointslices", "nodes", "servicecidrs")


class Api:
    """`held`: resources whose list waits until `release`. `slow`: seconds by which whatever it says comes late.

    `lasts`: seconds until it ends a watch. Versions before `oldest` are forgotten: a watch from there gets 410.
    """

    def __init__(self, folder: Path) -> None:
        self.version, self.oldest = 10, 0
        self.slow, self.lasts = 0.0, float("inf")
        self.items: dict[str, list[Object]] = defaultdict(list)
        self.held: set[str] = set()
        self.asked: Counter[str] = (
            Counter()
        )  # requests by resource, "watch", "list" or "version" (of one object) before it
        self._past: list[tuple[int, str, Object]] = []
        self._news = threading.Condition()
        self._watches: list[tuple[str, queue.SimpleQueue[Object | None]]] = []
        self._serve(0)
        folder.mkdir()
        self.kubeconfig = kubeconfig(folder, f"http://127.0.0.1:{self._server.server_address[1]}")

    def _serve(self, port: int) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (Handler,), {"api": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def put(self, resource: str, thing: Object) -> None:
        """A new or changed object."""
        with self._news:
            self.version += 1
            thing = {**thing, "metadata": {**thing["metadata"], "resourceVersion": str(self.version)}}
            known = [one for one in self.items[resource] if one["metadata"]["name"] != thing["metadata"]["name"]]
            event = modified(thing) if len(known) < len(self.items[resource]) else added(thing)
            self.items[resource] = [*known, thing]
            self._tell(resource, event)

    def remove(self, resource: str, name: str) -> None:
        """The object is deleted."""
        with self._news:
            self.version += 1
            (gone,) = [one for one in self.items[resource] if one["metadata"]["name"] == name]
            self.items[resource] = [one for one in self.items[resource] if one is not gone]
            event = deleted({**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}})
            self._tell(resource, event)

    def _tell(self, resource: str, event: Object) -> None:
        self._past.append((self.version, resource, event))
        for _, events in [one for one in self._watches if one[0] == resource]:
            events.put(event)

    def forget(self) -> None:
        """As etcd does when it compacts: what was before is asked for in vain, and all watches end."""
        with self._news:
            self.oldest = self.version
        self.end_watches()

    def end_watches(self) -> None:
        with self._news:
            for _, events in self._watches:
                events.put(None)

    def release(self) -> None:
        with self._news:
            self.held.clear()
            self._news.notify_all()

    @contextmanager
    def down(self) -> Iterator[None]:
        """Nobody listens meanwhile, and no connection is left."""
        port = self._server.server_address[1]
        self._stop()
        yield
        self._serve(int(port))

    def watch(self, resource: str, since: int | None) -> Iterator[Object]:
        """Events after this version as they come; None: all objects first."""
        events: queue.SimpleQueue[Object | None] = queue.SimpleQueue()
        with self._news:
            self._news.wait_for(lambda: resource not in self.held)
            mine = (resource, events)
            self._watches.append(mine)
            if since is None:
                first = [*map(added, self.items[resource]), bookmark(str(self.version), end=True)]
            else:
                first = [event for at, of, event in self._past if of == resource and at > since]
        yield from first
        end = time.monotonic() + self.lasts
        with suppress(queue.Empty):
            while (event := events.get(timeout=min(max(0.0, end - time.monotonic()), 1e6))) is not None:
                time.sleep(self.slow)
                yield event
        with self._news:
            self._watches.remove(mine)

    def _stop(self) -> None:
        self.end_watches()
        self._server.shutdown()
        self._server.server_close()

    def close(self) -> None:
        self.release()
        self._stop()


class Handler(BaseHTTPRequestHandler):
    """Answers from `api`."""

    api: Api

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        resource, query = url.path.rpartition("/")[2], parse_qs(url.query)
        how = "watch" if "watch" in query else "version" if query.get("limit") == ["1"] else "list"
        self.api.asked[f"{how} {resource}"] += 1
        time.sleep(self.api.slow)
        since = None if "sendInitialEvents" in query else int(query.get("resourceVersion", ["0"])[0])
        if resource not in GROUPED:
            self._answer(404, {"kind": "Status", "code": 404})
        elif "watch" in query and since is not None and since < self.api.oldest:
            self._answer(410, {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
        elif "watch" in query:
            self._events(self.api.watch(resource, since))
        else:
            self._answer(
                200, {"metadata": {"resourceVersion": str(self.api.version)}, "items": self.api.items[resource]}
            )

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(201, {})

    def _answer(self, code: int, body: Object) -> None:
        data = json.dumps(body).encode()
        self._head(code, {"Content-Length": str(len(data))})
        self.wfile.write(data)

    def _head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _events(self, events: Iterator[Object]) -> None:
        self._head(200, {})
        with suppress(OSError):
            for event in events:
                self.wfile.write(json.dumps(event).encode() + b"\n")

    def log_message(self, *args: object) -> None:
        """Nothing is logged."""


@contextmanager
def api(folder: Path) -> Iterator[Api]:
    made = Api(folder)
    try:
        yield made
    finally:
        made.close()


def following(world: World, of: Api) -> Replica:
    """A replica of this API server, not started."""
    made = world.replica(start=False)
    source = ("--source=kubernetes", f"--kubeconfig={of.kubeconfig}")
    made.words = ["controlplane", *source, f"--listen={made.address}", "--insecure"]
    return made


def service(number: int, vip: str) -> Object:
    spec = {"clusterIP": vip, "clusterIPs": [vip], "ports": [{"port": 80, "protocol": "UDP"}]}
    return {"kind": "Service", "metadata": {"name": f"s{number}", "namespace": "default"}, "spec": spec}


def endpoint_slice(number: int, endpoints: list[str]) -> Object:
    labels = {"kubernetes.io/service-name": f"s{number}"}
    return {
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {"name": f"s{number}-a", "namespace": "default", "labels": labels},
        "ports": [{"name": "", "port": 8080, "protocol": "UDP"}],
        "endpoints": [{"addresses": [one], "conditions": {"ready": True}} for one in endpoints],
    }
