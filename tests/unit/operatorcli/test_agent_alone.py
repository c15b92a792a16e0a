"""`get svc` and `explain` at the socket of an agent: what it says is no yes while it has no stream."""

from __future__ import annotations

from typing import Any, cast

import pytest

from deltaplane.v1 import agent_pb2, views_pb2
from operatorcli.ask import Replica
from operatorcli.exits import Exit
from operatorcli.flags import Asked
from operatorcli.output import Form, written
from operatorcli.verbs import explain, get
from tests.unit.operatorcli.long import failing, service

WEB = service("web", "shop")
CONNECTION = views_pb2.Connection(source="10.244.1.7", address="10.96.0.10", port=80, protocol="TCP")
REACHED = views_pb2.Explanation(connection=CONNECTION, fate=views_pb2.FATE_REACHES, service=WEB)


class Agent:
    """Says what it is given, by method."""

    def __init__(self, *, connected: bool = True, failed: bool = False) -> None:
        failures = [failing(key=WEB)] if failed else []
        self._itself = agent_pb2.GetAgentResponse(node_name="node-a", rev=1, connected=connected, failed=failures)
        self._said: dict[str, Any] = {
            "GetForwarding": agent_pb2.GetForwardingResponse(
                desired=views_pb2.ForwardingView(service=WEB), failed=failures
            ),
            "ExplainHere": agent_pb2.ExplainHereResponse(explanation=REACHED),
        }

    def agent(self, agent: object, node: str = "") -> agent_pb2.GetAgentResponse:
        return self._itself

    def ask(self, method: str, *_: object) -> Any:
        return self._said[method]

    def told(self, verb: str) -> tuple[str, Exit]:
        asked, replica = cast(Asked, self), cast(Replica, self)
        answer, code = (
            get._here(asked, replica, "shop", "web") if verb == "get" else explain._here(asked, replica, CONNECTION)
        )
        return " ".join(written(answer, Form.TABLE).split()), code


@pytest.mark.parametrize("verb", ["get", "explain"])
def test_what_may_be_old_is_no_yes(verb: str) -> None:
    assert Agent().told(verb)[1] is Exit.YES
    text, code = Agent(connected=False).told(verb)

    assert code is Exit.NO
    assert text.startswith("node-a's agent has had no stream")


def test_a_service_that_fails_has_the_next_step_beside_it() -> None:
    text, code = Agent(failed=True).told("get")

    assert code is Exit.NO
    assert "svc/shop/web fails with KERNEL_REJECTED" in text
    assert "`deltaplane resync node-a` has the agent compare everything" in text
