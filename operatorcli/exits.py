"""How the command ends: exit codes, and the failures that become one."""

from __future__ import annotations

from enum import IntEnum

from deltaplane import redact


class Exit(IntEnum):
    """Documented in docs/command.md; scripts rely on them."""

    YES = 0
    NO = 1
    USAGE = 2
    UNREACHED = 3
    FORBIDDEN = 4
    FAILED = 5
    INTERRUPTED = 130


MEANING = {
    Exit.YES: "yes: done, or what was asked for is so",
    Exit.NO: "no: it is not so, there is no such object, or the time is up; nodes and reasons are named",
    Exit.USAGE: "wrong usage: an unknown flag, or a value that cannot be",
    Exit.UNREACHED: "no replica can be reached: address, network or certificate",
    Exit.FORBIDDEN: "not permitted: no token, one that is not accepted, or a missing right",
    Exit.FAILED: "the replica could not answer, or is too old to know the question",
    Exit.INTERRUPTED: "interrupted with Ctrl-C",
}


class Failed(Exception):
    """Ends the command. `text`: what is wrong, and where; `advice`: what to do next."""

    def __init__(self, code: Exit, text: str, advice: str = "") -> None:
        self.code, self.text, self.advice = code, redact.urls(text), redact.urls(advice)
        super().__init__(self.text)
