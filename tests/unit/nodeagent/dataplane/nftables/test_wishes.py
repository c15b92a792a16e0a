"""Who wants a member: the same as with a set of owners for each, in the order in which they came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.nftables.refcounts import Wishes

MEMBERS = (b"\x04a", b"\x04b", b"\x06a")
OWNERS = tuple(ObjectKey(Kind.SERVICE, "default", name) for name in "xyz")
steps = st.lists(st.tuples(st.booleans(), st.sampled_from(MEMBERS), st.sampled_from(OWNERS)), max_size=30)


def checked(wishes: Wishes, plain: dict[bytes, dict[ObjectKey, None]]) -> None:
    wanted = {member: owners for member, owners in plain.items() if owners}
    assert sorted(wishes) == sorted(wanted)
    for member in MEMBERS:
        assert (member in wishes) is (member in wanted)
        assert wishes.first(member) == next(iter(wanted.get(member, ())), None)


@given(steps)
def test_as_a_set_of_owners_for_each(walk: list[tuple[bool, bytes, ObjectKey]]) -> None:
    wishes, plain = Wishes(), {member: dict[ObjectKey, None]() for member in MEMBERS}
    for adds, member, owner in walk:
        if adds:
            wishes.add(member, owner)
            plain[member].setdefault(owner)
        else:
            wishes.drop(member, owner)
            plain[member].pop(owner, None)
        checked(wishes, plain)
    wishes.leave_out(4)
    checked(wishes, {member: owners for member, owners in plain.items() if member[0] != 4})
