"""kube-proxy's configuration to the agent's that does the same, and what becomes of each setting. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct, structs

from deltaplane.flags import UsageError
from nodeagent.config import defaults, document, flags
from nodeagent.config.options import OPTIONS, Option
from nodeagent.config.schema import KubeProxyConfiguration, file_path, replaced, value_at
from nodeagent.config.settings import merged, named, problems
from nodeagent.config.validation import MODES
from nodeagent.doctor.facts import Change, KubeProxy

EVERYWHERE = ("0.0.0.0/0", "::/0")
PRIMARY = (defaults.PRIMARY,)
SAME, DIFFERENT, NONE = "same", "different", "no counterpart"
_WHY = {
    "mode": "the rules are others; Services mean the same",
    "node_port_addresses": "said in other words, since the modes have other defaults",
    "iptables.localhost_node_ports": "in this mode node ports do not answer on 127.0.0.1, as in kube-proxy's nftables",
    "ipvs.scheduler": "this mode chooses endpoints at random",
    "ipvs.strict_arp": "not needed: no Service's address is on an interface of the node",
}
_TWINS = ("masquerade_all", "masquerade_bit", "sync_period")  # fields that a section of each mode has


class BadInput(ValueError):
    """What kube-proxy was given cannot be read; the text names where it stands, the field and the reason."""


class Translation(Struct, frozen=True):
    """`theirs` is as kube-proxy runs it, defaults and all; `ours` as the agent would. `notes` are of the file."""

    theirs: KubeProxyConfiguration
    ours: KubeProxyConfiguration
    notes: tuple[str, ...] = ()


def translated(given: KubeProxy, mode: str) -> Translation:
    """Into the configuration of an agent in this mode. Raises `BadInput`."""
    said = _flags(given)
    read, notes = _file(given)
    config = merged(said, read)
    try:
        theirs = named(defaults.completed(structs.replace(config, mode=config.mode or "iptables")))  # its default
    except UsageError as error:
        raise BadInput(f"{_place(given)}: {_reason(error)}") from error
    wrong = problems(theirs)
    if wrong:
        raise BadInput(f"{_place(given)}: {'; '.join(wrong)}")
    return Translation(theirs, defaults.completed(_equivalent(theirs, mode)), notes)


def _place(given: KubeProxy) -> str:
    """Where its configuration stands."""
    return ", ".join(dict.fromkeys(word for word in (given.origin, given.file_name) if word))


def _reason(error: UsageError) -> str:
    return str(error).removeprefix("deltaplane agent: ").partition("; see ")[0]


def _flags(given: KubeProxy) -> flags.Given:
    arguments = [word for word in given.arguments if "$(" not in word]  # filled in for each node
    try:
        return flags.given(arguments)
    except UsageError as error:
        raise BadInput(f"{given.origin}, command line: {_reason(error)}") from error
    except SystemExit as error:
        raise BadInput(f"{given.origin}, command line: it asks for help or a version, and runs no proxy") from error


def _file(given: KubeProxy) -> tuple[KubeProxyConfiguration | None, tuple[str, ...]]:
    if given.file is None:
        return None, ()
    try:
        return document.load(given.file)
    except document.Unreadable as error:
        raise BadInput(f"{_place(given)}: {error}") from error


def _equivalent(theirs: KubeProxyConfiguration, mode: str) -> KubeProxyConfiguration:
    ours = structs.replace(theirs, mode=mode, node_port_addresses=_addresses(theirs, mode))
    for name in _TWINS:
        source, target = (_home(name, one) for one in (theirs.mode, mode))
        ours = replaced(ours, target, value_at(theirs, source))
    default = defaults.filled(KubeProxyConfiguration())
    for option in OPTIONS:
        if option.path and (option.idle or _of_another(option, mode)):
            ours = replaced(ours, option.path, value_at(default, option.path))
    return ours


def _of_another(option: Option, mode: str) -> bool:
    """Whether it is a field of modes that this one is not; userspace takes iptables' of masquerading."""
    if mode == "userspace" and option.path.rpartition(".")[2] in _TWINS:
        return False
    return bool(option.modes) and mode not in option.modes


def _addresses(theirs: KubeProxyConfiguration, mode: str) -> tuple[str, ...]:
    """None means the primary ones in nftables mode, and all in the others."""
    if theirs.mode != "nftables" and mode == "nftables":
        return theirs.node_port_addresses or EVERYWHERE
    return theirs.node_port_addresses


def _home(name: str, mode: str) -> str:
    """Where a mode has this field; ipvs and userspace take iptables' of masquerading."""
    section = "nftables" if mode == "nftables" else "ipvs" if mode == "ipvs" and name == "sync_period" else "iptables"
    return f"{section}.{name}"


def changes(found: Translation) -> list[Change]:
    """Every setting that counts in kube-proxy, in the order of docs/configuration.md, the mode first."""
    default = defaults.completed(structs.replace(defaults.filled(KubeProxyConfiguration()), mode=found.theirs.mode))
    mode = _change("mode", found.theirs.mode, found.ours.mode, given=True)
    return [mode, *(change for option in OPTIONS for change in _of(option, found, default))]


def _of(option: Option, found: Translation, default: KubeProxyConfiguration) -> Iterator[Change]:
    before, after = found.theirs.mode, found.ours.mode
    section = option.path.partition(".")[0]
    if not option.path or (option.modes and before not in option.modes):
        return
    if section in MODES and section != before and before not in option.modes:
        return
    theirs = value_at(found.theirs, option.path)
    given = theirs != value_at(default, option.path)
    if option.idle:
        yield _none(option.path, theirs, option.idle, given=given)
    elif option.modes and after not in option.modes:
        yield _moved(option, found, theirs, given=given)
    else:
        yield _change(option.path, theirs, value_at(found.ours, option.path), given=given)


def _moved(option: Option, found: Translation, theirs: Any, *, given: bool) -> Change:
    """A field of the mode that is left: another section has it, or nothing."""
    name = option.path.rpartition(".")[2]
    if name not in _TWINS:
        why = _WHY.get(option.path, f"it is for mode {' and '.join(option.modes)}")
        return _none(option.path, theirs, why, given=given)
    target = _home(name, found.ours.mode)
    change = _change(option.path, theirs, value_at(found.ours, target), given=given)
    return structs.replace(change, why=f"as {file_path(target)}")


def _none(path: str, theirs: Any, why: str, *, given: bool) -> Change:
    return Change(file_path(path), shown(theirs), "-", NONE, why, given)


def _change(path: str, theirs: Any, ours: Any, *, given: bool) -> Change:
    verdict = SAME if theirs == ours else DIFFERENT
    why = _WHY.get(path, "") if verdict == DIFFERENT else ""
    return Change(file_path(path), shown(theirs), shown(ours), verdict, why, given)


def shown(value: Any) -> str:
    """As the file writes it, in one line; "-": nothing."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return ",".join(map(shown, value)) or "-"
    if isinstance(value, dict):
        return ",".join(f"{name}={shown(each)}" for name, each in value.items()) or "-"
    if isinstance(value, Struct):
        return ",".join(f"{name}={shown(each)}" for name, each in structs.asdict(value).items())
    return str(value) or "-"
