"""Bytes of lists and watches to facts: typed msgspec decoding, object by object where one is malformed. Pure.

The hot path decodes an event in one pass, and only the needed fields. The slow paths exist so that one bad object
spoils neither its page nor its stream. Called by `requests` and `pages`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct, structs

from controlplane.errors import InvalidObject
from controlplane.facts import Fact
from controlplane.source.objects import Header, Metadata, Page, RawEvent, RawPage, Status, WatchEvent
from controlplane.source.translate import TYPES, Translation, key_of, translate
from deltaplane.model import Kind, ObjectKey

INITIAL_END = "k8s.io/initial-events-end"


class Malformed(Exception):
    """The text is no list or no watch event; the error says why."""


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


class Form(Struct, frozen=True):
    """How objects of one kind are read: the type to decode into, its key, and its fact. Both raise `InvalidObject`."""

    type: Any
    key: Callable[[Metadata], ObjectKey]
    translate: Callable[[Any, int], Translation]


def form_of(kind: Kind) -> Form:
    """How a Service proxy reads objects of this kind."""
    return Form(TYPES[kind], partial(key_of, kind), partial(translate, kind))


def form_beside(kind: Kind) -> Form:
    """The same beside another proxy, where a selector chose the Services.

    Which proxy they name for themselves does not count (A12). No ServiceCIDR means anything: an address in it that no
    chosen Service has may be served by the other proxy.
    """
    beside = {Kind.SERVICE: _chosen, Kind.SERVICE_CIDR: _not_ours}
    return structs.replace(form_of(kind), translate=beside.get(kind, form_of(kind).translate))


def _chosen(thing: Any, event_unix_nano: int) -> Translation:
    unlabelled = structs.replace(thing, metadata=structs.replace(thing.metadata, labels=None))
    return translate(Kind.SERVICE, unlabelled, event_unix_nano)


def _not_ours(thing: Any, event_unix_nano: int) -> Translation:
    key = key_of(Kind.SERVICE_CIDR, thing.metadata)
    return Translation(Fact(key, None, thing.metadata.resource_version, event_unix_nano), ())


class Decoder:
    """Decodes lists and events of one kind."""

    def __init__(self, form: Form) -> None:
        self._form = form
        type_: Any = form.type
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
            key = self._form.key(meta)
        except InvalidObject as error:
            raise Malformed(f"event without a name: {error}") from error
        return Item(key, Fact(key, None, meta.resource_version, event_unix_nano, deleted=True), deleted=True)

    def _item(self, thing: Any, event_unix_nano: int) -> Item:
        try:
            fact, problems = self._form.translate(thing, event_unix_nano)
        except InvalidObject as error:
            return self._unusable(thing.metadata, str(error))
        except MemoryError:  # is not the object's fault: the kind is listed again
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours with one object must not hold up its whole kind
            return self._unusable(thing.metadata, f"unforeseen: {type(error).__name__}: {error}")
        return Item(fact.key, fact, problems)

    def _unusable(self, meta: Any, reason: str) -> Item:
        try:
            key = self._form.key(meta)
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
