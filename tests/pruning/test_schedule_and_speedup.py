import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.errors import OptionError
from privet.models import macs
from privet.pruning.schedule import geometric
from privet.pruning.speedup import widths_at


def test_published_schedule_for_five_rounds_to_sixty_percent():
    # 0.4 ** (k / 4) of the weights remain after round k.
    assert geometric(0.6, 5) == pytest.approx([0, 0.2047, 0.3675, 0.4970, 0.6], abs=5e-5)


def test_one_round_prunes_at_once():
    assert geometric(0.6, 1) == [0.6]


@pytest.mark.parametrize(("sparsity", "rounds"), [(1.0, 5), (-0.1, 5), (0.5, 0), (float("nan"), 5)])
def test_impossible_schedules_are_refused(sparsity, rounds):
    with pytest.raises(OptionError):
        geometric(sparsity, rounds)


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
