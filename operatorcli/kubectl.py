"""The programs `kubectl-deltaplane` (kubectl runs it as `kubectl deltaplane`) and `kubectl_complete-deltaplane`."""

from __future__ import annotations

import os
import shlex
import sys
from typing import NoReturn

from deltaplane.cli import COMPLETE, prepare
from operatorcli.main import leave, main

NO_FILES = 4  # cobra's directive: file names are no completions


def run() -> NoReturn:
    """A verb."""
    prepare()
    leave(main(program="kubectl deltaplane"))


def complete() -> int:
    """What may come next, as kubectl's completion asks plugins: a word a line, then a directive."""
    words = ["deltaplane", *sys.argv[1:]]
    os.environ |= {
        COMPLETE: "complete_bash", "COMP_WORDS": shlex.join(words), "COMP_CWORD": str(len(words) - 1),
    }  # fmt: skip
    main([])
    print(f":{NO_FILES}")
    return 0
