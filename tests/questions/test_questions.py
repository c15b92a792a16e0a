"""A sample of the random questions, each held against a real packet; `python -m tests.questions` asks many more."""

from __future__ import annotations

import os
import random
import sys

import pytest

from tests.flows.columns import BY_NAME
from tests.flows.corpus import scenarios
from tests.flows.product import Product
from tests.flows.scenario import ADDRESSES, DROP, PASS, REACH, Outcome
from tests.flows.verdicts import NotHere
from tests.questions.fates import met_itself
from tests.questions.questions import Asker, Question
from tests.questions.run import fit, questions

MODES = ("nftables", "iptables", "userspace")
SAMPLE = ("load-balancer-v4", "external-policy-local-v6", "nodeports-loopback-v4", "host-network-v6", "dual-stack-v4")


def test_the_same_seed_asks_the_same_questions_and_another_seed_others() -> None:
    asked = [_asked(seed) for seed in (1, 1, 2)]
    assert asked[0] == asked[1] != asked[2]


def test_questions_go_to_what_is_there_and_to_what_is_not() -> None:
    asked, served = _asked(1), {str(each) for each in _product().forwarding.values()}
    assert served
    assert {"172.30.0.41", "192.168.0.2", "127.0.0.1", "172.30.0.250"} <= {each.to for each in asked}
    assert {each.protocol for each in asked} == {"tcp", "udp"}


def test_loopback_is_asked_by_the_node_alone_and_asks_the_node_alone() -> None:
    for each in _asked(1):
        if each.to == "127.0.0.1":
            assert each.source in (*ADDRESSES, "127.0.0.1")
        if each.source == "127.0.0.1":
            assert each.to in (*ADDRESSES, "127.0.0.1")


def test_a_client_that_is_an_endpoint_of_another_node_may_be_lost_to_itself() -> None:
    question = Question("10.180.1.1", "tcp", "172.30.0.41", 80)
    plain, masqueraded = (Outcome(REACH, frozenset({("10.180.1.1:80", own)})) for own in (False, True))
    assert met_itself(question, plain, Outcome(DROP))
    assert not met_itself(question, masqueraded, Outcome(DROP))
    assert not met_itself(question, plain, Outcome(PASS))


@pytest.mark.slow
@pytest.mark.kernel
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", MODES)
def test_an_explanation_is_what_a_packet_meets(mode: str) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    chosen = [each for each in fit(scenarios(), BY_NAME[mode]) if each.id in SAMPLE]
    try:
        found = questions(chosen, BY_NAME[mode], 60, 1, lambda _, __: None)
    except NotHere as missing:
        pytest.skip(str(missing))
    assert found.asked == 60
    assert not found.wrong, "\n".join(found.wrong)


def _product() -> Product:
    scenario = next(each for each in scenarios() if each.id == "load-balancer-v4")
    made = Product(scenario)
    made.step(scenario.steps[0])
    return made


def _asked(seed: int) -> list[Question]:
    asker = Asker(_product(), ADDRESSES, random.Random(seed))
    return [asker.question() for _ in range(400)]
