import itertools

import pytest

from privet.progress import track, watching


class Watcher:
    """Notes what it is told and passes the items on."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int | None]] = []
        self.passed: list[object] = []

    def __call__(self, items, what, total):
        self.told.append((what, total))
        for item in items:
            self.passed.append(item)
            yield item


def test_unwatched_items_pass_unchanged():
    things = [object(), object()]
    assert list(track(things, "things")) == things


def test_unwatched_loops_stay_lazy():
    drawn = []

    def numbers():
        for number in itertools.count():
            drawn.append(number)
            yield number

    tracked = track(numbers(), "numbers", total=3)
    assert drawn == []
    assert next(tracked) == 0
    assert drawn == [0]


def test_a_watcher_learns_what_and_how_many():
    watcher = Watcher()
    with watching(watcher):
        assert list(track([1, 2, 3], "a list")) == [1, 2, 3]
        assert list(track((n for n in (4, 5)), "a generator")) == [4, 5]
        assert list(track(iter((6, 7)), "with a total", total=9)) == [6, 7]
        assert list(track([8], "overruled", total=5)) == [8]
        assert list(track({}, "nothing")) == []
    assert watcher.told == [
        ("a list", 3),
        ("a generator", None),
        ("with a total", 9),
        ("overruled", 5),
        ("nothing", 0),
    ]
    assert watcher.passed == [1, 2, 3, 4, 5, 6, 7, 8]


def test_watched_loops_stay_lazy():
    with watching(Watcher()):
        assert list(itertools.islice(track(itertools.count(), "forever"), 3)) == [0, 1, 2]


def test_nested_loops_are_watched_each():
    watcher = Watcher()
    with watching(watcher):
        for _ in track(range(2), "outer"):
            list(track("ab", "inner"))
    assert watcher.told == [("outer", 2), ("inner", 2), ("inner", 2)]
    assert watcher.passed == [0, "a", "b", 1, "a", "b"]


def test_the_innermost_watcher_wins_and_the_outer_one_returns():
    outer, inner = Watcher(), Watcher()
    with watching(outer):
        with watching(inner):
            list(track("x", "inside"))
        list(track("x", "outside"))
    list(track("x", "unwatched"))
    assert (inner.told, outer.told) == ([("inside", 1)], [("outside", 1)])


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_nobody_watches_after_an_exception(failure):
    outer, inner = Watcher(), Watcher()
    with watching(outer):
        with pytest.raises(failure), watching(inner):
            raise failure
        list(track("x", "still outer"))
    list(track("x", "unwatched"))
    assert (inner.told, outer.told) == ([], [("still outer", 1)])


def test_a_loop_begun_under_a_watcher_ends_under_it():
    watcher = Watcher()
    with watching(watcher):
        tracked = track([1, 2], "items")
    assert list(tracked) == [1, 2]
    assert watcher.passed == [1, 2]
