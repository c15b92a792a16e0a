"""When the interpreter looks for garbage: not while a whole state comes in, and never again in what that left."""

from __future__ import annotations

import gc


class Garbage:
    """What a snapshot brings is long-lived, and later collections need not walk it."""

    def __init__(self) -> None:
        self._untidy = False  # a whole state came in

    def pause(self, *, while_: bool) -> None:
        """No collection while this is so."""
        (gc.disable if while_ else gc.enable)()

    def whole(self) -> None:
        """A whole state is there; it is set apart with the next `tidy`, which is after its Ack."""
        self._untidy = True

    def tidy(self) -> None:
        """Sets apart what the last whole state left."""
        if self._untidy:
            self._untidy = False
            gc.collect()
            gc.freeze()
