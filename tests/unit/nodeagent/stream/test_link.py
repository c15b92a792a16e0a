"""What an agent says of its way to the replicas."""

from __future__ import annotations

from nodeagent.stream.link import Link


class Clock:
    def __init__(self) -> None:
        self.now = 10

    def __call__(self) -> int:
        return self.now


def test_since_when_and_why_there_is_no_stream() -> None:
    clock = Clock()
    link = Link(("a:1", "b:1"), clock=clock)
    link.tries("a:1")
    clock.now = 20
    link.ended("refused")
    assert (link.up, link.since, link.error, link.error_server, link.error_at) == (False, 10, "refused", "a:1", 20)

    link.tries("b:1")
    clock.now = 30
    link.opened()
    assert (link.up, link.server, link.since) == (True, "b:1", 30)

    clock.now = 90
    link.ended("nothing heard for 30 s")
    assert (link.up, link.since, link.error_server, link.error_at) == (False, 90, "b:1", 90)
