"""Numbers in text have as many decimals as two digits of their standard error."""

import numpy as np
import pytest

from neurosuper._rounding import decimals_for, format_interval, format_number, format_p


@pytest.mark.parametrize("error", [3.14e-7, 0.00101, 0.0123, 0.0995, 0.0996, 0.5, 0.99, 0.996, 1.0, 9.94, 9.96])
def test_two_digits_of_the_standard_error_are_shown(error):
    shown = format_number(error, decimals_for(error))
    assert len(shown.replace(".", "").lstrip("0")) == 2
    assert abs(float(shown) / error - 1) <= 0.05


def test_a_large_or_unknown_standard_error_is_no_failure():
    assert [decimals_for(error) for error in (10.0, 250.0, 1e9)] == [0, 0, 0]
    assert [decimals_for(error) for error in (0.0, np.nan, np.inf, -1.0)] == [3] * 4
    assert decimals_for(1e-300) == 12


def test_without_a_standard_error_two_digits_of_the_number_are_shown():
    assert [decimals_for(error, -0.00012) for error in (0.0, np.nan)] == [5, 5]
    assert decimals_for(0.01, 0.00012) == 3
    assert decimals_for(0.0, 0.0) == decimals_for(np.nan, np.nan) == 3


def test_numbers_have_a_real_minus_sign_and_no_negative_zero():
    assert format_number(-1.25, 1) == "−1.2"
    assert format_number(-0.004, 2) == "0.00"
    assert format_number(-0.004, 2, sign=True) == "+0.00"
    assert format_number(0.5, 1, sign=True) == "+0.5"
    assert [format_number(value, 2) for value in (np.nan, np.inf, -np.inf)] == ["–", "∞", "−∞"]
    assert format_interval(-0.1, 0.25, 2) == "[−0.10, 0.25]"


def test_small_p_are_given_as_a_bound():
    assert [format_p(p) for p in (0.001, 0.00099, 0.0)] == ["= 0.0010", "< 0.001", "< 0.001"]


def test_p_has_two_significant_digits():
    assert [format_p(p) for p in (1.0, 0.8, 0.931, 0.00445)] == ["= 1.0", "= 0.80", "= 0.93", "= 0.0044"]


def test_a_detectable_p_never_reads_as_the_limit():
    assert [format_p(p) for p in (0.04999, 0.0496, 0.0494, 0.05, 0.0504)] == [
        *("< 0.05", "< 0.05", "= 0.049"),
        *("= 0.050", "= 0.050"),
    ]


def test_p_keeps_the_sign_that_it_is_given():
    assert [format_p(p, "≤") for p in (0.0312, 0.04996)] == ["≤ 0.031", "< 0.05"]
    assert format_p(np.nan) == "= nan"
