"""Every program of the system that is started stands in tools/programs.txt, from which bootstrap installs it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tools import programs

REPOSITORY = programs.REPOSITORY
FOLDERS = ("nodeagent", "controlplane", "deltaplane", "tools", "deploy", "bench", "tests")
STARTS = {"run", "Popen", "call", "check_call", "check_output", "create_subprocess_exec", "Process", "which", "_which"}
STARTS |= {"installed", "do", "to_thread", "_run", "find"}
NAME = re.compile(r"[a-z][a-z0-9_.+-]*\Z")
OWN = {"agent", "controlplane"}  # words of the command `deltaplane`
SHELL = (
    "if then else elif fi for while until do done case esac in function select time local export set trap cd echo pwd"
)
SHELL += (
    " read eval exec exit return shift wait kill command declare mapfile source unset true false continue break type"
)
SHELL += " test umask printf"
BEFORE = r"(?:^|[;|&({!`]|\$\(AS_ROOT\)|[ \]]--(?= )|@|\b(?:then|do|else|if|while|until|as_root|exec)\b)\s*!?\s*"
COMMAND = re.compile(BEFORE + r"(?:[A-Z_]+=\S*\s+)*(?=([a-z][a-z0-9_.-]*)(?:[\s;)&|]|$))", re.MULTILINE)


@cache
def python_files() -> tuple[Path, ...]:
    return tuple(path for folder in FOLDERS for path in sorted((REPOSITORY / folder).rglob("*.py")))


def scripts() -> list[Path]:
    """The shell scripts, by their first line."""
    places = [path for folder in ("tools", ".ci") for path in (REPOSITORY / folder).rglob("*") if path.is_file()]
    return [path for path in places if re.match(rb"#!.*\b(ba)?sh\b", path.read_bytes()[:40])]


def literals(node: ast.expr) -> Iterator[str]:
    """The texts that a command's first word may be: itself, or the first of a list."""
    if isinstance(node, ast.List | ast.Tuple) and node.elts:
        node = node.elts[0]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


@cache
def started(source: str) -> frozenset[str]:
    """What this module's calls name as a command, and the first words of lists that go on with an option."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _name(node.func) in STARTS:
            found |= set(_command(node))
        if isinstance(node, ast.List | ast.Tuple) and _has_option(node):
            found |= set(literals(node))
    return frozenset(text for text in found - OWN if NAME.match(text))


def _name(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))


def _command(call: ast.Call) -> Iterable[str]:
    """Of `Process(name, command, ...)` the second; of `run(space, "nft", ...)` the first text; else the first."""
    if _name(call.func) == "Process":
        return literals(call.args[1]) if len(call.args) > 1 else ()
    if _name(call.func) == "find":
        return ()
    texts = [text for argument in call.args[:2] for text in literals(argument)]
    return texts[:1]


def _has_option(words: ast.List | ast.Tuple) -> bool:
    second = words.elts[1] if len(words.elts) > 1 else None
    return (
        isinstance(second, ast.Constant)
        and isinstance(second.value, str)
        and bool(re.match(r"--?[a-zA-Z]", second.value))
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_program_that_python_code_starts_is_listed(folder: str) -> None:
    found = {
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in python_files()
        if path.is_relative_to(REPOSITORY / folder)
        for name in started(path.read_text())
        if programs.refused(name)
    }
    assert sorted(found) == []


def test_what_comes_with_one_target_only_is_not_started_by_the_others() -> None:
    """A program of the guest's is there on the machine of who has run `make test-vm` once."""
    folders = ("tests/vm", "tools/guest", "tests/cluster", "tools/lab/cluster")
    inside = [REPOSITORY / folder for folder in folders]
    known = programs.listed()
    found = {
        f"{path.relative_to(REPOSITORY)}: {name}"
        for path in python_files()
        if path != Path(__file__) and not any(map(path.is_relative_to, inside))
        for name in started(path.read_text())
        if name in known and known[name].when in ("guest", "cold", "cluster", "image")
    }
    assert sorted(found) == []


