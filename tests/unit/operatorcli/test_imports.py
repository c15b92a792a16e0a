"""Neither program pays for what the operator's command needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

OURS = """{"typer", "rich", "kubernetes", "operatorcli"} & {name.partition(".")[0] for name in sys.modules}"""
RUN = f"""
import sys
from deltaplane.cli import main
code = main(sys.argv[1:])
print(code, *sorted({OURS}))
"""
IMPORT = f"""
import importlib, pkgutil, sys
found = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(found.__path__, found.__name__ + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*sorted({OURS}))
"""


def said(script: str, *words: str) -> str:
    """The script's last line."""
    command = [sys.executable, "-c", script, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.splitlines()[-1]


@pytest.mark.parametrize(("program", "wanted"), [("nodeagent", ""), ("controlplane", "kubernetes")])
def test_no_module_of_a_program_imports_anything_of_the_operators_command(program: str, wanted: str) -> None:
    assert said(IMPORT, program) == wanted


@pytest.mark.parametrize("program", ["agent", "controlplane"])
def test_the_dispatcher_starts_a_program_without_the_operators_command(program: str) -> None:
    assert said(RUN, program, "--server=nowhere", "--no-such-flag") == "2"


def test_without_a_kubeconfig_the_kubernetes_client_is_not_imported() -> None:
    assert said(RUN, "nodes", "--server=127.0.0.1:9", "--insecure") == "3 operatorcli rich typer"
