"""Takes out of the image what nothing imports of the package `kubernetes`: 4,000 generated modules.

What stays is what `controlplane.source.kubernetes_package` loads, so it is as right as the imports are. That it is
enough is seen at once, by a second interpreter, and by tests/e2e/test_image.py, which runs both programs on it. Run by
the Dockerfile.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

OURS = "controlplane.source.kubernetes_package"
PACKAGE = "kubernetes"


def loaded() -> set[Path]:
    """The files of the package's modules that the import of ours brings."""
    __import__(OURS)
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == PACKAGE]
    return {Path(module.__file__) for module in modules if module.__file__}


def cut(root: Path, kept: set[Path]) -> None:
    """Removes every other file below the root, and folders that are empty then."""
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            path.unlink()


def main() -> None:
    """Raises CalledProcessError where what stays is not enough."""
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    cut(Path(spec.origin).parent, loaded())
    subprocess.run([sys.executable, "-B", "-c", f"import {OURS}"], check=True)


if __name__ == "__main__":
    main()
