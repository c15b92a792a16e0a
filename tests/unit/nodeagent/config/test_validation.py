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


@pytest.mark.parametrize("mode", ["userspace", '""'])
def test_the_idle_timeout_of_userspace_mode_as_kube_proxy_refused_it_until_1_25(mode: str) -> None:
    text = f"mode: {mode}\nudpIdleTimeout: -1s"
    (problem,) = problems(completed(filled(load(HEAD + text)[0])))

    assert problem == 'KubeProxyConfiguration.UDPIdleTimeout: Invalid value: "-1s": must be greater than 0'


def test_a_mode_nobody_has() -> None:
    (problem,) = problems(completed(filled(load(HEAD + "mode: pigeon")[0])))

    assert problem.startswith('KubeProxyConfiguration.Mode.ProxyMode: Invalid value: "pigeon": must be iptables, ipvs')
