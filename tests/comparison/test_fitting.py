import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from sklearn.preprocessing import StandardScaler

from neurosuper import (
    PCA,
    Color,
    KMeans,
    Units,
    compare,
    interpretability_index,
    split_stimuli,
)
from neurosuper.responses import drop_constant_units


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


def test_the_remedy_for_units_constant_in_one_half_works(responses, images):
    lone = responses * ((responses.unit != "u001") | (responses.stimulus == "s0000"))
    with pytest.raises(ValueError, match="mark the halves with neurosuper.split_stimuli, then drop such units"):
        compare({"net": lone}, images, [Units()], [Color()])
    table = compare({"net": drop_constant_units(split_stimuli(lone))}, images, [Units()], [Color()])
    assert table.sizes["item"] == 7


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
        attempt(lone)


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


@pytest.mark.parametrize(
    "name", ["chance_level", "difference_of_halves", "draw", "influence", "rank", "seed", "quantity", "baseline"]
)
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
