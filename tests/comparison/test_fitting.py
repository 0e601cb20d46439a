import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from sklearn.preprocessing import StandardScaler

from neurosuper import (
    NMF,
    PCA,
    Color,
    KMeans,
    Random,
    Units,
    compare,
    interpretability_index,
    split_stimuli,
)
from neurosuper.comparison import fit_systems


def test_held_out_fits_on_one_half_and_scores_on_the_other(responses, images):
    table = compare({"brain": responses}, images, [KMeans(4)], [Color()], baselines=False, random_state=3)
    split = split_stimuli(responses, random_state=3)
    fit, score = (responses[(split.split == part).values] for part in ("fit", "score"))
    expected = interpretability_index(KMeans(4).fit(fit).transform(score), images, Color())
    assert_allclose(table.interpretability[:, 0], expected)
    tops = set(table.top_stimuli.values.ravel())
    assert tops <= set(score.stimulus.values)


def test_shared_stimuli_fall_on_the_same_side_in_all_systems(systems, images):
    table = compare(systems, images, [Units()], [Color()], top=30)
    tops = {system: set(part.top_stimuli.values.ravel()) for system, part in table.groupby("system")}
    everything = {f"s{i:04d}" for i in range(120)}
    assert len(tops["brain"] | tops["network"]) <= len(everything) / 2


def test_a_split_of_the_user_is_used(responses, images):
    own = responses.assign_coords(split=("stimulus", ["fit"] * 60 + ["score"] * 60))
    table = compare({"brain": own}, images, [Units()], [Color()])
    assert min(table.top_stimuli.values.ravel()) >= "s0060"


def test_a_split_of_one_system_applies_to_the_others(systems, images):
    own = systems["brain"].assign_coords(split=("stimulus", ["fit"] * 60 + ["score"] * 60))
    table = compare({"brain": own, "network": systems["network"]}, images, [Units()], [Color()])
    assert min(table.top_stimuli.values.ravel()) >= "s0060"
    other = systems["network"].assign_coords(split=("stimulus", ["score"] * 40 + ["fit"] * 40))
    with pytest.raises(ValueError, match="'network' marks stimulus 's0000' 'score', another system 'fit'"):
        compare({"brain": own, "network": other}, images, [Units()], [Color()])


def test_finders_and_systems_are_left_untouched(systems, images):
    finder, before = KMeans(3), systems["brain"].copy(deep=True)
    compare(systems, images, [finder], [Color()])
    assert not hasattr(finder, "directions_")
    xr.testing.assert_identical(systems["brain"], before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"systems": {}}, "no system to compare"),
        ({"finders": []}, "no finders to compare"),
        ({"metrics": {}}, "no metrics to compare"),
        ({"finders": [KMeans(2), KMeans(3)]}, r"finders need different names, got \['KMeans', 'KMeans'\]; pass {name"),
        ({"score_on": "test"}, "score_on must be one of 'held-out', 'all'; got 'test'"),
        ({"top": 61}, "61 top stimuli asked for, but 'brain' has only 60 stimuli to score on"),
        ({"random_state": 0, "top": 1}, "at least 2 top stimuli"),
    ],
)
def test_bad_arguments_are_refused(change, message, responses, images):
    good = {"systems": {"brain": responses}, "images": images, "finders": [Units()], "metrics": [Color()]}
    with pytest.raises(ValueError, match=message):
        compare(**good | change)


def with_constant_units(responses):
    """Silence u001 for all stimuli, u002 for all but one, and u003 in the second half, which is scored on."""
    labels = responses.stimulus.values
    active = np.ones(responses.shape, bool)
    active[:, 1] = False
    active[1:, 2] = False
    active[60:, 3] = False
    marks = np.where(labels < "s0060", "fit", "score")
    return (responses * active).assign_coords(split=("stimulus", marks))


LEFT_OUT = r"the same response have no top stimuli, and were left out: 3 of 8 of 'net'; attrs\['n_units_left_out'\]"


def test_units_that_do_not_vary_are_left_out_as_if_they_had_not_been_there(responses, images):
    own = with_constant_units(responses)
    kept = own.drop_sel(unit=["u001", "u002", "u003"])
    systems, finders = {"V4": responses.isel(unit=[0, 1]), "net": own}, [Units(), KMeans("2x")]
    with pytest.warns(UserWarning, match=LEFT_OUT) as caught:
        table = compare(systems, images, finders, [Color()])
    assert len(caught) == 1
    assert table.n_units_left_out == [0, 3]
    expected = compare(systems | {"net": kept}, images, finders, [Color()])
    assert "n_units_left_out" not in expected.attrs
    xr.testing.assert_identical(table.drop_attrs(), expected.drop_attrs())
    counts = [fit.n_units_left_out for fit in fit_systems({"net": own}, finders, baselines=False)]
    assert counts == [3, 3]