def shell_words(text: str) -> set[str]:
    """The words of a script that stand where a command does, but for the shell's own and the script's functions."""
    text = re.sub(r"<<-?'?(\w+)'?.*?^\s*\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    functions = set(re.findall(r"^\s*([a-z_]+)\(\)", text, re.MULTILINE))
    text = re.sub(r"(?m)(^|\s)#.*$", "", text)
    text = re.sub(r"^\s*[\w.| -]+\)", "", text, flags=re.MULTILINE)  # a case's patterns
    text = re.sub(r"\w+=\([^)]*\)", "", text)  # a list of words
    text = re.sub(r"'[^']*'", "''", text)
    text = re.sub(r'\bsay "[^"]*"', "", text)
    text = re.sub(r'"[^"$]*"', '""', text)
    return set(COMMAND.findall(text)) - set(SHELL.split()) - functions


@pytest.mark.parametrize("script", [*scripts(), REPOSITORY / "Makefile"], ids=lambda path: path.name)
def test_every_program_that_a_script_starts_is_listed(script: Path) -> None:
    """Of the words that may be commands those count that this machine has: elsewhere the script itself would fail."""
    here = ":".join(programs.SYSTEM)
    words = {
        name for name in shell_words(script.read_text()) if programs.refused(name) and shutil.which(name, path=here)
    }

    assert words == set()


def test_everything_that_is_listed_is_started_somewhere() -> None:
    sources = [*python_files(), *scripts(), REPOSITORY / "Makefile"]
    text = "\n".join(path.read_text() for path in sources if path != Path(__file__))
    families = re.compile(r"(xtables|ip6?tables)(-|$)")  # the code puts these together

    assert [
        name for name in programs.listed() if not families.match(name) and not re.search(rf"(?<!\w){name}\b", text)
    ] == []


def test_the_scan_sees_the_ways_in_which_programs_are_started() -> None:
    source = """
run(space, "one", "-x")
subprocess.Popen(["two", path])
Process("name", ["three", flag], log)
await asyncio.to_thread(subprocess.run, ["four", "-s"])
COMMAND = ("five", "--flag")
"""
    script = 'A=1 one -x | two\nif ! three; then four; fi\nx=$(five)\nas_root six\n# seven\nsay "eight"\n'

    assert started(source) == {"one", "two", "three", "four", "five"}
    assert shell_words(script) >= {"one", "two", "three", "four", "five", "six"}
    assert not shell_words(script) & {"seven", "eight"}


def test_a_program_that_is_not_listed_is_refused_where_a_test_starts_it() -> None:
    """Whatever way its name was put together (tests/conftest.py)."""
    unlisted = "who"
    with pytest.raises(programs.Unlisted, match=r"^who is not in tools/programs\.txt"):
        subprocess.run([unlisted], check=False)
    with pytest.raises(programs.Unlisted, match="who is not in"):
        subprocess.run(["setpriv", "--pdeathsig", "KILL", "--", f"/usr/bin/{unlisted}"], check=False)


def test_bootstrap_asks_for_every_package_that_is_always_needed(tmp_path: Path) -> None:
    """On a machine that has none of the programs: its own list is read, not a copy of it."""
    text = (REPOSITORY / "tools" / "bootstrap").read_text()
    script = text[text.index("wanted() {") : text.index("system_programs() {")] + "wanted\n"

    def asked(**environment: str) -> set[str]:
        done = subprocess.run(
            ["bash", "-c", script], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True
        )
        return {line.split()[1] for line in done.stdout.splitlines()}

    always = {program.name for program in programs.listed().values() if program.when == "always"}
    assert asked() == always
    assert asked(DELTAPLANE_GUEST="yes") - always == {"linux.uml", "busybox", "insmod", "modprobe"}
    assert asked(DELTAPLANE_COLD="yes") - always == {"mmdebstrap"}
    assert asked(DELTAPLANE_IMAGE="yes") - always == {"mmdebstrap", "buildah"}
    containers = {"containerd", "ctr", "runc", "buildah", "/usr/lib/cni/bridge"}
    assert asked(DELTAPLANE_CLUSTER="yes") - always == {"mmdebstrap", *containers}
