import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.errors import OptionError
from privet.models import macs
from privet.pruning.schedule import sparsities
from privet.pruning.speedup import widths_at


def test_published_schedule_for_five_rounds_to_sixty_percent():
    # 0.4 ** (k / 4) of the weights remain after round k.
    expected = pytest.approx([0, 0.2047, 0.3675, 0.4970, 0.6], abs=5e-5)
    assert sparsities("geometric", 0.6, 5) == expected


def test_linear_rounds_remove_the_same_amount():
    assert sparsities("linear", 0.6, 5) == pytest.approx([0, 0.15, 0.3, 0.45, 0.6])


@pytest.mark.parametrize("schedule", ["geometric", "linear"])
@given(st.floats(0, 0.999), st.integers(2, 30))
def test_schedules_rise_from_dense_to_the_sparsity_asked_for(schedule, sparsity, rounds):
    reached = sparsities(schedule, sparsity, rounds)
    assert len(reached) == rounds
    assert reached == sorted(reached)
    assert reached[0] == 0
    assert reached[-1] == pytest.approx(sparsity, abs=1e-12)


@pytest.mark.parametrize("schedule", ["geometric", "linear"])
def test_one_round_prunes_at_once(schedule):
    assert sparsities(schedule, 0.6, 1) == [0.6]


@pytest.mark.parametrize(
    ("schedule", "sparsity", "rounds", "message"),
    [
        ("geometric", 1.0, 5, "got 1.0"),
        ("linear", -0.1, 5, "got -0.1"),
        ("linear", 0.5, 0, "got 0"),
        ("geometric", float("nan"), 5, "got nan"),
        ("cosine", 0.5, 5, "geometric, linear; got 'cosine'"),
    ],
)
def test_impossible_schedules_are_refused(schedule, sparsity, rounds, message):
    with pytest.raises(OptionError, match=message):
        sparsities(schedule, sparsity, rounds)


def test_a_divisible_width_gives_the_exact_speedup():
    assert widths_at(10_000, [4000], 25, speedup=50) == (80,)
    assert widths_at(10_000, [40_000], 25, speedup=200) == (200,)


def test_published_widths_of_location_are_beaten_by_no_more_than_a_unit():
    # Shrinking all layers alike by true MACs; the reference counted 20/40/60 a little off.
    base = macs([30, 256, 128, 64, 1])
    for speedup in (20, 40, 60):
        widths = widths_at(30, [256, 128, 64], 1, speedup=speedup)
        reached = base / macs([30, *widths, 1])
        assert speedup <= reached < speedup * 1.02


@given(
    st.integers(2, 50),
    st.lists(st.integers(4, 300), min_size=1, max_size=3),
    st.integers(1, 10),
    st.floats(1, 100),
)
def test_widths_reach_the_speedup_and_no_unit_could_stay(inputs, hidden, outputs, speedup):
    base = macs([inputs, *hidden, outputs])
    try:
        widths = widths_at(inputs, hidden, outputs, speedup=speedup)
    except OptionError:
        assert base / macs([inputs, *([4] * len(hidden)), outputs]) < speedup
        return
    assert all(4 <= kept <= units for kept, units in zip(widths, hidden, strict=True))
    assert base >= speedup * macs([inputs, *widths, outputs]) * (1 - 1e-9)
    last = len(hidden) - 1
    if widths[last] < hidden[last]:
        more = [*widths[:last], widths[last] + 1]
        assert base < speedup * macs([inputs, *more, outputs])
