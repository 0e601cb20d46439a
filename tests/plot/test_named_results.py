import pytest
import xarray as xr

from neurosuper import plot
from neurosuper.plot.named_results import check_results, group_by_system

NAMES = ("disentanglement", "interference", "rotation", "sparseness", "spectrum", "synergy")


def test_names_are_of_a_system_and_a_finder(superposition_results):
    named = check_results({"V4 · a · KMeans": xr.Dataset(), "IT": xr.Dataset()}, "f", ())
    assert [each[:3] for each in named] == [("V4 · a · KMeans", "V4 · a", "KMeans"), ("IT", "IT", "IT")]
    assert list(group_by_system(named)) == ["V4 · a", "IT"]
    assert list(group_by_system(named[1:])) == [""]


@pytest.mark.parametrize("name", NAMES)
def test_one_result_alone_is_drawn_without_a_name(name, superposition_results):
    one = next(iter(superposition_results()[name].values()))
    axes = getattr(plot, f"plot_{name}")(one).axes[0]
    assert axes.has_data()
    assert axes.get_title() in ("", "300 pairs")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (3, TypeError, "result must be a Dataset from neurosuper.superposition.*got int"),
        ({"V4": xr.DataArray(1)}, TypeError, "got dict"),
        ({}, ValueError, r"result is empty; pass \{name: neurosuper"),
        ({"V4": xr.Dataset({"other": 1})}, ValueError, "pass what neurosuper.superposition.* returns"),
    ],
)
def test_what_is_no_result_is_refused_in_one_line(name, wrong, error, message):
    with pytest.raises(error, match=message) as caught:
        getattr(plot, f"plot_{name}")(wrong)
    assert "\n" not in str(caught.value)
