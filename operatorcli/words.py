"""The words of a command line, as the parser takes them: options may stand before the verb, as kubectl's may. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from deltaplane.cli import COMPLETION
from deltaplane.cli.hints import near
from operatorcli.exits import Exit, Failed
from operatorcli.flags import CONNECTION

SWITCHES = {"-A", "--all-namespaces", "--no-insecure"} | {
    f"--{each.name.replace('_', '-')}" for each in CONNECTION if isinstance(each.default, bool)
}
HELP = {"-h", "--help", *COMPLETION}
TRUE, FALSE = {"true", "1", "yes", "t"}, {"false", "0", "no", "f"}


def arranged(words: Sequence[str], verbs: Collection[str]) -> list[str]:
    """The verb first, then what stood before it, then the rest. Raises `Failed` for a verb that is none."""
    before, rest = _split(words)
    if not rest or any(word in HELP for word in before):
        if before and not any(word in HELP for word in before):
            raise Failed(Exit.USAGE, f"no verb after {' '.join(before)}", "Such as: deltaplane status")
        return [*words]
    verb, *others = rest
    if verb not in verbs:
        raise Failed(Exit.USAGE, f"unknown verb {verb!r}", near(verb, verbs))
    return [verb, *map(_switch, (*before, *others))]


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options before the verb with their values, and what comes from the verb on."""
    place = 0
    while place < len(words) and words[place].startswith("-"):
        word = words[place]
        place += 1 if "=" in word or word in SWITCHES or word in HELP or _joined(word) else 2
    return list(words[:place]), list(words[place:])


def _joined(word: str) -> bool:
    """Whether a short option has its value with it: `-nshop`."""
    return not word.startswith("--") and len(word) > 2


def _switch(word: str) -> str:
    """`--insecure=true` as the parser takes it."""
    name, equals, value = word.partition("=")
    if name != "--insecure" or not equals:
        return word
    if value.lower() in TRUE:
        return name
    if value.lower() in FALSE:
        return "--no-insecure"
    raise Failed(Exit.USAGE, f"{word} is neither true nor false", "Write --insecure, or --insecure=false.")
