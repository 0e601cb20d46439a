"""Checks of settings: what is allowed comes back, all else is one line that names the setting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosuper._checks import (
    check_count,
    check_counts,
    check_one_of,
    check_seed,
    check_share,
    make_rng,
    one_line,
    one_line_with_type,
)


@given(st.integers(1, 10**9), st.sampled_from([int, np.int64, np.uint32]))
def test_a_whole_number_comes_back_as_an_int(value, kind):
    found = check_count("top", kind(value))
    assert (found, type(found)) == (value, int)


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", None, True, np.float64(2), np.bool_(True), [1]])
def test_anything_else_is_refused_by_its_name(value):
    with pytest.raises(ValueError, match=r"^top must be a whole number of at least 1, got ") as raised:
        check_count("top", value)
    assert "\n" not in str(raised.value)


def test_limits_are_allowed_and_what_is_beyond_them_is_not():
    assert [check_count("top", value, 2, 5) for value in (2, 5)] == [2, 5]
    for value in (1, 6):
        with pytest.raises(ValueError, match=f"^top must be a whole number from 2 to 5, the images, got {value}$"):
            check_count("top", value, 2, 5, ", the images")


def test_several_counts():
    assert check_counts("n_items", [2, 5]).tolist() == [2, 5]
    assert check_counts("n_items", 3).tolist() == [3]
    for wrong in ([], [1], [[2]], [2.0], "a"):
        with pytest.raises(ValueError, match="n_items must be whole numbers of at least 2"):
            check_counts("n_items", wrong)


def test_words_shares_and_seeds():
    check_one_of("end", "top", ("top", "bottom"))
    with pytest.raises(ValueError, match="end must be one of 'top', 'bottom'; got 'middle'"):
        check_one_of("end", "middle", ("top", "bottom"))
    check_share("alpha", 0.05, 0.05)
    for wrong in (0, 1, "0.5", np.nan, None):
        with pytest.raises(ValueError, match="alpha must be strictly between 0 and 1, such as 0.05; got"):
            check_share("alpha", wrong, 0.05)
    assert (check_seed(None), check_seed(np.int64(3))) == (None, 3)


@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState])
def test_generators_of_numpy_give_seeds_and_advance(kind):
    first, second = kind(1), kind(1)
    drawn = [check_seed(first) for _ in range(3)]
    assert len(set(drawn)) == 3
    assert drawn == [check_seed(second) for _ in range(3)]
    assert make_rng(kind(1)).random() == make_rng(kind(1)).random()


def test_random_state_is_checked_by_one_rule():
    generator = np.random.default_rng(0)
    assert make_rng(generator) is generator
    assert make_rng(5).random() == np.random.default_rng(5).random()
    assert make_rng(None).random() != make_rng(None).random()
    for check in (check_seed, make_rng):
        for wrong in (-1, np.int64(-3), 2**64):
            with pytest.raises(ValueError, match=rf"random_state must be an int from 0 to 2\*\*64 - 1, got {wrong}"):
                check(wrong)
        for wrong in (1.5, "0", True, [1]):
            with pytest.raises(TypeError, match="random_state must be an int, None, or a numpy.random.Generator or"):
                check(wrong)


def test_errors_of_other_libraries_in_one_line():
    assert one_line(OSError("a\n  b.")) == "a b"
    assert one_line(KeyError()) == "KeyError"
    assert one_line_with_type(ValueError("a\nb")) == "a b"
    assert one_line_with_type(KeyError("x")) == "KeyError: 'x'"
    assert one_line_with_type(ValueError()) == "ValueError"
