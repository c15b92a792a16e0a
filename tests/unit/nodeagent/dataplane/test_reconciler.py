"""What the reconciler does for every driver: on a driver whose kernel is a dict."""

from __future__ import annotations

import pytest

from deltaplane.forwarding import (
    Entry,
    Frontend,
    FrontendKind,
    Masquerade,
    NodeForwarding,
    ServiceForwarding,
    Target,
    Verdict,
)
from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.api import Dataplane, Driver
from nodeagent.dataplane.outcome import Commit, Drifted
from nodeagent.dataplane.reconciler import READINGS, Reconciler
from nodeagent.dataplane.tracker import NODE
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from tests.fakes.driver import MemoryDriver, key_of

HERE = NodeForwarding((), pod_cidrs=("10.180.1.0/24",))


def entry(number: int, port: int = 1, *, family: int = 4, address: bytes | None = None) -> Entry:
    """A ClusterIP that leads to this port of an endpoint."""
    packed = bytes((172, 30, 0, number)) if family == 4 else bytes(15) + bytes((number,))
    frontend = Frontend(FrontendKind.CLUSTER_IP, family, packed if address is None else address, 6, 80)
    return Entry(frontend, "p", (Target(bytes((10, 0, 0, 1)), port),), Verdict.FORWARD, Masquerade.OFF_CLUSTER)


def service(name: str, *entries: Entry) -> ServiceForwarding:
    return ServiceForwarding(ObjectKey(Kind.SERVICE, "n", name), entries)


def bad(name: str) -> ServiceForwarding:
    """One that no kernel can hold."""
    return service(name, entry(1, 9), entry(2, address=b"\1\2"))


def started(driver: MemoryDriver) -> Reconciler[int]:
    made = Reconciler[int](driver)
    made.start()
    driver.calls.clear()
    return made


def failures(commit: Commit) -> list[tuple[str, str]]:
    return [(failed.key.name or "node", failed.code) for failed in commit.failed]


A, B = service("a", entry(1)), service("b", entry(2))
KEY_A, KEY_B = (key_of(one.entries[0]) for one in (A, B))


@pytest.fixture
def driver() -> MemoryDriver:
    return MemoryDriver()


def test_it_is_a_dataplane_by_any_driver(driver: MemoryDriver) -> None:
    anyone: Driver[int] = driver
    made: Dataplane = Reconciler(anyone)
    made.start()
    assert (made.mode, made.adopted, made.fileno()) == ("memory", False, -1)
    made.close()
    assert not driver.opened


# ---------------------------------------------------------------- what is wanted


def test_one_write_says_what_is_wanted_and_the_same_again_writes_nothing(driver: MemoryDriver) -> None:
    made = started(driver)
    assert made.apply([A, B], HERE).messages == 3
    assert made.apply([A, B], HERE).messages == 0
    assert driver.calls == ["write", "write"]
    assert set(driver.kernel) == {KEY_A, KEY_B, "node"}


def test_one_bad_object_is_its_own_failure_and_its_last_form_stays(driver: MemoryDriver) -> None:
    made = started(driver)
    made.apply([A])
    before = driver.kernel[KEY_A]
    done = made.apply([bad("a"), B])
    assert failures(done) == [("a", "INVALID_OBJECT")]
    assert "n/a" in done.failed[0].text
    assert driver.kernel[KEY_A] == before
    assert KEY_B in driver.kernel
    assert made.pending()
    assert failures(made.apply([])) == [("a", "INVALID_OBJECT")]
    assert made.apply([A]).failed == ()
    assert not made.pending()


def test_a_bad_object_that_is_gone_is_no_failure_any_more(driver: MemoryDriver) -> None:
    made = started(driver)
    made.apply([bad("a"), B])
    assert made.apply([B], complete=True).failed == ()
    assert not made.pending()


def test_what_is_wrong_with_the_node_is_the_nodes_failure_and_holds_no_service(driver: MemoryDriver) -> None:
    made = started(driver)
    done = made.apply([A], NodeForwarding((), pod_cidrs=("",)))
    assert [(failed.key, failed.code) for failed in done.failed] == [(NODE, "INVALID_OBJECT")]
    assert set(driver.kernel) == {KEY_A}
    assert failures(made.apply([A], complete=True)) == [("node", "INVALID_OBJECT")]  # nobody took it back
    assert made.apply([], HERE).failed == ()


def test_a_refused_object_does_not_hold_others_and_is_tried_again(driver: MemoryDriver) -> None:
    driver.refusing = {KEY_A}
    made = started(driver)
    assert failures(made.apply([A, B])) == [("a", "KERNEL_REJECTED")]
    assert set(driver.kernel) == {KEY_B}
    assert made.pending()
    driver.refusing = set()
    assert made.apply([]).failed == ()
    assert set(driver.kernel) == {KEY_A, KEY_B}
    assert not made.pending()


def test_every_object_that_fails_is_named_once(driver: MemoryDriver) -> None:
    driver.refusing = {KEY_A, key_of(entry(3))}
    made = started(driver)
    both = service("a", entry(1), entry(3))
    assert failures(made.apply([both])) == [("a", "KERNEL_REJECTED")]
    assert failures(made.apply([bad("a")])) == [("a", "INVALID_OBJECT")]  # the newer reason


