import numpy as np
import pytest

from neurosuper.directions import settings as module
from neurosuper.directions.settings import count_directions


@pytest.mark.parametrize(
    ("asked", "n_units", "n"),
    [("0.33x", 8, 3), ("0.33x", 7, 2), ("1.9x", 8, 15), ("2x", 7, 14), (None, 5, 5), (3, 5, 3)],
)
def test_multiples_of_the_units_are_rounded_to_the_nearest_number(asked, n_units, n):
    assert count_directions(asked, n_units) == n


@pytest.mark.parametrize("asked", [True, False, 0, -1, 2.0, 2.5, "2", "x2", "-1x", "0.01x", [2]])
def test_anything_but_a_positive_number_or_a_multiple_is_refused(asked):
    with pytest.raises(ValueError, match="^n_directions must be a positive int, a multiple of the units such as '2x'"):
        count_directions(asked, 5)


@pytest.mark.parametrize("kind", [int, np.int32, np.uint8])
def test_numbers_of_every_integer_type_are_counted(kind):
    counted = count_directions(kind(7), 5)
    assert (counted, type(counted)) == (7, int)


def test_directions_that_do_not_fit_in_memory_are_refused(monkeypatch):
    """4 bytes a number: a thousand directions of a million units are 4 GB."""
    monkeypatch.setattr(module, "memory_of_machine", lambda: 4e9)
    assert count_directions(1000, 10**6) == 1000
    with pytest.raises(ValueError, match="^1001 directions of 1000000 units take 4 GB, more memory than this machine"):
        count_directions(1001, 10**6)
    with pytest.raises(ValueError, match="^1500 directions of 1000000 units take 6 GB"):
        count_directions(np.int16(1500), 10**6)
    with pytest.raises(ValueError, match="take 4.6 GB"):
        count_directions("1.15x", 31_623)
