"""What is not imported at the start of the programs, since it is of use only later or elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

NEVER = {"kubernetes.client", "kubernetes.dynamic", "kubernetes.aio.client.api", "requests", "urllib3", "oauthlib"}
CONTROL_PLANE = NEVER | {"opentelemetry", "nodeagent", "pyroute2", "unittest", "multiprocessing"}
NO_API = CONTROL_PLANE | {"kubernetes", "aiohttp", "pydantic"}
AGENT = NEVER | {
    "aiohttp", "controlplane", "kubernetes", "opentelemetry", "pydantic", "pyroute2", "unittest", "multiprocessing",
    "yaml", "grpc_reflection.v1alpha", "nodeagent.dataplane.iptables.dataplane", "nodeagent.dataplane.ipvs.dataplane",
    "nodeagent.dataplane.nftables.dataplane", "nodeagent.dataplane.userspace.dataplane",
}  # fmt: skip
CONNECTED = """
import asyncio
from controlplane import main
from controlplane.prepared import import_aiohttp
import_aiohttp()
from controlplane.identity import reviews
from controlplane.source import kubernetes
from controlplane.source.api import connect
async def connected():
    await (await connect({config!r})).close()
asyncio.run(connected())
"""
CONFIG = """
clusters: [{name: k, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: c, context: {cluster: k, user: u}}]
current-context: c
"""


def said(program: str) -> list[str]:
    """The lines that a program prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def loaded(program: str, modules: set[str]) -> set[str]:
    """Those of the modules that are there after it."""
    return modules & set(said(f"{program}\nimport sys\nprint(*sys.modules, sep=chr(10))"))


@pytest.mark.parametrize(
    ("program", "absent"),
    [("import controlplane.main, controlplane.source.manifests", NO_API), ("import nodeagent.main", AGENT)],
    ids=["controlplane", "agent"],
)
def test_a_start_imports_nothing_that_is_not_used_at_it(program: str, absent: set[str]) -> None:
    assert loaded(program, absent) == set()


def test_a_connection_to_the_api_server_imports_no_model_and_no_telemetry(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(CONFIG)

    assert loaded(CONNECTED.format(config=str(config)), CONTROL_PLANE) == set()


def test_aiohttp_reads_no_authorities_that_no_connection_uses_and_the_environment_stays() -> None:
    program = """
import os
os.environ["SSL_CERT_FILE"] = "/as/it/was"
before = dict(os.environ)
from controlplane.prepared import import_aiohttp
import_aiohttp()
import aiohttp.connector
print(aiohttp.connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509"], before == dict(os.environ))
"""
    assert said(program) == ["0 True"]
