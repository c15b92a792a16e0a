"""What the repository says of itself is so: commands exist, flags are documented, files are small and explained."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import controlplane.identity.flags
import controlplane.settings
import deltaplane

REPOSITORY = Path(__file__).parents[2]
FOLDERS = ("deltaplane", "controlplane", "nodeagent", "operatorcli", "tools", "deploy", "bench", "tests")
LONGEST_FILE = 350  # about 250 is the aim
LONGEST_TABLE = 450  # a test module is read case by case
UNFINISHED = re.compile(r"\b(?:T[O]DO|F[I]XME)\b")  # the brackets keep this line from finding itself


def modules() -> list[Path]:
    """Every module that is written by hand."""
    found = [path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py")]
    return [path for path in sorted(found) if "_pb2" not in path.name]


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z0-9-]*):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/operating.md", "docs/runbook.md"])
def test_every_make_target_a_document_names_exists(document: str) -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z0-9-]*)", (REPOSITORY / document).read_text(), re.MULTILINE))

    assert named <= targets()


def test_the_first_two_commands_of_the_readme_are_demo_and_test() -> None:
    commands = re.findall(r"^make ([a-z-]+)", (REPOSITORY / "README.md").read_text(), re.MULTILINE)

    assert commands[:2] == ["demo", "test"]


def test_every_file_that_contributors_are_sent_to_exists() -> None:
    named = set(re.findall(r"`([a-z]+/[\w./*{},-]+)`", (REPOSITORY / "CONTRIBUTING.md").read_text()))
    paths = [path for name in named for path in unfolded(name)]

    assert len(paths) > 50
    assert [path for path in sorted(paths) if "NAME" not in path and not any(REPOSITORY.glob(path.rstrip("/")))] == []


def unfolded(name: str) -> list[str]:
    """`a/{b,c}.py` as two paths; others as they are."""
    before, brace, rest = name.partition("{")
    inner, _, after = rest.partition("}")
    return [f"{before}{one}{after}" for one in inner.split(",")] if brace else [name]


def test_every_flag_of_the_control_plane_is_documented() -> None:
    files = (controlplane.settings.__file__, controlplane.identity.flags.__file__)
    accepted = {flag for file in files for flag in re.findall(r'add\(\s*"(--[a-z-]+)"', Path(str(file)).read_text())}
    manual = (REPOSITORY / "docs" / "operating.md").read_text()

    assert accepted
    assert [flag for flag in sorted(accepted) if f"`{flag}" not in manual] == []


def test_the_changelog_has_the_version() -> None:
    assert f"## [{deltaplane.__version__}]" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_every_module_opens_with_a_docstring() -> None:
    silent = [
        name_of(path)
        for path in modules()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]

    assert silent == []


def test_no_module_is_longer_than_a_reader_bears() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in modules()}

    longest = {name: LONGEST_TABLE if name.startswith("tests/") else LONGEST_FILE for name in lengths}
    assert {name: length for name, length in lengths.items() if length > longest[name]} == {}


def test_netlink_is_opened_in_one_place() -> None:
    found = [name_of(path) for path in (REPOSITORY / "nodeagent").rglob("*.py") if "AF_NETLINK," in path.read_text()]
    assert found == ["nodeagent/linux/netlink/socket.py"]


def test_the_product_imports_nothing_of_the_tests() -> None:
    found = re.compile(r"^\s*(?:from|import) (?:tests|tools|bench)\b", re.MULTILINE)
    product = [
        path
        for folder in ("deltaplane", "controlplane", "nodeagent", "operatorcli")
        for path in (REPOSITORY / folder).rglob("*.py")
    ]
    assert [name_of(path) for path in product if found.search(path.read_text())] == []


def test_nothing_is_left_to_be_done_in_a_comment() -> None:
    assert [name_of(path) for path in modules() if UNFINISHED.search(path.read_text())] == []


def test_every_test_that_the_page_on_security_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (REPOSITORY / "docs" / "security.md").read_text()))
    defined = {
        name
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text())
    }

    assert len(named) > 20
    assert named - defined == set()