@pytest.mark.parametrize(("score_on", "n_left"), [("all", 7), ("held-out", 5)])
def test_a_unit_must_vary_only_where_it_is_fitted_or_scored(score_on, n_left, responses):
    fit = next(fit_systems({"net": with_constant_units(responses)}, [Units()], score_on=score_on))
    assert fit.top_stimuli.shape == (5, n_left)


def test_lazy_responses_lose_the_same_units(responses):
    own = with_constant_units(responses)
    fits = [next(fit_systems({"net": r}, [Units()])) for r in (own, own.chunk({"stimulus": 50, "unit": 3}))]
    xr.testing.assert_identical(*(fit.top_stimuli.drop_vars("code") for fit in fits))


@pytest.mark.parametrize("split", ["fit", "score"])
def test_units_that_vary_only_by_rounding_are_left_out(split, responses, images, rng):
    own = split_stimuli(responses.copy(), random_state=0).assign_coords(depth=("unit", range(8)))
    part = (own.split == split).values
    own[part, 3] = 1000 + 1e-6 * rng.normal(size=part.sum())
    with pytest.warns(UserWarning, match=r"left out: 1 of 8 of 'brain'"):
        table = compare({"brain": own}, images, [Units()], [Color()], baselines=False)
    expected = compare({"brain": own.drop_sel(unit="u003")}, images, [Units()], [Color()], baselines=False)
    xr.testing.assert_identical(table.drop_attrs(), expected.drop_attrs())


def test_coords_follow_the_units_that_are_left(responses, images):
    """Centred on a large mean, of the stimuli to fit on, a unit may have one code for all stimuli to score on."""
    own = split_stimuli(responses.copy(), random_state=0).assign_coords(depth=("unit", range(8)))
    own[:, 3] *= np.where(own.split == "fit", 1e5, 1e-4)
    with pytest.warns(UserWarning, match="same code .* left out: 1 of 8 by 'Units' in 'brain'"):
        table = compare({"brain": own}, images, [Units(center=True)], [Color()], baselines=False)
    assert table.depth.values.tolist() == [0, 1, 2, 4, 5, 6, 7]
    assert table.direction.values.tolist() == ["u000", "u001", "u002", "u004", "u005", "u006", "u007"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"drop_constant_units": False}, "to fit on, of 'net' in unit 'u001'; leave them out with drop_constant"),
        ({"drop_constant_units": "yes"}, "drop_constant_units must be True or False, got 'yes'"),
    ],
)
def test_units_that_do_not_vary_can_be_refused(settings, message, responses, images):
    with pytest.raises(ValueError, match=message):
        compare({"net": with_constant_units(responses)}, images, [Units()], [Color()], **settings)


def test_a_system_without_a_varying_unit_is_an_error_that_names_it(responses, images):
    silent = with_constant_units(responses)[:, [1, 2, 3]]
    with pytest.raises(ValueError, match="none of the 3 units of 'net' varies over the stimuli to fit on and over"):
        compare({"V4": responses, "net": silent}, images, [Units()], [Color()])


def test_bad_types_and_reserved_names_are_refused(responses, images):
    with pytest.raises(TypeError, match="systems must be a mapping"):
        compare([responses], images, [Units()], [Color()])
    with pytest.raises(TypeError, match="finders must be a list or a mapping .*, got Units"):
        compare({"brain": responses}, images, Units(), [Color()])
    with pytest.raises(ValueError, match="system 'brain': responses must have the dims .*average_rep"):
        compare({"brain": responses.expand_dims(repetition=2)}, images, [Units()], [Color()])
    with pytest.raises(ValueError, match="unit coord 'metric', which is reserved for comparisons"):
        compare({"brain": responses.assign_coords(metric=("unit", range(8)))}, images, [Units()], [Color()])
    with pytest.raises(ValueError, match="'brain' has 0 stimuli whose split is 'score'"):
        compare({"brain": responses.assign_coords(split=("stimulus", ["fit"] * 120))}, images, [Units()], [Color()])


