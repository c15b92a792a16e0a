"""bash, at each place where an operator types."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.walkthrough.story import Place
from tools.lab.netns import Namespace

LIMIT = 400.0  # seconds of a command


class Shell:
    """Files stay in `folder` between commands; None: the process's own, as with `environment`."""

    def __init__(
        self,
        spaces: Mapping[Place, Namespace],
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._spaces, self._folder, self._environment = spaces, folder, environment

    def run(self, place: Place, command: str) -> str:
        """Both outputs, as a terminal shows them."""
        with self._spaces[place].entered():
            done = subprocess.run(
                ["bash", "-c", f"exec 2>&1; {command}"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                timeout=LIMIT,
                check=False,
            )
        return done.stdout
