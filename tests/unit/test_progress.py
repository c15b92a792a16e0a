"""What takes minutes is not silent."""

from __future__ import annotations

import io
import re
import subprocess
import threading

from tools.programs import REPOSITORY
from tools.progress import shown


class Terminal(io.StringIO):
    """Counts its lines and wakes who waits for one."""

    def __init__(self, *, tty: bool) -> None:
        super().__init__()
        self._tty = tty
        self.seen = threading.Semaphore(0)

    def isatty(self) -> bool:
        return self._tty

    def write(self, text: str) -> int:
        self.seen.release()
        return super().write(text)


def test_elsewhere_than_on_a_terminal_it_is_plain_lines_that_go_on_coming() -> None:
    out = Terminal(tty=False)
    with shown("bench", 2, out, every=0.01) as progress:
        progress.at("agent")
        assert all(out.seen.acquire(timeout=10) for _ in range(3))
        progress.at("memory")

    progress.at("a small one", small=True)
    lines = out.getvalue().splitlines()
    assert lines[:2] == ["bench: 1 of 2: agent: 0:00"] * 2
    assert lines[-1].startswith("bench: 2 of 2: memory: 0:0")
    assert "\x1b" not in out.getvalue()


def test_on_a_terminal_it_is_one_line_that_moves_and_goes() -> None:
    out = Terminal(tty=True)
    with shown("bench", 2, out, every=60) as progress:
        progress.at("agent")
        progress.at("memory")

    assert "\n" not in out.getvalue()
    assert "\r\x1b[Kbench: [##########          ] 2 of 2: memory: 0:00" in out.getvalue()
    assert out.getvalue().endswith("\r\x1b[K")


def test_a_script_says_what_it_does_and_hands_on_the_exit_code() -> None:
    script = """. tools/progress.sh
    shown build "1 of 2: it" 65 sh -c "exit 3" || echo "code $?"
    shown build "2 of 2: it" 0 true"""
    done = subprocess.run(["bash", "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert done.stdout == "code 3\n"
    assert done.stderr == "build: 1 of 2: it (usually about 1:05)\nbuild: 2 of 2: it\n"


def waiting() -> subprocess.Popen[str]:
    """A script that works until it is given a line, and says so all the time."""
    text = (
        (REPOSITORY / "tools" / "progress.sh").read_text().replace("-t 1 ", "-t 0.05 ").replace("every=30", "every=1")
    )
    script = f"{text}\nwork() {{ read -r; }}; shown build it 0 work"
    pipe = subprocess.PIPE
    return subprocess.Popen(["bash", "-c", script], stdin=pipe, stderr=pipe, text=True, cwd=REPOSITORY)


def test_a_scripts_lines_come_again_while_it_works() -> None:
    """With the half minute made short; the ticker is gone as soon as the work is done."""
    child = waiting()
    assert child.stderr is not None
    assert child.stdin is not None
    lines = [child.stderr.readline() for _ in range(3)]
    child.stdin.write("done\n")
    child.stdin.close()

    assert lines[0] == "build: it\n"
    assert [line for line in lines[1:] if not re.match(r"build: it: \d+:\d\d\n", line)] == []
    assert child.wait(timeout=20) == 0
    child.stderr.close()


def test_a_script_that_is_killed_leaves_no_line_behind() -> None:
    """What it repeated ends with it: else the reader of its output would wait for ever."""
    child = waiting()
    assert child.stderr is not None
    assert child.stdin is not None
    child.stderr.readline()
    child.kill()
    child.wait()

    ended = threading.Thread(target=child.stderr.read, daemon=True)
    ended.start()
    ended.join(timeout=20)
    assert not ended.is_alive()
    child.stdin.close()
    child.stderr.close()