def test_errors_name_the_bad_system(responses, images):
    def attempt(system, **others):
        compare({"brain": responses, "net": system}, images, [Units()], [Color()], **others)

    with pytest.raises(ValueError, match="system 'net': no stimulus label in common"):
        attempt(responses.assign_coords(stimulus=[f"photo {i}" for i in range(120)]))
    with pytest.raises(ValueError, match="system 'net': responses contain 120 NaN or infinite values, in unit 'u001'"):
        attempt(responses.where(responses.unit != "u001"))
    with pytest.raises(TypeError, match="system 'net': responses must be an xarray.DataArray, got ndarray"):
        attempt(responses.values)
    lone = responses * ((responses.unit != "u001") | (responses.stimulus == "s0000"))
    with pytest.raises(ValueError, match=r"zero variance over stimuli to (fit|score) on, of 'net' in unit 'u001'"):
        attempt(lone, drop_constant_units=False)


@pytest.fixture
def no_fit(monkeypatch):
    """Errors are raised before any fit, which may take hours."""

    def fit(*_args):
        raise AssertionError("fitted first")

    monkeypatch.setattr(Units, "fit", fit)
    monkeypatch.setattr(PCA, "fit", fit)


class Half:
    """Not quite a metric: it only embeds."""

    def embed(self, images):
        raise AssertionError("never called")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"finders": ["KMeans"]}, "a finder must be an object such as neurosuper.Units.*, got 'KMeans'"),
        ({"finders": "KMeans"}, "finders must be a list or a mapping .*, got str"),
        ({"finders": [Units, PCA(2)]}, "a finder must be .*, got the class Units, which is not called"),
        ({"finders": {"mine": StandardScaler()}}, r"got StandardScaler\(\); subclass neurosuper.directions.Direction"),
        ({"finders": [Color()]}, "a finder must be .*got Color"),
        ({"finders": {1: Units()}}, "names of finders must be str, got 1"),
        ({"metrics": [Color(), "pixel"]}, "a metric must be an object such as neurosuper.LPIPS.*, got 'pixel'"),
        ({"metrics": "color"}, "metrics must be a list or a mapping .*, got str"),
        ({"metrics": {"c": Color}}, "a metric must be .*, got the class Color, which is not called"),
        ({"metrics": [np.linalg.norm]}, "a metric must be .*, got <function norm"),
        ({"metrics": [None]}, "a metric must be .*, got None"),
        ({"metrics": [Half()]}, "a metric must be .*, got <.*Half object"),
        ({"metrics": [Units()]}, r"a metric must be .*, got Units\("),
        ({"metrics": {("a", "b"): Color()}}, r"names of metrics must be str, got \('a', 'b'\)"),
    ],
)
def test_what_is_no_finder_or_metric_is_refused_before_any_fit(change, message, responses, images, no_fit):
    good = {"systems": {"brain": responses}, "images": images, "finders": [Units()], "metrics": [Color()]}
    with pytest.raises(TypeError, match=message) as caught:
        compare(**good | change)
    assert "\n" not in str(caught.value)


def test_a_system_of_one_unit_has_no_direction_but_the_unit(responses, images):
    one = {"V4": responses[:, :1]}
    finders = [Units(), PCA(), Random(), NMF(), KMeans(normalize=False)]
    table = compare(one, images, finders, [Color()], baselines=False, score_on="all", top=4)
    assert table.sizes["item"] == len(finders)
    assert_allclose(table.interpretability[:, 0], interpretability_index(one["V4"], images, Color(), top=4).item())
    message = "no direction of 'V4' by 'KMeans' varies .*: a single unit has no direction but itself"
    with pytest.raises(ValueError, match=message):  # all responses have unit length, and are the same
        compare(one, images, [Units(), KMeans()], [Color()])


RESERVED = ["chance_level", "difference_of_halves", "draw", "influence", "rank", "seed", "quantity", "baseline"]


@pytest.mark.parametrize("name", [*RESERVED, "code", "end", "top", "n_stimuli", "score_on", "has_copies"])
def test_unit_coords_of_reserved_names_are_refused_before_any_fit(name, responses, images, no_fit):
    with pytest.raises(ValueError, match=f"'brain' has the unit coord '{name}'"):
        compare({"brain": responses.assign_coords({name: ("unit", range(8))})}, images, [Units()], [Color()])


def test_names_of_systems_are_text(responses, images, no_fit):
    with pytest.raises(TypeError, match="names of systems must be str, got 7"):
        compare({7: responses}, images, [Units()], [Color()])


def test_labels_may_contain_any_character(responses, images):
    piped = {"stimulus": [f"{i} | x" for i in range(120)]}
    table = compare({"net": responses.assign_coords(piped)}, images.assign_coords(piped), [Units()], [Color()])
    assert set(table.top_stimuli.values.ravel()) < set(piped["stimulus"])
