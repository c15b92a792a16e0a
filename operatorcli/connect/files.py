"""Files that flags name, read with a limit. Raises `Failed` with USAGE, which names flag, file and reason."""

from __future__ import annotations

from deltaplane import bounded
from operatorcli.exits import Exit, Failed

MOST_BYTES = 1024 * 1024


def text(flag: str, path: str) -> str:
    """The file's text."""
    try:
        return bounded.read(path, MOST_BYTES)
    except UnicodeDecodeError:
        reason = "it is not text"
    except OSError as error:
        reason = error.strerror or "it cannot be read"
    except bounded.TooMuch as error:
        reason = str(error)
    raise Failed(Exit.USAGE, f"--{flag}={path}: {reason}", "Name a file that is there and that you may read.")


def token(flag: str, path: str) -> str:
    """The file's one token."""
    found = text(flag, path).strip()
    if not found or len(found.split()) != 1 or not found.isascii():
        raise Failed(Exit.USAGE, f"--{flag}={path}: there is not one token in it", "Write the token alone into it.")
    return found
