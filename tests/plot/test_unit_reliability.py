import numpy as np
import pytest
import xarray as xr

from neurosuper.plot import plot_reliability


@pytest.fixture
def reliability():
    return xr.DataArray(
        [0.1, 0.5, 0.9, np.nan],
        dims="unit",
        coords={"unit": list("abcd"), "area": ("unit", ["V1", "V4", "V4", "V1"])},
        attrs={"rule": "split-half"},
    )


def test_units_are_stacked_by_area_and_counted(reliability):
    axes = plot_reliability(reliability, threshold=0.5).axes[0]
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["V1 (1)", "V4 (2)", "≥ 0.5: 2 of 4"]
    assert sum(patch.get_height() for patch in axes.patches) == 3
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("split-half", "units (1 without a value)")


def test_units_without_area_are_one_group(reliability):
    axes = plot_reliability(reliability.drop_vars("area")[:3]).axes[0]
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["all units (3)"]
    assert axes.get_ylabel() == "units"


def test_what_is_not_one_number_per_unit_is_refused(reliability):
    with pytest.raises(ValueError, match="one number per unit"):
        plot_reliability(reliability.expand_dims("split"))
    with pytest.raises(ValueError, match="one number per unit"):
        plot_reliability(reliability * np.nan)
