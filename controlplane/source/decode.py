"""Bytes of lists and watches to facts: typed msgspec decoding, object by object where one is malformed. Pure.

The hot path decodes an event in one pass into the needed fields only; the slow paths behind it exist so that one bad
object spoils neither its page nor its stream. Called by `reflector`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from controlplane.errors import InvalidObject
from controlplane.facts import Fact
from controlplane.source.objects import Header, Page, RawEvent, RawPage, Status, WatchEvent
from controlplane.source.translate import TYPES, key_of, translate
from deltaplane.model import Kind, ObjectKey

INITIAL_END = "k8s.io/initial-events-end"


class Malformed(Exception):
    """Not a list or not a watch event at all; the text says why."""


class Item(Struct, frozen=True, gc=False):
    """One object as received. `fact` is None when it cannot be used; `problems` then says why."""

    key: ObjectKey
    fact: Fact | None
    problems: tuple[str, ...] = ()
    deleted: bool = False


class DecodedPage(Struct, frozen=True):
    """`continue_token` is empty on the last page."""

    items: list[Item]
    version: str
    continue_token: str


class DecodedEvent(Struct, frozen=True, gc=False):
    """One of: an item, a status (ERROR), or only a version (BOOKMARK)."""

    version: str = ""
    item: Item | None = None
    status: Status | None = None
    initial_end: bool = False


class Decoder:
    """For one kind."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        type_: Any = TYPES[kind]
        self._object = msgspec.json.Decoder(type_)
        self._event = msgspec.json.Decoder(WatchEvent[type_])
        self._page = msgspec.json.Decoder(Page[type_])
        self._raw_event = msgspec.json.Decoder(RawEvent)
        self._raw_page = msgspec.json.Decoder(RawPage)
        self._header = msgspec.json.Decoder(Header)

    def event(self, line: bytes, event_unix_nano: int) -> DecodedEvent:
        """One line of a watch. Raises `Malformed`."""
        try:
            received = self._event.decode(line)
        except msgspec.ValidationError as error:
            return self._event_with_bad_object(line, error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(f"event is not JSON: {error}") from error
        meta = received.object.metadata
        if received.type == "BOOKMARK":
            return DecodedEvent(meta.resource_version, initial_end=(meta.annotations or {}).get(INITIAL_END) == "true")
        if received.type == "ERROR":
            return self._refusal(line)
        if received.type == "DELETED":
            return DecodedEvent(meta.resource_version, self._gone(meta, event_unix_nano))
        return DecodedEvent(meta.resource_version, self._item(received.object, event_unix_nano))

    def _refusal(self, line: bytes) -> DecodedEvent:
        try:
            return DecodedEvent(status=self._status(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(f"error event cannot be read: {error}") from error

    def _status(self, line: bytes) -> Status:
        return msgspec.json.decode(self._raw_event.decode(line).object, type=Status)

    def _gone(self, meta: Any, event_unix_nano: int) -> Item:
        try:
            key = key_of(self._kind, meta)
        except InvalidObject as error:
            raise Malformed(f"event without a name: {error}") from error
        return Item(key, Fact(key, None, meta.resource_version, event_unix_nano, deleted=True), deleted=True)

    def _item(self, thing: Any, event_unix_nano: int) -> Item:
        try:
            fact, problems = translate(self._kind, thing, event_unix_nano)
        except InvalidObject as error:
            return self._unusable(thing.metadata, str(error))
        except Exception as error:  # noqa: BLE001 - a fault of ours with one object must not hold up its whole kind
            return self._unusable(thing.metadata, f"unforeseen: {type(error).__name__}: {error}")
        return Item(fact.key, fact, problems)

    def _unusable(self, meta: Any, reason: str) -> Item:
        try:
            key = key_of(self._kind, meta)
        except InvalidObject as error:
            raise Malformed(f"object without a name: {error}") from error
        return Item(key, None, (reason.removeprefix(f"{key}: "),))

    def _event_with_bad_object(self, line: bytes, cause: msgspec.ValidationError) -> DecodedEvent:
        try:
            raw = self._raw_event.decode(line)
            if raw.type == "ERROR":
                return DecodedEvent(status=self._status(line))
            meta = self._header.decode(raw.object).metadata
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(f"event cannot be read: {error}") from error
        if raw.type == "DELETED":
            return DecodedEvent(meta.resource_version, self._gone(meta, 0))
        return DecodedEvent(meta.resource_version, self._unusable(meta, field_path(cause, "$.object")))

    def page(self, body: bytes, event_unix_nano: int) -> DecodedPage:
        """One page of a list. Raises `Malformed`."""
        try:
            page: Page[Any] = self._page.decode(body)
            items = [self._item(thing, event_unix_nano) for thing in page.items or ()]
        except msgspec.ValidationError:
            return self._page_with_bad_object(body, event_unix_nano)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(f"list is not JSON: {error}") from error
        return DecodedPage(items, page.metadata.resource_version, page.metadata.continue_ or "")

    def _page_with_bad_object(self, body: bytes, event_unix_nano: int) -> DecodedPage:
        try:
            page = self._raw_page.decode(body)
            items = [self._raw_item(raw, event_unix_nano) for raw in page.items or ()]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Malformed(f"list cannot be read: {error}") from error
        return DecodedPage(items, page.metadata.resource_version, page.metadata.continue_ or "")

    def _raw_item(self, raw: msgspec.Raw, event_unix_nano: int) -> Item:
        try:
            return self._item(self._object.decode(raw), event_unix_nano)
        except msgspec.ValidationError as error:
            return self._unusable(self._header.decode(raw).metadata, field_path(error, "$"))


def field_path(error: msgspec.ValidationError, root: str) -> str:
    """`Expected `int`, got `str` - at `$.spec.x`` as `spec.x: expected int, got str`."""
    reason, _, path = str(error).partition(" - at `")
    field = path.rstrip("`").removeprefix(root).lstrip(".")
    reason = reason.replace("`", "")
    return f"{field}: {reason[:1].lower()}{reason[1:]}" if field else reason
