"""Who wants a member: the same as with a set of owners for each, in the order in which they came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.tracker import Refcounts

MEMBERS = (b"\x04a", b"\x04b", b"\x06a")
OWNERS = tuple(ObjectKey(Kind.SERVICE, "default", name) for name in "xyz")
steps = st.lists(st.tuples(st.booleans(), st.sampled_from(MEMBERS), st.sampled_from(OWNERS)), max_size=30)


def checked(counts: Refcounts[bytes], plain: dict[bytes, dict[ObjectKey, None]]) -> None:
    wanted = {member: owners for member, owners in plain.items() if owners}
    assert sorted(counts) == sorted(wanted)
    for member in MEMBERS:
        assert (member in counts) is (member in wanted)
        assert counts.first(member) == next(iter(wanted.get(member, ())), None)


@given(steps)
def test_as_a_set_of_owners_for_each(walk: list[tuple[bool, bytes, ObjectKey]]) -> None:
    counts, plain = Refcounts[bytes](), {member: dict[ObjectKey, None]() for member in MEMBERS}
    for adds, member, owner in walk:
        if adds:
            counts.add(member, owner)
            plain[member].setdefault(owner)
        else:
            counts.drop(member, owner)
            plain[member].pop(owner, None)
        checked(counts, plain)
    counts.leave_out(lambda member: member[0] == 4)
    checked(counts, {member: owners for member, owners in plain.items() if member[0] != 4})
