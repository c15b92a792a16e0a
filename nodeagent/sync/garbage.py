"""When Python's garbage collector runs: not while a whole state comes in, and never again over what that left."""

from __future__ import annotations

import gc


class Garbage:
    """A snapshot's objects live long; later collections need not visit them. `untidy`: a whole state has come in."""

    def __init__(self) -> None:
        self.untidy = False

    def pause(self, *, while_: bool) -> None:
        """Collects nothing while this is so."""
        (gc.disable if while_ else gc.enable)()

    def whole(self) -> None:
        """A whole state is in the kernel. `tidy` takes it out of later collections, after its Ack."""
        self.untidy = True

    def tidy(self) -> None:
        """Takes what the last whole state left out of later collections."""
        if self.untidy:
            self.untidy = False
            gc.collect()
            gc.freeze()
