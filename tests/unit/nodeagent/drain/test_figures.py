"""What became of Pods' questions, in figures."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from nodeagent.drain.callers import Caller, Refused
from nodeagent.drain.figures import RESULTS, DrainFigures
from nodeagent.drain.questions import Outcome, Questions
from nodeagent.drain.upstream import Answer, Late
from tests.unit.nodeagent.drain.test_pages import get, hangs_up, served
from tests.unit.nodeagent.drain.test_questions import Own, Plane


class Page:
    """The figures of one agent, as its page shows them."""

    def __init__(self) -> None:
        self.figures = DrainFigures(lambda: 3)
        self._registry = CollectorRegistry()
        self._registry.register(self.figures)

    def of(self, name: str, **labels: str) -> float | None:
        return self._registry.get_sample_value(f"deltaplane_drain_{name}", labels)

    @property
    def results(self) -> dict[str, float]:
        found = {result: self.of("requests_total", result=result) for result in RESULTS}
        return {result: number for result, number in found.items() if number}


def test_answers_are_counted_by_what_they_say_with_their_time_and_the_nodes_that_were_late() -> None:
    page = Page()
    late = Answer(gone=False, nodes=9, late=(Late("a", "gone"), Late("b", "stuck")), more=3)
    for outcome in (Outcome(Answer(gone=True, nodes=9), 0.5), Outcome(late, 2.0), Outcome(Answer(gone=False), 1, "x")):
        page.figures.answered(outcome)
    assert page.results == {"gone": 1, "late": 1, "still": 1}
    assert (page.of("late_nodes_total"), page.of("waiting")) == (5, 3)
    assert (page.of("seconds_count"), page.of("seconds_sum")) == (3, 3.5)


async def test_a_call_that_is_refused_or_goes_counts_as_that() -> None:
    class No(Own):
        async def caller(self, address: bytes) -> Caller:
            raise Refused(403, "no")

    page, plane = Page(), Plane(open_=False)
    async with served(Questions(No(), plane.gone), figures=page.figures) as port:
        assert (await get("127.0.0.1", port))[0] == 403
        assert (await get("127.0.0.1", port, "/other"))[0] == 404
    assert page.results == {"refused": 1}
    async with served(Questions(Own(), plane.gone), figures=page.figures) as port:
        await hangs_up(port, plane, lambda: "left" in page.results)
    assert page.results == {"refused": 1, "left": 1}
