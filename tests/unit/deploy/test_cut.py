"""What the image keeps of the package `kubernetes`: the modules that are imported, and they are enough."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.unit.deploy.manifests import REPOSITORY

USED = """
import asyncio, sys
from controlplane.source.api import connect
async def main():
    api = await connect(sys.argv[1])
    await api.close()
asyncio.run(main())
print([name for name in sys.modules if name.startswith("kubernetes.client") or ".models." in name])
"""


def test_what_stays_of_the_package_is_enough_for_a_connection_and_is_small(tmp_path: Path) -> None:
    spec = find_spec("kubernetes")
    assert spec is not None
    assert spec.origin is not None
    copy = tmp_path / "kubernetes"
    shutil.copytree(Path(spec.origin).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}", "PYTHONDONTWRITEBYTECODE": "1"}
    script = str(REPOSITORY / "deploy" / "image" / "cut.py")
    subprocess.run([sys.executable, script], env=environment, check=True)

    assert sum(path.stat().st_size for path in copy.rglob("*") if path.is_file()) < 1_000_000
    config = tmp_path / "config"
    config.write_text("""
clusters: [{name: k, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: c, context: {cluster: k, user: u}}]
current-context: c
""")
    command = [sys.executable, "-c", USED, str(config)]
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert said.stdout.strip() == "[]"
