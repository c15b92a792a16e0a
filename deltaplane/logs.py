"""Logs are events with keys: one line `time LEVEL logger: event key=value ...`, on standard error.

Both programs call `configure` once at start; modules log through `logging.getLogger(__name__)` and `event`.
"""

from __future__ import annotations

import logging
import sys
import time


def configure(verbosity: int) -> None:
    """Sets up the root logger: information and up, debug from verbosity 4 on (kube-proxy's meaning of --v)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity >= 4 else logging.INFO)
    for noisy in ("asyncio", "kubernetes", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def event(logger: logging.Logger, level: int, name: str, **keys: object) -> None:
    """Logs `name` with its keys, in the order given."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s%s", name, "".join(f" {key}={_quote(value)}" for key, value in keys.items()))


def _quote(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not any(c in text for c in ' "='):
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    """A character of a quoted value: no control or format character of a peer reaches a terminal or makes a line."""
    if character in '\\"':
        return "\\" + character
    return character if character.isprintable() else character.encode("unicode_escape").decode()


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = f"{stamp}.{int(record.msecs):03d}Z {record.levelname} {record.name}: {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line
