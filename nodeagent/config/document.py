"""The configuration file: YAML text to values and back. Imports the YAML library only when a file is read or written.

Reading follows the API machinery: names are exact, a null counts as absent, wrong types are errors. An unknown field
and one that occurs twice (the last counts) are accepted as by kube-proxy, each with a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, get_args

import msgspec

from deltaplane import bounded
from nodeagent.config import durations
from nodeagent.config.durations import Duration, LogDuration
from nodeagent.config.schema import API_VERSION, KIND, UDP_IDLE, KubeProxyConfiguration, Section

REMOVED = {
    "resourceContainer": "kube-proxy dropped it: what contains the process is its supervisor's matter",
    "conntrack.max": "kube-proxy dropped it: the limit comes from maxPerCore and min",
}
"""Fields an old file may still have: path -> why it does nothing."""

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)|0o?[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+")
_PLACE = re.compile(r"^(.*?)(?: - at `\$(?:\.|(?=\[))?(.*?)(?:\[\.\.\.\])?`(?: in .*)?)?$", re.DOTALL)


class Unreadable(ValueError):
    """The text is not a KubeProxyConfiguration; the message names the field."""


def load(text: str) -> tuple[KubeProxyConfiguration, tuple[str, ...]]:
    """The text's configuration, without defaults, and notes on fields without effect. Raises `Unreadable`."""
    data, twice = _parse(text)
    if not isinstance(data, dict):
        raise Unreadable(f"not a mapping of fields; it starts with apiVersion: {API_VERSION}, kind: {KIND}")
    for name, wanted in (("kind", KIND), ("apiVersion", API_VERSION)):
        if data.get(name) != wanted:
            raise Unreadable(f"{name}: {data.get(name)!r} is not {wanted}")
    said = _without_nulls(data)
    removed = [f"{path}: {why}" for path, why in REMOVED.items() if _take(said, path)]
    notes = (*twice, *removed, *_take_wrong_timeout(said), *_take_unknown(said, KubeProxyConfiguration, ""))
    try:
        return msgspec.convert(said, KubeProxyConfiguration, dec_hook=_decode), notes
    except msgspec.ValidationError as error:
        raise Unreadable(_explain(str(error))) from error


def plain(configuration: KubeProxyConfiguration) -> dict[str, Any]:
    """The configuration as mappings, lists and scalars, in the file's names and without what kube-proxy leaves out."""
    data: dict[str, Any] = msgspec.to_builtins(configuration, enc_hook=str)
    for name in ("featureGates", "windowsRunAsService"):
        if not data[name]:
            del data[name]
    if configuration.udp_idle_timeout == UDP_IDLE:
        del data["udpIdleTimeout"]
    logging = data["logging"]
    if not logging["vmodule"]:
        del logging["vmodule"]
    for output in logging["options"].values():
        if not output["splitStream"]:
            del output["splitStream"]
    return data


def dump(configuration: KubeProxyConfiguration) -> str:
    """The configuration as YAML, in alphabetical order; `load` gives it back."""
    import yaml  # noqa: PLC0415 - 1.4 MB that an agent without a file does not need

    return yaml.safe_dump(plain(configuration), default_flow_style=False, allow_unicode=True)


def _parse(text: str) -> tuple[object, list[str]]:
    import yaml  # noqa: PLC0415 - as above

    twice: list[str] = []

    class Loader(yaml.SafeLoader):
        """Scalars as the API machinery reads them: no dates, no numbers to base 60. Notes keys that stand twice."""

        yaml_implicit_resolvers = {  # noqa: RUF012 - as the library has it
            first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":int"))]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                    continue
                if key.value in seen:
                    twice.append(f"line {key.start_mark.line + 1}: {key.value!r} stands twice; the last counts")
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(f"^(?:{_INTEGER.pattern})$"), list("-+0123456789"))
    try:
        return bounded.load(text, Loader), twice
    except bounded.TooMuch as error:
        raise Unreadable(f"not read: {error}") from error
    except ValueError as error:
        raise Unreadable(f"not YAML: {error}") from error


def _without_nulls(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _without_nulls(value) for name, value in data.items() if value is not None}
    return data


def _take(data: dict[str, Any], path: str) -> bool:
    """Removes the field at `path`; whether it was there."""
    *sections, name = path.split(".")
    for section in sections:
        inner = data.get(section)
        if not isinstance(inner, dict):
            return False
        data = inner
    return data.pop(name, None) is not None


def _take_wrong_timeout(data: dict[str, Any]) -> Iterator[str]:
    """A wrong `udpIdleTimeout` is accepted where it has no effect: kube-proxy removed it and does not check it."""
    value, mode = data.get("udpIdleTimeout"), data.get("mode")
    if value is not None and mode in ("nftables", "iptables", "ipvs") and not _is_period(value):
        del data["udpIdleTimeout"]
        yield f"udpIdleTimeout: {value!r} is no duration of 0s or more, ignored: it is for mode userspace"


def _is_period(value: object) -> bool:
    try:
        return isinstance(value, str) and durations.parse(value) >= 0
    except ValueError:
        return False


def _take_unknown(data: Any, kind: type[Section], at: str) -> Iterator[str]:
    """Removes what a section has no field for; a note with the path of each."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for name in [*data] if isinstance(data, dict) else ():
        path = f"{at}{name}"
        if name not in fields:
            del data[name]
            like = get_close_matches(str(name), fields, 1)
            yield f"{path}: unknown field, ignored" + (f"; is {like[0]} meant?" if like else "")
            continue
        for part, inner, where in _sections(data[name], fields[name], path):
            yield from _take_unknown(part, inner, where)


def _sections(value: Any, kind: Any, path: str) -> Iterator[tuple[Any, type[Section], str]]:
    """The sections in a field of this type: itself, or each item of a list of them."""
    if isinstance(kind, type) and issubclass(kind, Section):
        yield value, kind, f"{path}."
    for inner in get_args(kind)[:1]:
        for index, item in enumerate(value if isinstance(value, list) else ()):
            yield from _sections(item, inner, f"{path}[{index}]")


def _decode(kind: type, value: object) -> object:
    if not issubclass(kind, Duration):
        raise NotImplementedError(kind)
    if kind is LogDuration and isinstance(value, int) and not isinstance(value, bool):
        return LogDuration(value)
    if not isinstance(value, str):
        raise ValueError(f"Expected a duration such as `30s`, got `{type(value).__name__}`")  # noqa: TRY004 - msgspec's
    return kind(durations.parse(value))


def _explain(message: str) -> str:
    """msgspec's sentence with the path in front, as the file writes it."""
    match = _PLACE.match(message)
    reason, place = (match[1], match[2] or "") if match else (message, "")
    return f"{place}: {reason[:1].lower()}{reason[1:]}"
