"""Who says what: the objects of all manifest files, with the first file in order winning. Pure; owned by `manifests`.

A file that turns bad keeps what it last said of the objects that cannot be read now; other files are not touched. `put`
and `drop` give the keys whose meaning may have changed, so that a change costs what it touches.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from controlplane.facts import Fact
from controlplane.source.documents import Documents, Entry
from controlplane.source.reports import Reports
from deltaplane.model import ObjectKey


class _Claim(Struct, frozen=True):
    """What one file says of one object; without a fact: it names the object, but has never said anything usable."""

    where: str
    fact: Fact | None
    problems: tuple[str, ...]


class _File(Struct):
    documents: dict[str, tuple[Entry, ...]]  # by text, so that an edit reads only the documents that differ
    claims: dict[ObjectKey, _Claim]
    loose: set[str]  # where problems were reported that belong to no object


class Claims:
    """All files by name. `folder` only goes into reports."""

    def __init__(self, folder: str, reports: Reports) -> None:
        self._folder = folder
        self._reports = reports
        self._files: dict[str, _File] = {}
        self._claimants: dict[ObjectKey, set[str]] = {}

    @property
    def names(self) -> set[str]:
        """The files that were put and not dropped."""
        return set(self._files)

    def fact(self, key: ObjectKey) -> Fact | None:
        """What holds for the object; None: no file says anything usable of it."""
        for name in sorted(self._claimants.get(key, ())):
            fact = self._files[name].claims[key].fact
            if fact is not None:
                return fact
        return None

    def documents(self, name: str) -> Mapping[str, tuple[Entry, ...]]:
        """What the file's documents say, by their text."""
        file = self._files.get(name)
        return {} if file is None else file.documents

    def put(self, name: str, documents: Documents) -> set[ObjectKey]:
        """The file now reads so. Gives the keys it says, or said, something else of."""
        old = self._files.get(name) or _File({}, {}, set())
        new = _File(dict(documents), {}, set())
        unidentified = False
        for number, (_, entries) in enumerate(documents, start=1):
            for entry in entries:
                unidentified |= self._add(new, old, self._where(name, number, entry), entry)
        if unidentified:  # it may be any of what the file said before
            for key, claim in old.claims.items():
                new.claims.setdefault(key, claim)
        return self._exchange(name, old, new)

    def drop(self, name: str) -> set[ObjectKey]:
        """The file is gone, and what it said."""
        self.unreadable(name, "")
        old = self._files.get(name) or _File({}, {}, set())
        touched = self._exchange(name, old, _File({}, {}, set()))
        self._files.pop(name, None)
        return touched

    def unreadable(self, name: str, reason: str) -> None:
        """The file cannot be read now, so what it said stays; an empty reason takes that back."""
        self._reports.record(f"{self._folder}/{name}", (reason,) if reason else ())

    def _where(self, name: str, number: int, entry: Entry) -> str:
        where = f"{self._folder}/{name} document {number}"
        return f"{where} {entry.name}" if entry.name else where

    def _add(self, new: _File, old: _File, where: str, entry: Entry) -> bool:
        """Whether the entry says something of an object that cannot be told."""
        if entry.key is None or entry.key in new.claims:
            twice = () if entry.key is None else ("the file names this object twice; the first one is used",)
            self._reports.record(where, entry.problems + twice)
            new.loose.add(where)
            return entry.key is None and not entry.ignored
        before = old.claims.get(entry.key)
        fact = entry.fact or (before.fact if before else None)
        new.claims[entry.key] = _Claim(where, fact, entry.problems)
        return False

    def _exchange(self, name: str, old: _File, new: _File) -> set[ObjectKey]:
        self._files[name] = new
        touched = {key for key, claim in old.claims.items() if new.claims.get(key) != claim}
        touched |= new.claims.keys() - old.claims.keys()
        for key in touched:
            claimants = self._claimants.setdefault(key, set())
            (claimants.add if key in new.claims else claimants.discard)(name)
        said = {claim.where for claim in new.claims.values()} | new.loose
        for where in ({claim.where for claim in old.claims.values()} | old.loose) - said:
            self._reports.record(where, ())
        for key in touched:
            self._report(key)
        return touched

    def _report(self, key: ObjectKey) -> None:
        """A second file's claim is a problem as long as the first one stands."""
        claimants = sorted(self._claimants[key])
        if not claimants:
            del self._claimants[key]
        for name in claimants:
            claim = self._files[name].claims[key]
            doubled = (f"also in {claimants[0]}, which is used",) if name != claimants[0] else ()
            self._reports.record(claim.where, claim.problems + doubled)
