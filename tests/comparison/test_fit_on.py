"""Directions are fitted on one set of stimuli and scored on another, which alone needs images."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from neurosuper import Color, KMeans, Units, compare, interpretability_index, split_stimuli
from neurosuper.comparison import fit_systems


@pytest.fixture
def other(rng) -> xr.DataArray:
    """Responses of the units of `responses`, in another order, to stimuli without images."""
    units = [f"u{i:03d}" for i in (3, 1, 4, 0, 7, 5, 2, 6)]
    coords = {"stimulus": [f"other {i}" for i in range(50)], "unit": units}
    return xr.DataArray(rng.gamma(1, 5, (50, 8)), coords, ("stimulus", "unit"))


def test_directions_are_fitted_on_the_other_stimuli_and_scored_on_all_of_the_system(responses, images, other):
    table = compare({"V4": responses}, images, [KMeans(4), Units()], [Color()], baselines=False, fit_on={"V4": other})
    codes = KMeans(4).fit(other.sel(unit=responses.unit)).transform(responses)
    expected = [interpretability_index(each, images, Color()) for each in (codes, responses)]
    assert_allclose(table.interpretability[:, 0], np.concatenate(expected))
    assert (table.n_stimuli == 120).all()
    assert table.shared_stimuli == "120 stimuli; directions found on other stimuli: V4 on 50"


def test_other_systems_are_split_as_if_alone(systems, images, other):
    settings = {"images": images, "finders": [Units(), KMeans(4)], "metrics": [Color()], "baselines": False}
    table = compare(systems, fit_on={"brain": other}, **settings)
    of_network = table.isel(item=(table.system == "network").values)
    alone = compare({"network": systems["network"]}, **settings)
    assert_allclose(of_network.interpretability, alone.interpretability, rtol=1e-6)
    assert of_network.top_stimuli.values.tolist() == alone.top_stimuli.values.tolist()
    assert list(dict.fromkeys(table.system.values)) == ["brain", "network"]
    brain = next(fit_systems(systems, [Units()], fit_on={"brain": other}))
    assert (brain.system, len(brain.scored)) == ("brain", 120)


def test_units_that_are_constant_on_the_other_stimuli_are_left_out(responses, images, other):
    silent = other.where(other.unit != "u003", 0)
    with pytest.warns(UserWarning, match="were left out: 1 of 8 of 'V4'"):
        table = compare({"V4": responses}, images, [Units()], [Color()], fit_on={"V4": silent})
    assert table.direction.values.tolist() == [f"u{i:03d}" for i in (0, 1, 2, 4, 5, 6, 7)]


def test_all_of_the_other_stimuli_are_used_whatever_their_marks(responses, other):
    plain, marked = (
        next(fit_systems({"V4": responses}, [KMeans(4)], fit_on={"V4": r})) for r in (other, split_stimuli(other))
    )
    xr.testing.assert_identical(plain.fitted.directions_, marked.fitted.directions_)


def test_groups_are_halved_among_the_scored_stimuli_and_none_is_on_both_sides(responses, images, other):
    grouped = responses.assign_coords(burst=("stimulus", np.arange(120) // 4))
    settings = {"images": images, "finders": [Units()], "metrics": [Color()], "stimulus_groups": "burst", "top": 3}
    assert (compare({"V4": grouped}, fit_on={"V4": other}, **settings).n_stimulus_groups == 30).all()
    shared = other.assign_coords(burst=("stimulus", np.arange(50) + 29))
    with pytest.raises(
        ValueError, match="fit_on of 'V4': directions would be fitted and scored on burst '29'; leave it"
    ):
        compare({"V4": grouped}, fit_on={"V4": shared}, **settings)


def with_label(other):
    return other.assign_coords(stimulus=["s0007", *other.stimulus.values[1:]])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (with_label, ValueError, "fit_on of 'V4': directions would be fitted and scored on stimulus 's0007'; leave it"),
        (
            lambda r: r[:, :6],
            ValueError,
            "fit_on of 'V4': it has 6 units and the system 8; they differ in 'u002', 'u006'",
        ),
        (lambda r: r.values, TypeError, "fit_on of 'V4': responses must be an xarray.DataArray, got ndarray"),
        (lambda r: r.where(r > 1), ValueError, "fit_on of 'V4': responses contain .* NaN"),
        (lambda r: r[:1], ValueError, "fit_on of 'V4': responses need at least 2 stimuli"),
    ],
)
def test_what_cannot_be_fitted_on_is_refused(change, error, message, responses, images, other):
    with pytest.raises(error, match=message) as caught:
        compare({"V4": responses}, images, [Units()], [Color()], fit_on={"V4": change(other)})
    assert "\n" not in str(caught.value)


def test_names_photographs_and_marks_are_checked(responses, images, other):
    def attempt(fit_on, own=responses):
        compare({"V4": own}, images, [Units()], [Color()], fit_on=fit_on)

    with pytest.raises(ValueError, match="fit_on has 'IT', which are no systems; use their names"):
        attempt({"IT": other})
    with pytest.raises(TypeError, match=r"fit_on must be a mapping \{name of a system: responses, …\}, got DataArray"):
        attempt(other)
    with pytest.raises(ValueError, match="fit_on of 'V4': the system has the coord `split`, but is scored on all"):
        attempt({"V4": other}, split_stimuli(responses))
    digests = np.array([f"{i:032x}" for i in range(170)])
    shown = responses.assign_coords(content=("stimulus", digests[:120]))
    with pytest.raises(ValueError, match=f"fitted and scored on photograph '{digests[119]}'; leave it"):
        list(
            fit_systems(
                {"V4": shown}, [Units()], fit_on={"V4": other.assign_coords(content=("stimulus", digests[119:169]))}
            )
        )
