"""Which objects `get` is asked for: `svc`, `svc web db`, `svc shop/web`, `svc/web node/a`. Pure; raises `Failed`."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from operatorcli import names
from operatorcli.exits import Exit, Failed

ENDPOINTS = ("endpoints", "ep", "endpoint")
NEAREST = {
    **dict.fromkeys(("pod", "pods", "po"), "`deltaplane get endpoints NAME` lists a Service's pods."),
    **dict.fromkeys(("event", "events", "ev"), "`deltaplane watch` shows changes, `deltaplane status` what is wrong."),
    "all": "`deltaplane get svc -A` lists Services, `deltaplane nodes` node agents.",
}  # what of kubectl's has something near here
KINDS = "Kinds are svc, endpoints and node (kubectl has all others)."


class Target(Struct, frozen=True):
    """`kind`: an EndpointSlice stands for a Service's endpoints. No name: all. No namespace: it was not given."""

    kind: int
    namespace: str = ""
    name: str = ""


def parsed(words: Sequence[str]) -> list[Target]:
    """At least one; all of one kind where none is named."""
    first, *rest = words
    if "/" in first:
        return [_of(*word.split("/")) if "/" in word else _nameless(word) for word in words]
    number = kind(first)
    return [_of(first, *word.split("/")) for word in rest] or [Target(number)]


def kind(word: str) -> int:
    """Its number on the wire."""
    number = names.SLICE if word.lower() in ENDPOINTS else names.KINDS.get(word.lower(), 0)
    if not number:
        raise Failed(
            Exit.USAGE, f"there is no kind {word!r}", " ".join(filter(None, (NEAREST.get(word.lower()), KINDS)))
        )
    return number


def _of(word: str, *rest: str) -> Target:
    number = kind(word)
    if rest and rest[0].lower() in (*names.KINDS, *ENDPOINTS) and kind(rest[0]) == number and len(rest) > 1:
        rest = rest[1:]  # svc svc/web
    if not 1 <= len(rest) <= (1 if number == names.NODE else 2) or not all(rest):
        form = "node/NAME" if number == names.NODE else f"{word}/NAME or {word}/NAMESPACE/NAME"
        raise Failed(Exit.USAGE, f"{'/'.join((word, *rest))} is not {form}", "Or the kind, and then names.")
    space = names.named(rest[0]) if len(rest) == 2 else ""
    return Target(number, space, names.named(rest[-1]))


def _nameless(word: str) -> Target:
    raise Failed(Exit.USAGE, f"{word} after KIND/NAME", "Write the kind before each name, or once before all of them.")
