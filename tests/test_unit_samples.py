"""Random units: the right number, the same in any order, and no more than there are."""

import numpy as np
import pytest

from neurosuper import subsample_units


def test_units_are_drawn_by_label_in_any_order(responses):
    chosen = subsample_units(responses, 3, random_state=1)
    assert chosen.shape == (120, 3)
    assert set(chosen.unit.values) < set(responses.unit.values)
    np.testing.assert_array_equal(chosen, responses.sel(unit=chosen.unit))
    turned = subsample_units(responses[:, ::-1], 3, random_state=1)
    assert turned.unit.values.tolist() == chosen.unit.values[::-1].tolist()
    assert chosen.attrs["subsample"] == "3 of 8 units"
    assert chosen.attrs["subsample_random_state"] == 1


def test_all_sets_of_units_are_drawn(responses):
    drawn = [tuple(subsample_units(responses, 2, random_state=seed).unit.values) for seed in range(300)]
    assert len(set(drawn)) == 28  # of 8 units, 2


def test_repetitions_and_coords_stay(responses):
    repeated = responses.expand_dims(repetition=3, axis=1).assign_coords(area=("unit", ["V1", "V4"] * 4))
    chosen = subsample_units(repeated, 8)
    assert chosen.dims == ("stimulus", "repetition", "unit")
    assert chosen.area.values.tolist() == ["V1", "V4"] * 4


@pytest.mark.parametrize("n", [0, 9, 2.5, True])
def test_other_numbers_are_refused(responses, n):
    with pytest.raises(ValueError, match=r"^n must be a whole number from 1 to 8, the number of units, got"):
        subsample_units(responses, n)
