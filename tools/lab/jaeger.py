"""A real Jaeger: takes OTLP on port 4317 of a host of the fabric and answers queries. Called by end-to-end tests."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tools.lab import parts
from tools.lab.fabric import Host
from tools.lab.process import Process
from tools.lab.relay import Relay


class Jaeger:
    """Started by its making, with everything in memory; ended with `close`."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.otlp = f"{host.v4}:4317"
        command: list[str | Path] = [
            parts.find("jaeger"),
            "--collector.otlp.grpc.host-port=0.0.0.0:4317",
            "--query.http-server.host-port=0.0.0.0:16686",
        ]
        self.process = Process("jaeger", command, folder / "jaeger.log", host.space)
        self._relay = Relay(host.space, host.v4, 16686)
        self.process.wait_until(self.services_known, 30, "answering queries")

    def services_known(self) -> bool:
        """Whether the query API answers."""
        return "data" in self.query("services")

    def query(self, what: str, **arguments: object) -> Any:
        """GET /api/<what>, decoded. OSError where it does not answer."""
        url = f"http://{self._relay.target}/api/{what}" + (f"?{urlencode(arguments)}" if arguments else "")
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)

    def services(self) -> list[str]:
        """Names of the services that have sent spans."""
        return list(self.query("services")["data"] or [])

    def traces(self, service: str, limit: int = 100) -> list[Any]:
        """The newest traces of a service, as the query API gives them."""
        return list(self.query("traces", service=service, limit=limit)["data"] or [])

    def close(self) -> None:
        """Ends it: it holds nothing but memory, and takes ten seconds to end politely."""
        self._relay.close()
        self.process.kill()
