"""The leading stimuli of combinations are those of their codes, one combination after the other."""

from functools import reduce

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from neurosuper.superposition.combinations import COMBINATIONS, Rows, leading_of_combinations
from neurosuper.superposition.index_tables import leading_places
from neurosuper.superposition.unit_groups import UnitGroups

WEIGHTS = [[1, 1], [1, -0.5], [-1e30, 1e29], [1, 0]]


@pytest.mark.parametrize("combine", COMBINATIONS)
@pytest.mark.parametrize(("kind", "n_stimuli"), [("normal", 700), ("normal", 40), ("counts", 700), ("far from 0", 600)])
def test_they_are_those_of_the_codes_in_float64(combine, kind, n_stimuli):
    rng = np.random.default_rng(0)
    first, others = rng.normal(size=(2, 6, n_stimuli)) if kind != "counts" else rng.poisson(1, (2, 6, n_stimuli))
    if kind == "far from 0":  # in float32, many codes are equal
        first = first + 1e6
    members = np.stack([rng.permutation(6)[:2] for _ in range(70)])
    weights = np.array(WEIGHTS * 18, float)[:70] if combine == "sum" else np.ones((70, 2))
    groups = UnitGroups(np.array([f"g{i}" for i in range(70)]), members, weights)
    stimuli = {"stimulus": np.array([f"s{i}" for i in range(n_stimuli)])}
    parts = weights[:, :1] * first[members[:, 0]], weights[:, 1:] * others[members[:, 1]]
    codes = xr.DataArray(
        reduce(COMBINATIONS[combine], parts).T, stimuli | {"pair": groups.labels}, ("stimulus", "pair")
    )
    rows = Rows.of(first.astype(float)), Rows.of(others.astype(float))
    for n_places in (3, 60):
        found = leading_of_combinations(*rows, groups, combine, n_places, stimuli, seed=4)
        assert_array_equal(found, leading_places([codes], n_places, seed=4))
