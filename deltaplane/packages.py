"""Packages of which a few modules are used, entered without running their `__init__`, which imports all of it."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec


def enter(*names: str) -> None:
    """The packages are there with their paths, and empty: what is used of them is imported from their modules.

    A parent stands before what is in it. One that is imported already, or is not installed, stays as it is.
    """
    for name in names:
        spec = None if name in sys.modules else find_spec(name)
        if spec is not None:
            sys.modules[name] = module_from_spec(spec)
