"""Flags and fields that were set and have no effect, one line each with the reason; logged once at the start."""

from __future__ import annotations

from collections.abc import Iterator

from nodeagent.config import flags
from nodeagent.config.defaults import filled
from nodeagent.config.options import OPTIONS, PORTS, Option
from nodeagent.config.schema import KubeProxyConfiguration, file_path, value_at


def notes(config: KubeProxyConfiguration, said: flags.Given, removed: tuple[str, ...] = ()) -> tuple[str, ...]:
    """A blank mode is not chosen yet: what belongs to one mode may still count.

    `removed` are notes on fields that only earlier versions of kube-proxy had.
    """
    from_file = bool(said.get("config"))
    found = list(removed)
    if from_file:
        found += [f"--{flag}: ignored, since --config is given" for flag in flags.ignored_with_file(said)]
    found += [
        f"--{flag}: deprecated; --{path.replace('_', '-')} says it" for flag, path in PORTS.items() if flag in said
    ]
    found += _idle(config, said, from_file=from_file)
    if config.mode not in ("userspace", ""):
        reason = f"it is for mode userspace, and the mode is {config.mode}"
        found += [f"--{flag}: does nothing: {reason}" for flag in flags.LIMITS if flag in said]
    return tuple(found)


def _idle(config: KubeProxyConfiguration, said: flags.Given, *, from_file: bool) -> Iterator[str]:
    default = filled(KubeProxyConfiguration())
    for option in OPTIONS:
        reason = _reason(option, config.mode)
        if not reason:
            continue
        if option.flag in said and not (from_file and option.path) and not _shared(option, config.mode):
            yield f"--{option.flag}: does nothing: {reason}"
        elif from_file and option.path and value_at(config, option.path) != value_at(default, option.path):
            yield f"{file_path(option.path)}: does nothing: {reason}"


def _reason(option: Option, mode: str) -> str:
    if option.idle:
        return option.idle
    if mode and option.modes and mode not in option.modes:
        return f"it is for mode {' and '.join(option.modes)}, and the mode is {mode}"
    return ""


def _shared(option: Option, mode: str) -> bool:
    """Whether the flag sets a field of this mode as well, and so does something."""
    path = flags.SHARED.get(option.flag, "")
    return not option.idle and path.startswith(mode) and not any(each.idle for each in OPTIONS if each.path == path)
