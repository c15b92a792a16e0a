"""A ServiceAccount token as a file has it, read anew for each use: whoever rotates it writes the file."""

from __future__ import annotations

import re

from deltaplane import bounded
from deltaplane.certificates import Unusable

MOST_BYTES = 16 * 1024
_TOKEN = re.compile(r"[-._~+/A-Za-z0-9]+=*")  # RFC 6750, section 2.1


def read_token(path: str, flag: str) -> str:
    """The token. Raises `Unusable`, which names flag, file and reason, and never the content."""
    try:
        text = bounded.read(path, MOST_BYTES).strip()
    except OSError as error:
        raise Unusable(f"--{flag}={path}: {error.strerror}") from error
    except (bounded.TooMuch, UnicodeDecodeError) as error:
        raise Unusable(f"--{flag}={path}: {error}") from error
    if not _TOKEN.fullmatch(text):
        raise Unusable(f"--{flag}={path}: it is not a token, which is one line of letters, digits and -._~+/=")
    return text
