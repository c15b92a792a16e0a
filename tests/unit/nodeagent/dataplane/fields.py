"""Texts and addresses in values of msgspec and named tuples: those that types declare, and those that a value has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct, inspect, structs
from msgspec.structs import replace

Path = tuple[int | str, ...]
Field = tuple[str, ...]  # names alone: what stands in a tuple is one field, however many there are


def declared(kind: Any) -> set[Field]:
    """Every field in a type, the inner ones too, that is text or bytes."""
    return set(_declared(inspect.type_info(kind)))


def _declared(kind: inspect.Type, here: Field = ()) -> Iterator[Field]:
    if isinstance(kind, (inspect.StrType, inspect.BytesType)):
        yield here
    elif isinstance(kind, (inspect.StructType, inspect.NamedTupleType, inspect.DataclassType)):
        for field in kind.fields:
            yield from _declared(field.type, (*here, field.name))
    elif isinstance(kind, inspect.VarTupleType):
        yield from _declared(kind.item_type, here)
    elif isinstance(kind, (inspect.TupleType, inspect.UnionType)):
        for each in kind.item_types if isinstance(kind, inspect.TupleType) else kind.types:
            yield from _declared(each, here)
    elif not isinstance(
        kind, (inspect.IntType, inspect.EnumType, inspect.BoolType, inspect.NoneType, inspect.CustomType)
    ):
        raise TypeError(f"{'.'.join(here)}: nobody says here how to walk {kind}")


def leaves(value: Any, here: Path = ()) -> Iterator[tuple[Path, str | bytes]]:
    """Every text and every address in a value, with where it stands."""
    if isinstance(value, (str, bytes)):
        yield here, value
    elif isinstance(value, Struct):
        for field in structs.fields(value):
            yield from leaves(getattr(value, field.name), (*here, field.name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from leaves(item, (*here, index))


def filled(value: Any, here: Field = ()) -> Iterator[Field]:
    """The fields of a value that have a text or an address, and not an empty one."""
    if isinstance(value, (str, bytes)) and value:
        yield here
    elif isinstance(value, Struct):
        for field in structs.fields(value):
            yield from filled(getattr(value, field.name), (*here, field.name))
    elif hasattr(value, "_asdict"):
        for name, item in value._asdict().items():
            yield from filled(item, (*here, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from filled(item, here)


def put(value: Any, path: Path, new: Any) -> Any:
    """A copy with this at the place."""
    if not path:
        return new
    step, *rest = path
    if isinstance(step, str):
        return replace(value, **{step: put(getattr(value, step), tuple(rest), new)})
    items = [put(item, tuple(rest), new) if index == step else item for index, item in enumerate(value)]
    return value._make(items) if hasattr(value, "_make") else tuple(items)


def hostile(value: Any, path: Path, text: str) -> Any:
    """The value with the text in that field: appended to what is there, or alone where it brings its own address.

    A zone goes in front of the prefix length.
    """
    before = dict(leaves(value))[path]
    if isinstance(before, bytes):
        return put(value, path, text.encode("utf-8", "surrogatepass"))
    if text.startswith("%") and "/" in before:
        return put(value, path, before.replace("/", f"{text}/"))
    return put(value, path, text if text.startswith(("fe80", "10.")) else before + text)
