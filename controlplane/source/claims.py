"""The objects of all manifest files. If several files have the same object, the first file in order counts. Pure.

If an object in a file becomes unreadable, its last readable form in that file counts; other files are not affected.
`put` and `drop` return the keys whose facts may have changed, so a change costs what it touches. Owned by `manifests`.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from controlplane.facts import Fact
from controlplane.source.documents import Documents, Entry
from controlplane.source.reports import Reports
from deltaplane.model import ObjectKey


class _Claim(Struct, frozen=True):
    """One object in one file. Without a fact, the file names the object, but never had a usable form of it."""

    where: str
    fact: Fact | None
    problems: tuple[str, ...]


class _File(Struct):
    documents: dict[str, tuple[Entry, ...]]  # by text, so that an edit parses only the documents that differ
    claims: dict[ObjectKey, _Claim]
    loose: set[str]  # places with reported problems that belong to no object


class Claims:
    """All files by name. `folder` appears in reports only."""

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
        """The fact that counts for the object; None: no file has a usable one."""
        for name in sorted(self._claimants.get(key, ())):
            fact = self._files[name].claims[key].fact
            if fact is not None:
                return fact
        return None

    def documents(self, name: str) -> Mapping[str, tuple[Entry, ...]]:
        """The entries of the file's documents, by document text."""
        file = self._files.get(name)
        return {} if file is None else file.documents

    def put(self, name: str, documents: Documents) -> set[ObjectKey]:
        """Sets the file's content. Returns the keys whose facts may differ now."""
        old = self._files.get(name) or _File({}, {}, set())
        new = _File(dict(documents), {}, set())
        unidentified = False
        for number, (_, entries) in enumerate(documents, start=1):
            for entry in entries:
                unidentified |= self._add(new, old, self._where(name, number, entry), entry)
        if unidentified:  # it may be any of the file's earlier objects
            for key, claim in old.claims.items():
                new.claims.setdefault(key, claim)
        return self._exchange(name, old, new)

    def drop(self, name: str) -> set[ObjectKey]:
        """Removes the file. Returns the keys whose facts may differ now."""
        self.unreadable(name, "")
        old = self._files.get(name) or _File({}, {}, set())
        touched = self._exchange(name, old, _File({}, {}, set()))
        self._files.pop(name, None)
        return touched

    def unreadable(self, name: str, reason: str) -> None:
        """The file cannot be read, so its last content stays. An empty reason: it can be read again."""
        self._reports.record(f"{self._folder}/{name}", (reason,) if reason else ())

    def _where(self, name: str, number: int, entry: Entry) -> str:
        where = f"{self._folder}/{name} document {number}"
        return f"{where} {entry.name}" if entry.name else where

    def _add(self, new: _File, old: _File, where: str, entry: Entry) -> bool:
        """Adds the entry; returns whether it is unknown which object it is."""
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
        """Reports the problems of the key's claims; a second file's claim is a problem itself."""
        claimants = sorted(self._claimants[key])
        if not claimants:
            del self._claimants[key]
        for name in claimants:
            claim = self._files[name].claims[key]
            doubled = (f"also in {claimants[0]}, which is used",) if name != claimants[0] else ()
            self._reports.record(claim.where, claim.problems + doubled)
