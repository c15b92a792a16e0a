"""controlplane.selectors: what is a label selector, before an API server is asked again and again with it."""

from __future__ import annotations

import pytest

from controlplane.selectors import labels, problem
from controlplane.settings import parse
from deltaplane.flags import UsageError


@pytest.mark.parametrize(
    "text", ["a", "!a.b/c", "a=b", "a==b", "a!=b", "a=", "x/y in (a, b),!z", "k notin (a)", "a , b", "! a"]
)
def test_these_are_label_selectors(text: str) -> None:
    assert problem(text) == ""


@pytest.mark.parametrize("text", ["", ",", "a,", "a b", "a=b c", "a in b", "a in ()x", "-a", "a=/", "é", "A/b=c"])
def test_these_are_none_and_the_place_is_named(text: str) -> None:
    assert "is no label selector at" in problem(text)


def test_the_control_plane_refuses_another_selector_and_one_for_a_folder() -> None:
    folder = ["--source=manifests", "--manifests=d", "--insecure", "--service-selector=a"]

    with pytest.raises(UsageError, match="--service-selector: 'a b' is no label selector at 'b'"):
        parse(["--insecure", "--service-selector=a b"])
    with pytest.raises(UsageError, match="--service-selector goes with --source=kubernetes"):
        parse(folder)
    assert parse(["--insecure", "--service-selector=a"]).service_selector == "a"


def test_a_node_selector_is_labels_with_their_values() -> None:
    assert labels("") == {}
    assert labels("a.b/c=d, e=") == {"a.b/c": "d", "e": ""}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a", "'a' is not KEY=VALUE"),
        ("a=b,", "'' is not KEY=VALUE"),
        ("a==b", "'a==b' is not"),
        ("a=b,a=c", "two values"),
    ],
)
def test_what_a_node_selector_cannot_have_is_named(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        labels(text)


def test_the_control_plane_takes_the_agents_node_selector_with_an_api_server_alone() -> None:
    flag = "--agent-node-selector=a=b"

    assert parse(["--insecure", flag]).agent_node_selector == {"a": "b"}
    assert parse(["--insecure"]).agent_node_selector == {}
    with pytest.raises(UsageError, match="--agent-node-selector: '!a' is not KEY=VALUE"):
        parse(["--insecure", "--agent-node-selector=!a"])
    with pytest.raises(UsageError, match="--agent-node-selector goes with --source=kubernetes"):
        parse(["--source=manifests", "--manifests=d", "--insecure", flag])
