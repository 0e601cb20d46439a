import numpy as np
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosuper.interpretability.parts import draw_parts, top_of_parts
from neurosuper.interpretability.top_stimuli import top_stimuli


def test_parts_are_equal_in_size_and_drawn_anew(rng):
    labels = np.array([f"s{i}" for i in range(11)])
    parts = draw_parts(labels, 4, 20, rng)
    assert parts.dims == ("draw", "stimulus")
    assert {tuple(np.bincount(draw)) for draw in parts.values} == {(3, 3, 3, 2)}
    assert len({tuple(draw) for draw in parts.values}) == 20


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([2, 4]), st.integers(2, 5), st.integers(20, 90))
def test_top_of_parts_are_top_stimuli_of_each(seed, n_parts, top, n_stimuli):
    rng = np.random.default_rng(seed)
    labels = [f"s{i}" for i in range(n_stimuli)]
    codes = xr.DataArray(
        rng.normal(size=(n_stimuli, 3)), {"stimulus": labels, "unit": list("abc")}, ("stimulus", "unit")
    )
    parts = draw_parts(codes.stimulus.values, n_parts, 3, rng)
    found = codes.stimulus.values[top_of_parts(codes, parts, top)]
    for draw in range(3):
        for part in range(n_parts):
            members = codes[parts.values[draw] == part]
            np.testing.assert_array_equal(found[draw, part].T, top_stimuli(members, top))
