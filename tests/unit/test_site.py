"""The documentation: every link leads somewhere, every page is in the navigation, generated pages are current."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase

from nodeagent.dataplane.api import DriverMetric
from tools import flags_page, metrics_page
from tools.site import links, navigation, stage
from tools.site.markdown import read

REPOSITORY = links.REPOSITORY
PACKAGES = ("controlplane", "nodeagent", "deltaplane")
METRICS = {"Counter", "Gauge", "Histogram", "DriverMetric"}
METRICS |= {f"{kind}MetricFamily" for kind in METRICS}


def test_every_link_of_every_document_leads_somewhere() -> None:
    pages = links.documents(REPOSITORY)

    assert {Path("README.md"), Path("proto/README.md"), Path("docs/index.md")} <= pages.keys()
    assert list(links.problems(REPOSITORY, pages)) == []


def test_a_link_that_leads_nowhere_is_named_with_its_line_and_reason(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "a.md").write_text(
        "# A title\n\n[gone](docs/gone.md)\n[well](docs/b.md#one-two-1)\n\n[no](docs/b.md#x)\n"
    )
    text = (
        "# `One` two\n# One, two!\n[out](../../x)\n```sh\n[code](nowhere)\n```\n`[code](nowhere)` <https://b.example>\n"
    )
    (tmp_path / "docs" / "b.md").write_text(text)

    assert list(links.problems(tmp_path, links.documents(tmp_path))) == [
        "a.md:3: docs/gone.md: there is no docs/gone.md",
        "a.md:6: docs/b.md#x: docs/b.md has no heading with the anchor 'x'",
        "docs/b.md:3: ../../x: outside of the repository",
    ]


def test_anchors_are_those_that_github_gives() -> None:
    page = read("# Kubernetes' own: [specs](x.md) & `a_b`\n\n## Same\n\n## Same\n")

    assert page.title == "Kubernetes' own: specs & a_b"
    assert page.anchors == {"kubernetes-own-specs--a_b", "same", "same-1"}


def test_every_page_is_in_the_navigation_once() -> None:
    paths = [entry.path for entry in navigation.entries(navigation.index(REPOSITORY))]
    documents = {path.relative_to(REPOSITORY) for path in (REPOSITORY / "docs").glob("*.md")} - {navigation.INDEX}

    assert documents <= set(paths), "give each a line in docs/index.md"
    assert len(paths) == len(set(paths))
    assert len({stage.name(path) for path in paths}) == len(paths)


def test_a_page_that_is_expected_is_in_the_navigation_from_when_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(
        "# I\n\n## S\n\n<!-- when there: * [B](b.md): later -->\n* [A](a.md): a\n"
    )

    before = [entry.title for entry in navigation.entries(navigation.index(tmp_path))]
    (tmp_path / "docs" / "b.md").write_text("# B\n")
    after = [(entry.section, entry.title) for entry in navigation.entries(navigation.index(tmp_path))]

    assert before == ["A"]
    assert after == [("S", "B"), ("S", "A")]


def test_pages_are_staged_with_links_that_lead_to_each_other_and_to_copies_of_files(tmp_path: Path) -> None:
    top, to = tmp_path / "top", tmp_path / "to"
    for folder in ("docs", "proto", "deploy"):
        (top / folder).mkdir(parents=True)
    (top / "docs" / "index.md").write_text(
        "# I\n\n## S\n\n* [Start](../README.md): a\n* [Wire](../proto/README.md): b\n"
    )
    (top / "README.md").write_text(
        "# R\n[w](proto/README.md#x) [f](deploy/a.yaml) [d](deploy)\n```\n[w](proto/README.md)\n```\n"
    )
    (top / "proto" / "README.md").write_text("# W\n[r](../README.md) [web](https://a.example) [here](#w)\n")
    (top / "deploy" / "a.yaml").write_text("a: 1\n")

    stage.staged(top, to)

    assert (to / "quick-start.md").read_text() == (
        "# R\n[w](protocol.md#x) [f](files/deploy/a.yaml) d (`deploy`)\n```\n[w](proto/README.md)\n```\n"
    )
    assert (to / "protocol.md").read_text() == "# W\n[r](quick-start.md) [web](https://a.example) [here](#w)\n"
    assert (to / "files" / "deploy" / "a.yaml").read_text() == "a: 1\n"
    assert ":caption: S\n\nStart <quick-start.md>\nWire <protocol.md>\n" in (to / "index.md").read_text()


def test_a_navigation_that_names_what_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# I\n\n## S\n\n* [A](a.md): a\n")

    with pytest.raises(ValueError, match=r"docs/index.md names what is not there: docs/a.md"):
        stage.staged(tmp_path, tmp_path / "to")


def test_the_page_of_flags_is_what_the_programs_take() -> None:
    assert flags_page.PAGE.read_text() == flags_page.page(), "run make manual"
    for title, parser in flags_page.PROGRAMS.items():
        section = flags_page.page().partition(f"## {title}\n")[2].partition("\n## ")[0]
        taken = {name for action in flags_page.flags(parser()) for name in action.option_strings if len(name) > 2}
        assert [name for name in sorted(taken) if f"| `{name}" not in section] == []


def test_the_page_of_metrics_is_what_the_programs_have() -> None:
    assert metrics_page.PAGE.read_text() == metrics_page.page(), "run make manual"


def test_every_module_that_defines_metrics_is_on_the_page_of_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()

    def noting(original: Any) -> Any:
        def made(*arguments: Any, **options: Any) -> Any:
            seen.update(_modules(inspect.currentframe()))
            return original(*arguments, **options)

        return made

    for kind in (Metric, MetricWrapperBase):
        monkeypatch.setattr(kind, "__init__", noting(kind.__init__))
    monkeypatch.setattr(DriverMetric, "__new__", noting(DriverMetric.__new__))
    list(metrics_page.every())

    defining = {module for module, path in _product() if _defines(path)}
    assert defining - seen == set(), "give each to tools/metrics_page.py"
    assert len(defining) > 10


def _modules(frame: FrameType | None) -> Iterator[str]:
    while frame:
        yield frame.f_globals.get("__name__", "")
        frame = frame.f_back


def _product() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("*.py"):
            if "_pb2" not in path.name:
                yield ".".join(path.relative_to(REPOSITORY).with_suffix("").parts), path


def _defines(path: Path) -> bool:
    """Whether it makes metrics of the library, or a backend's."""
    text = path.read_text()
    if "prometheus_client" not in text and "DriverMetric(" not in text:
        return False
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return bool({func.id for func in calls if isinstance(func, ast.Name)} & METRICS)
