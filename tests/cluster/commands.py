"""The commands of docs/migrate.md, run as an operator's shell runs them, with the cluster's names in the variables."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.installed import OVERLAYS
from tools.lab import parts, rules
from tools.lab.cluster.cluster import Cluster

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "migrate.md"
_BLOCK = re.compile(r"<!-- commands: (?P<name>[a-z ]+) -->\n```sh\n(?P<text>.*?)```", re.DOTALL)
HAND_BACK = "deploy/kustomize/hand-back"  # of which the page says that its image is to be set


def blocks() -> dict[str, str]:
    """The page's commands by the name in the comment before them."""
    return {found["name"]: found["text"] for found in _BLOCK.finditer(PAGE.read_text())}


class Page:
    """Runs blocks; `ran` has the names of those that were."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster, self._folder, self._blocks = cluster, folder, blocks()
        self.ran: list[str] = []

    def follow(self, name: str, overlay: str = "", timeout: float = 400, **variables: str) -> str:
        """The output. Raises RuntimeError with the complaint of the command that failed."""
        self.ran.append(name)
        text = self._blocks[name].replace(HAND_BACK, str(OVERLAYS / "hand-back"))
        values = {**self._environment(), "OVERLAY": str(OVERLAYS / overlay), **variables}
        space = self._cluster.api.host.space
        return rules.run(space, "env", "-C", str(self._folder), *_words(values), "bash", "-euxc", text, timeout=timeout)

    def _environment(self) -> dict[str, str]:
        path = [parts.find("kubectl").parent, Path(sys.executable).parent, "/usr/sbin:/usr/bin:/sbin:/bin"]
        return {"PATH": ":".join(map(str, path)), "KUBECONFIG": str(self._cluster.api.admin_kubeconfig)}


def _words(values: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in values.items()]