def test_a_family_that_is_left_out_is_one_failure_for_all_services(driver: MemoryDriver) -> None:
    driver.missing = "no IPv6 here"
    made = started(driver)
    assert made.apply([A]).failed == ()
    dual = [service(name, entry(n), entry(n, family=6)) for n, name in enumerate("abc", 1)]
    done = made.apply(dual)
    assert failures(done) == [("node", "UNSUPPORTED")]
    assert "no IPv6 here" in done.failed[0].text
    assert not made.pending()
    assert made.apply([A], complete=True).failed == ()


# ---------------------------------------------------------------- what nobody wants


def test_a_complete_apply_retires_what_nobody_wants_and_no_other_does() -> None:
    driver = MemoryDriver({KEY_A: "of another time", KEY_B: "of another time"})
    made = started(driver)
    assert made.adopted
    made.apply([A])
    assert driver.kernel[KEY_B] == "of another time"
    made.apply([A], complete=True)
    assert set(driver.kernel) == {KEY_A}


def test_a_service_that_is_not_among_all_is_removed(driver: MemoryDriver) -> None:
    made = started(driver)
    made.apply([A, B], HERE, complete=True)
    made.apply([B], complete=True)
    assert set(driver.kernel) == {KEY_B, "node"}


def test_a_repair_removes_strangers_once_all_was_said_and_not_before(driver: MemoryDriver) -> None:
    made = started(driver)
    made.apply([A])
    driver.kernel[KEY_B] = "a stranger"
    made.repair()
    assert KEY_B in driver.kernel
    made.apply([A], complete=True)
    driver.kernel[KEY_B] = "another"
    assert made.repair().messages == 1
    assert set(driver.kernel) == {KEY_A}


# ---------------------------------------------------------------- a kernel that others change


def test_drift_is_read_again_and_put_right_at_once(driver: MemoryDriver) -> None:
    made = started(driver)
    made.apply([A, B])
    driver.calls.clear()
    driver.kernel.clear()
    assert made.apply([service("a", entry(1, 5))]).failed == ()
    assert driver.calls == ["write", "read", "write"]
    assert driver.fruitful == [True]
    assert set(driver.kernel) == {KEY_A, KEY_B}
    assert not made.pending()


def test_who_keeps_at_it_is_met_a_bounded_number_of_times_and_holds_no_other(driver: MemoryDriver) -> None:
    driver.restless = {KEY_A: 1000}
    made = started(driver)
    assert failures(made.apply([A, B])) == [("a", "KERNEL_REJECTED")]
    assert driver.calls == ["write", *["read", "write"] * READINGS]
    assert KEY_B in driver.kernel
    driver.restless = {}
    assert made.apply([]).failed == ()
    assert not made.pending()


def test_who_stops_before_the_last_reading_costs_no_failure(driver: MemoryDriver) -> None:
    driver.restless = {KEY_A: READINGS}
    made = started(driver)
    assert made.apply([A, B]).failed == ()
    assert driver.calls == ["write", *["read", "write"] * READINGS]


def test_drift_without_end_is_a_kernel_that_is_unavailable(
    driver: MemoryDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never_last(_: object, sent: object, this: object) -> None:
        raise Drifted

    monkeypatch.setattr(MemoryDriver, "write", never_last)
    with pytest.raises(KernelUnavailable, match="somebody else keeps changing"):
        started(driver).apply([A])
    assert driver.calls == ["read"] * READINGS


def test_a_write_without_answer_is_read_before_the_next_one(driver: MemoryDriver) -> None:
    made = started(driver)
    driver.unanswered = 1
    with pytest.raises(KernelUnavailable, match="the answer was lost"):
        made.apply([A])
    assert made.pending()
    made.apply([B])
    made.apply([])
    assert driver.calls == ["write", "read", "write", "write"]
    assert set(driver.kernel) == {KEY_A, KEY_B}
    assert not made.pending()


def test_a_reading_that_failed_halfway_is_done_again_before_anything_is_sent(driver: MemoryDriver) -> None:
    made = started(driver)
    made.apply([A])
    driver.calls.clear()
    driver.unreadable = 1
    with pytest.raises(KernelUnavailable, match="ended early"):
        made.repair()
    assert made.pending()
    assert made.apply([B]).messages == 1
    assert driver.calls == ["read", "read", "write"]
    assert not made.pending()


def test_a_repair_tells_the_driver_whether_there_was_anything_to_put_right(driver: MemoryDriver) -> None:
    made = started(driver)
    made.apply([A])
    assert driver.fruitful == []
    assert made.repair().messages == 0
    driver.kernel.clear()
    assert made.drifted()
    assert made.repair().messages == 1
    assert driver.fruitful == [False, True]
    assert not made.drifted()


# ---------------------------------------------------------------- settings and starts


def test_other_settings_are_written_at_once_and_bad_ones_change_nothing(driver: MemoryDriver) -> None:
    made = started(driver)
    made.apply([A])
    assert made.configure(2).messages == 1
    with pytest.raises(ValueError, match="no factor"):
        made.configure(0)
    assert made.repair().messages == 0


@pytest.mark.parametrize("trouble", [{"absent": "no kernel"}, {"unreadable": 1}])
def test_a_start_that_fails_says_the_mode_cannot_be_had_and_lets_go(
    driver: MemoryDriver, trouble: dict[str, object]
) -> None:
    vars(driver).update(trouble)
    with pytest.raises(DataplaneUnavailable, match=r"no kernel|ended early"):
        Reconciler(driver).start()
    assert not driver.opened
