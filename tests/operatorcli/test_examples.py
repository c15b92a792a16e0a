"""Every example of the help and of docs/command.md runs as it stands, against a control plane with three agents."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from operatorcli.exits import Exit
from operatorcli.main import command
from tests.operatorcli.world import Command, Shop
from tools import command_page

YES_OR_NO = (Exit.YES, Exit.NO)
KUBE_PROXY = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n"
EXAMPLES = list(command_page.examples())
ON_A_NODE = ("trace",)  # verbs whose examples run at an agent's own socket (test_agents_socket)


@pytest.mark.parametrize("example", [each for each in EXAMPLES if not each.startswith(ON_A_NODE)])
def test_an_example_of_the_help_runs(
    example: str, deltaplane: Command, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.settled()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kube-proxy.conf").write_text(KUBE_PROXY)

    said = deltaplane(*shlex.split(example))

    assert said.code in YES_OR_NO, said.err
    assert "Traceback" not in said.err
    if "-o" not in example:
        assert max(map(len, said.out.splitlines()), default=0) <= 100, said.out


def test_every_verb_has_an_example() -> None:
    verbs = {example.split()[0] for example in EXAMPLES}

    assert verbs == set(command().commands)
