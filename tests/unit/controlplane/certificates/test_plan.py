"""Which CA signs, is stored and is published, after any sequence of crashes, edits, races and wrong clocks."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controlplane.certificates import plan
from controlplane.certificates.values import Authority, Bundle, Leaf, Seen
from tests.unit.controlplane.certificates.world import DAY, STEP, TIMES, Replica, World, ca


@pytest.fixture
def world() -> World:
    made = World((0.0, 0.0))
    made.run(1, 1.0)
    return made


def signers(world: World) -> list[str | None]:
    return [replica.leaf.signer if replica.leaf else None for replica in world.replicas]


def test_from_nothing_one_authority_is_made_published_and_only_then_signs() -> None:
    world = World()
    (replica,) = world.replicas

    replica.look()
    replica.write()
    assert (len(world.authorities), world.bundle.roots) == (1, ())
    replica.look()
    assert signers(world) == [None]
    replica.write()
    assert world.bundle.roots == (world.authorities[0].root,)
    assert signers(world) == [None]
    replica.look()
    assert signers(world) == [world.authorities[0].name]


def test_of_two_replicas_that_race_one_writes(world: World) -> None:
    new = World((0.0, 0.0))
    for replica in new.replicas:
        replica.look()
    for replica in new.replicas:
        replica.write()
    new.run(1, 1.0)

    assert (new.secret_writes, len(new.authorities)) == (1, 1)
    assert signers(new) == [new.authorities[0].name] * 2


def test_nothing_is_written_while_nothing_is_due(world: World) -> None:
    before = world.secret_version, world.bundle_version
    world.run(100)

    assert (world.secret_version, world.bundle_version) == before


def test_a_certificate_is_renewed_at_two_thirds_of_its_life(world: World) -> None:
    (first, _) = (replica.leaf for replica in world.replicas)
    assert first is not None
    world.run(int((TIMES.leaf * 2 / 3 - DAY) / STEP))
    assert world.replicas[0].leaf == first
    world.run(int(DAY / STEP) + 1)
    (second, _) = (replica.leaf for replica in world.replicas)

    assert second is not None
    assert second.ends > first.ends


def test_the_next_authority_is_published_for_a_day_before_it_signs(world: World) -> None:
    (old,) = world.authorities
    while len(world.authorities) == 1:
        world.run(1)
    new = world.authorities[-1]
    assert world.now < old.ends - TIMES.authority / 4
    published = world.now
    while signers(world) != [new.name] * 2:
        assert signers(world) == [old.name] * 2
        world.run(1)

    assert world.now - published >= TIMES.lead
    assert world.now < old.ends - TIMES.authority / 5


def test_a_root_is_published_until_it_has_ended(world: World) -> None:
    (old,) = world.authorities
    while world.now < old.ends:
        assert old.root in world.bundle.roots
        world.run(1)
    world.run(2)

    assert old.root not in world.bundle.roots
    assert old not in world.authorities


def test_beside_an_authority_that_ends_too_soon_to_sign_another_is_made_at_once() -> None:
    """Put there by somebody: it has less left than clocks may differ by, and two thirds of its life are not over."""
    world = World()
    short = ca("short", world.now - 180.0, world.now + 180.0)
    world.edit_secret((short,), whole=True)

    world.run(2, 1.0)

    assert [one.name for one in world.authorities] == ["short", "ca-1"]
    assert signers(world) == ["ca-1"]


def test_a_deleted_secret_is_written_again_from_memory(world: World) -> None:
    before, served = world.authorities, signers(world)
    world.edit_secret((), whole=False)
    world.run(1, 1.0)

    assert (world.authorities, signers(world)) == (before, served)


def test_a_replica_without_memory_waits_for_one_that_remembers(world: World) -> None:
    before = world.authorities
    one, other = world.replicas
    world.edit_secret((), whole=False)
    one.crash()
    one.turn()
    assert world.authorities == ()
    other.turn()
    one.turn()

    assert world.authorities == before


def test_where_nobody_remembers_the_lost_key_another_authority_is_made(world: World) -> None:
    (old,) = world.authorities
    world.edit_secret((), whole=False)
    for replica in world.replicas:
        replica.crash()
    world.run(5, TIMES.look)
    (new,) = world.authorities

    assert new != old
    assert signers(world) == [new.name] * 2
    assert {old.name, new.name} == {root.name for root in world.bundle.roots}


def test_what_is_served_stays_while_another_replicas_authority_is_not_long_published(world: World) -> None:
    (old,) = world.authorities
    new = ca("new", world.now, world.now + TIMES.authority)
    world.edit_secret((new,), whole=True)
    world.run(3)
    assert signers(world) == [old.name] * 2
    world.run(2)

    assert signers(world) == [new.name] * 2


def test_a_root_that_is_taken_out_while_a_replica_serves_by_it_comes_back(world: World) -> None:
    (old,) = world.authorities
    world.edit_secret((ca("new", world.now, world.now + TIMES.authority),), whole=True)
    world.run(1, 1.0)
    world.edit_bundle(
        Bundle(tuple(root for root in world.bundle.roots if root != old.root), world.bundle.since), whole=True
    )
    world.run(1, 1.0)

    assert signers(world) == [old.name] * 2
    assert old.root in world.bundle.roots


def test_a_root_that_nobody_serves_by_any_more_can_be_taken_out(world: World) -> None:
    (old,) = world.authorities
    world.edit_secret((ca("new", world.now, world.now + TIMES.authority),), whole=True)
    world.run(10)
    world.edit_bundle(
        Bundle(tuple(root for root in world.bundle.roots if root != old.root), world.bundle.since), whole=True
    )
    world.run(10)

    assert signers(world) == ["new"] * 2
    assert old.root not in world.bundle.roots


def test_an_operator_may_ask_for_another_authority(world: World) -> None:
    (old,) = world.authorities
    world.renew = True
    world.secret_version += 1
    world.run(1, 1.0)

    assert len(world.authorities) == 2
    assert not world.renew
    assert signers(world) == [old.name] * 2
    world.run(5)
    assert signers(world) == [world.authorities[-1].name] * 2


def test_a_request_for_another_authority_ends_where_there_are_too_many(world: World) -> None:
    for _ in range(20):
        world.renew = True
        world.secret_version += 1
        world.run(1, 1.0)

    assert len(world.authorities) == plan.MOST
    assert not world.renew


@pytest.mark.parametrize("since", [{}, {"ca-1": 9e12}])
def test_an_authority_without_a_believable_date_of_publication_is_published_from_now_on(
    world: World, since: dict[str, float]
) -> None:
    world.edit_bundle(Bundle(world.bundle.roots, since), whole=True)
    world.run(1, 1.0)

    assert world.bundle.since == {"ca-1": world.now}
    assert signers(world) == ["ca-1"] * 2


def test_a_certificate_counts_no_longer_than_its_authority_and_is_not_made_again_for_nothing() -> None:
    end = 100 * DAY
    by = ca("old", 0.0, end)
    now = end - 2 * DAY
    leaf = Leaf("", "", "old", *plan.leaf_times(by, TIMES, now))

    assert leaf.ends == end
    assert not plan.leaf_due(leaf, by, end - 0.1 * DAY)


def test_a_clock_that_was_wrong_and_is_put_right_gets_a_certificate_for_now() -> None:
    by = ca("a", 0.0, 1000 * DAY)
    ahead = Leaf("", "", "a", *plan.leaf_times(by, TIMES, 500 * DAY))

    assert plan.leaf_due(ahead, by, 400 * DAY)


def test_an_authority_of_the_future_does_not_sign_and_does_not_count_as_one() -> None:
    now = 1_800_000_000.0
    future = ca("future", now + 30 * DAY, now + 500 * DAY)
    seen = Seen((future,), secret_whole=True, bundle=Bundle((future.root,), {"future": 0.0}), bundle_whole=True)
    memory = plan.Memory((future,), missed=1e6)

    assert plan.signer(seen, memory, TIMES, now) is None
    assert plan.decide(seen, memory, TIMES, now).make


class Sequences(RuleBasedStateMachine):
    """Three replicas whose clocks differ as much as they may, under everything that can happen to them."""

    which = st.integers(0, 2)

    def __init__(self) -> None:
        super().__init__()
        half = TIMES.skew / 2
        self.world = World((-half, 0.0, half))
        self.world.run(1, 60.0)
        self.edited = self.lost = 0.0  # when the bundle was last edited by others; when keys could be lost

    def replica(self, which: int) -> Replica:
        return self.world.replicas[which]

    # ------------------------------------------------------------ what replicas do

    @rule(which=which)
    def look(self, which: int) -> None:
        self.replica(which).look()

    @rule(which=which)
    def write(self, which: int) -> None:
        self.replica(which).write()

    @rule(which=which)
    def crash(self, which: int) -> None:
        self.replica(which).crash()
        if not self.world.secret_whole or not self.world.authorities:  # then its memory may be the last that has a key
            self.lost = self.world.now

    @rule(which=which)
    def cut_off(self, which: int) -> None:
        self.replica(which).partitioned = True

    @rule(steps=st.integers(1, 200))
    def time_passes(self, steps: int) -> None:
        for replica in self.world.replicas:
            replica.partitioned = False
        self.world.run(1, TIMES.look)  # no replica sleeps for hours: each looks soon after whatever happened
        for _ in range(steps):
            self.world.run(1)
            self.agents_of_every_age_believe()

    @rule(which=which, steps=st.integers(1, 40))
    def time_passes_without_one(self, which: int, steps: int) -> None:
        for replica in self.world.replicas:
            replica.partitioned = replica is self.replica(which)
        self.world.run(1, TIMES.look)
        self.world.run(steps)

    # ------------------------------------------------------------ what others do

    @rule()
    def delete_the_secret(self) -> None:
        self._damage((), whole=False)

    @rule()
    def empty_the_secret(self) -> None:
        self._damage((), whole=True)

    def _damage(self, left: tuple[Authority, ...], *, whole: bool) -> None:
        self.world.edit_secret(left, whole=whole)
        if not any(replica.memory.authorities and not replica.partitioned for replica in self.world.replicas):
            self.lost = self.world.now

    @rule(data=st.data())
    def damage_one_authority(self, data: st.DataObject) -> None:
        if self.world.authorities:
            gone = data.draw(st.sampled_from(self.world.authorities))
            self._damage(tuple(one for one in self.world.authorities if one != gone), whole=False)

    @rule()
    def ask_for_another(self) -> None:
        self.world.renew = True
        self.world.secret_version += 1

    @rule(whole=st.booleans())
    def delete_the_bundle(self, whole: bool) -> None:
        self.world.edit_bundle(Bundle(), whole=whole)
        self.edited = self.world.now

    @rule(data=st.data())
    def take_a_root(self, data: st.DataObject) -> None:
        if self.world.bundle.roots:
            gone = data.draw(st.sampled_from(self.world.bundle.roots))
            roots = tuple(root for root in self.world.bundle.roots if root != gone)
            self.world.edit_bundle(Bundle(roots, self.world.bundle.since), whole=True)
            self.edited = self.world.now

    @rule(since=st.sampled_from([0.0, 9e12]))
    def forget_when_roots_were_published(self, since: float) -> None:
        said = {root.name: since for root in self.world.bundle.roots if since}
        self.world.edit_bundle(Bundle(self.world.bundle.roots, said), whole=True)

    # ------------------------------------------------------------ what always holds

    @invariant()
    def agents_of_every_age_believe(self) -> None:
        world = self.world
        for replica in world.replicas:
            if replica.leaf is None or replica.partitioned:
                continue
            assert replica.leaf.begins <= world.now - TIMES.skew / 2
            for lag in (0.0, TIMES.lead / 4, TIMES.lead / 2):
                if world.now - lag <= max(self.edited, self.lost + TIMES.lead * 2) and max(self.edited, self.lost):
                    continue
                names = world.believed(lag)
                assert not names or replica.leaf.signer in names

    @rule()
    def whatever_happened_it_is_mended_within_a_few_looks(self) -> None:
        for replica in self.world.replicas:
            replica.partitioned = False
        self.world.run(6, TIMES.look)
        world = self.world
        assert world.secret_whole
        assert world.authorities
        assert world.bundle_whole
        published = {root.name for root in world.bundle.roots}
        for replica in world.replicas:
            assert replica.leaf is not None
            assert replica.leaf.signer in published
            assert replica.leaf.ends > world.now
        before = world.secret_version, world.bundle_version
        world.run(2, TIMES.look)
        assert before == (world.secret_version, world.bundle_version)


Sequences.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestAnySequence = Sequences.TestCase
