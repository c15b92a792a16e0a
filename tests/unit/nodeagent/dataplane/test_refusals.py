"""The search for what a kernel refuses: a bounded number of attempts, and everything else is sent."""

import errno

import pytest

from nodeagent.dataplane.refusals import halves, send_apart


class Kernel:
    """Refuses a group with a bad item in it; tells the place of one of them, or none."""

    def __init__(self, bad: set[int], *, tells: bool) -> None:
        self.bad, self.tells = bad, tells
        self.taken: list[int] = []
        self.set_aside: list[int] = []
        self.attempts = 0

    def attempt(self, items: object) -> dict[int, int] | None:
        assert isinstance(items, list)
        self.attempts += 1
        places = [place for place, item in enumerate(items) if item in self.bad]
        if not places:
            self.taken += items
            return None
        guilty = places[:1] if self.tells or len(items) == 1 else []
        self.set_aside += [items[place] for place in guilty]
        return dict.fromkeys(guilty, errno.EINVAL)


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("bad", [set[int](), {0}, {99}, {3, 4, 50}, set(range(20)), set(range(100))])
def test_everything_but_the_bad_items_is_taken_in_order(bad: set[int], *, tells: bool) -> None:
    kernel = Kernel(bad, tells=tells)
    send_apart(list(range(100)), kernel.attempt)
    assert kernel.taken == [item for item in range(100) if item not in bad]
    assert sorted(kernel.set_aside) == sorted(bad)


def test_one_bad_item_that_the_kernel_names_costs_one_more_attempt() -> None:
    kernel = Kernel({57}, tells=True)
    send_apart(list(range(100)), kernel.attempt)
    assert kernel.attempts == 2


def test_one_bad_item_that_the_kernel_does_not_name_is_found_by_halving() -> None:
    kernel = Kernel({57}, tells=False)
    send_apart(list(range(128)), kernel.attempt)
    assert kernel.attempts <= 17  # two for each of seven halvings, and what is left of the last one


def test_what_an_attempt_raises_ends_the_search() -> None:
    def attempt(_: object) -> None:
        raise OSError(errno.ENOBUFS, "no room")

    with pytest.raises(OSError, match="no room"):
        send_apart([1, 2], attempt)


def test_halves_leave_an_empty_one_out() -> None:
    assert halves([1, 2, 3]) == [[1, 2], [3]]
    assert halves([1]) == [[1]]
    assert halves(list[int]()) == []
