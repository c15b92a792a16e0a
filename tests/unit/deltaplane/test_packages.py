"""What the agent loads before its first commit: nothing of what only a scrape needs, which its start would wait for."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from contextlib import suppress
from deltaplane import cli
with suppress(SystemExit):
    cli.main(["agent", "--help"])
import nodeagent.dataplane.modes.nftables
print(*sys.modules)
"""


def test_the_agent_loads_no_servers_that_it_does_not_use() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    loaded = set(said.splitlines()[-1].split())
    assert {"nodeagent.app", "prometheus_client.metrics"} <= loaded
    unwanted = {"prometheus_client.exposition", "http.server", "urllib.request", "wsgiref.simple_server", "email"}
    assert not loaded & {*unwanted, "opentelemetry", "kubernetes", "yaml", "cryptography", "aiohttp"}


def test_a_package_that_is_imported_already_stays() -> None:
    program = "import json; from deltaplane import packages; packages.enter('json'); json.dumps({})"
    subprocess.run([sys.executable, "-c", program], check=True)
