"""Logs are events with keys: one line `time LEVEL logger: event key=value ...`, on standard error.

Both programs call `configure` once at start; modules log through `logging.getLogger(__name__)` and `event`. What comes
from outside can be in any of it, libraries' lines and exceptions' texts included: the formatter is where no control
character, nothing that ends a line or turns the direction of reading, and no password of a URL goes through.
"""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from deltaplane import redact


def configure(verbosity: int) -> None:
    """Sets up the root logger: information and up, debug from verbosity 4 on (kube-proxy's meaning of --v)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity >= 4 else logging.INFO)
    for noisy in ("asyncio", "kubernetes", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    sys.excepthook = _uncaught


def event(logger: logging.Logger, level: int, name: str, **keys: object) -> None:
    """Logs `name` with its keys, in the order given."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s%s", name, "".join(f" {key}={_quote(value)}" for key, value in keys.items()))


def _quote(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not any(c in text for c in ' "='):
        return text
    return '"' + line(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def line(text: str) -> str:
    r"""The text as one line for people: what a terminal acts on goes out as text, such as `\n` and `\x1b`.

    Those are control characters, line ends, and what turns the direction of reading. What is printable stays.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode()


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What ends the program is a record too: Python itself would print the error's text as it is."""
    logging.getLogger(__name__).critical("ended by a defect, please report it", exc_info=(kind, error, trace))


class Formatter(logging.Formatter):
    """One line for a record. A traceback follows in lines that begin with a blank, so that none looks like a record."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said = f"{record.levelname} {record.name}: {record.getMessage()}"
        lines = [line(f"{stamp}.{int(record.msecs):03d}Z {said}")]
        if record.exc_info:
            lines += self.formatException(record.exc_info).split("\n")
        if record.stack_info:
            lines += record.stack_info.split("\n")
        lines = [redact.urls(text) for text in lines]
        return "\n".join([lines[0], *(f"  {line(text)}" for text in lines[1:])])
