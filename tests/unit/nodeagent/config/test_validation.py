"""What kube-proxy refuses is refused, in its words; what it takes is taken."""

from __future__ import annotations

import pytest

from nodeagent.config.defaults import completed, filled
from nodeagent.config.document import load
from nodeagent.config.validation import problems
from tests.unit.nodeagent.config.cases import HEAD, INVALID, VALID


@pytest.mark.parametrize("text, messages", INVALID)
def test_what_is_refused(text: str, messages: list[str]) -> None:
    assert problems(completed(filled(load(HEAD + text)[0]))) == messages


@pytest.mark.parametrize("text", VALID)
def test_what_is_taken(text: str) -> None:
    assert problems(completed(filled(load(HEAD + text)[0]))) == []


def test_a_mode_nobody_has() -> None:
    (problem,) = problems(completed(filled(load(HEAD + "mode: pigeon")[0])))

    assert problem.startswith('KubeProxyConfiguration.Mode.ProxyMode: Invalid value: "pigeon": must be iptables, ipvs')
