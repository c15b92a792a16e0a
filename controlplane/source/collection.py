"""The known state of one collection of the API: the last good fact of each object, and the version to watch from.

`reflector` owns it, passes in lists and events, and passes on the changes. An object that becomes unusable keeps its
last good fact, also over a relist. No I/O: problems go to a `Reporter`.
"""

from __future__ import annotations

from collections.abc import Callable

from controlplane.facts import Fact, Reporter
from controlplane.source import history
from controlplane.source.brake import RELIST_SECONDS, Brake, Doubtful
from controlplane.source.decode import DecodedEvent, Item
from controlplane.source.reports import Reports
from controlplane.store import number_of
from deltaplane.model import ObjectKey

Items = dict[ObjectKey, Item]
Good = dict[ObjectKey, Fact]


class Collection:
    """`version` is empty if a list is needed first. `where` names the collection in error texts.

    `doubt`: for how many seconds lists must lack most objects before these count as deleted.
    """

    def __init__(self, where: Callable[[], str], reporter: Reporter, doubt: float) -> None:
        self.version = ""
        self.good: Good = {}
        self.complete = False  # its first list has been passed on
        self._where, self._doubt = where, doubt
        self._brake = Brake(doubt)
        self._reports = Reports(reporter)
        self._initial: Items | None = None

    # ------------------------------------------------------------ a list that comes as events

    @property
    def listing(self) -> bool:
        """Whether the current events are the initial ones of a WatchList: in no order, until the end bookmark."""
        return self._initial is not None

    def begin_list(self) -> None:
        """The next events are the initial ones of a WatchList."""
        self._initial = {}

    def end_list(self) -> Items:
        """Ends the list; returns the objects that arrived."""
        items, self._initial = self._initial or {}, None
        return items

    # ------------------------------------------------------------ events

    def take(self, received: DecodedEvent, facts: list[Fact]) -> bool:
        """Takes one event and appends its fact to `facts`, if it changes one. Returns whether it ends a list.

        Raises `history.Lost` before anything has changed.
        """
        if self._initial is not None:
            self._take_initial(received.item, self._initial)
            return received.initial_end
        self.sound(received.version, self.version)
        if received.item is not None:
            self._change(received.item, facts)
        self.version = received.version or self.version
        return False

    def _take_initial(self, item: Item | None, initial: Items) -> None:
        if item is None:
            return
        if item.deleted:
            initial.pop(item.key, None)
        else:
            initial[item.key] = item

    def _change(self, item: Item, facts: list[Fact]) -> None:
        self._reports.record(str(item.key), item.problems)
        if item.fact is None:
            return  # unusable: the last good state stays
        if item.fact.object is None:
            self.good.pop(item.key, None)
        else:
            self.good[item.key] = item.fact
        facts.append(item.fact)

    def sound(self, version: str, known: str = "") -> str:
        """Returns the version if a watch can start from it, after `known`. Raises `history.Lost` if not."""
        try:
            history.check(version, known)
        except history.Lost as error:
            raise history.Lost(f"{self._where()}: {error}") from None
        return version

    # ------------------------------------------------------------ a list as a whole

    def weigh(self, items: Items, now: float) -> int:
        """Checks a list against the safety brake (S7); `now` in monotonic seconds.

        Raises `Doubtful` if the list lacks too many of the known objects, until lists have agreed for long enough. Then
        it returns how many are gone; otherwise 0.
        """
        known, gone = len(self.good), sum(key not in items for key in self.good)
        if self._brake.holds(known, gone, now):
            text = f"it lacks {gone} of {known} objects; what is known stays until lists agree for {self._doubt} s"
            raise Doubtful(text, retry_after=RELIST_SECONDS)
        return gone if self._brake.lists else 0

    def usable(self, items: Items) -> Good:
        """The facts after the list, with the last good one of each unusable object. Reports the problems."""
        for item in items.values():
            self._reports.record(str(item.key), item.problems)
        self._reports.retain({str(key) for key in items})
        facts = [self.good.get(key) if item.fact is None else item.fact for key, item in items.items()]
        return {fact.key: fact for fact in facts if fact is not None and fact.object is not None}

    def settle(self, good: Good, version: str) -> None:
        """Sets the state after a list."""
        self.good, self.version = good, version


def oldest_first(good: Good) -> list[Fact]:
    """The facts in the order of their resourceVersions."""
    return sorted(good.values(), key=lambda fact: number_of(fact.resource_version))
