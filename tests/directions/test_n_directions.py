import pytest

from neurosuper.directions.n_directions import count_directions


@pytest.mark.parametrize(
    ("asked", "n_units", "n"),
    [("0.33x", 8, 3), ("0.33x", 7, 2), ("1.9x", 8, 15), ("2x", 7, 14), (None, 5, 5), (3, 5, 3)],
)
def test_multiples_of_the_units_are_rounded_to_the_nearest_number(asked, n_units, n):
    assert count_directions(asked, n_units) == n
