"""A finder that a user writes has all that the package's own have."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import xarray as xr
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

import neurosuper as ns
from neurosuper.directions import DirectionFinder

PAGE = Path(__file__).parents[2] / "tutorials" / "methods" / "write_a_finder.md"


@pytest.fixture(scope="module")
def classes():
    """The finders that the how-to shows, by name."""
    module = ModuleType("finders_of_a_user")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)  # where pickle looks for a class
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S):
            exec(re.split(r"\n\n\n(?=\w+ = )", block)[0], vars(module))
        yield vars(module)


def test_it_is_about_twenty_lines_long():
    first = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)[0].split("\n\n\nfinder = ")[0]
    assert len(first.splitlines()) <= 25


@pytest.mark.parametrize("name", ["FarthestStimuli", "SecondMoment", "PowerIteration"])
def test_finder_of_a_user_is_labelled_saved_and_measured(name, classes, responses):
    fitted = classes[name](2).fit(responses.assign_coords(area=("unit", ["V1", "V4"] * 4)))
    assert_allclose((fitted.directions_**2).sum("unit"), 1, rtol=1e-5)
    assert fitted.directions_.direction.values.tolist() == [f"{name} 0", f"{name} 1"]
    assert fitted.directions_.area.dims == ("unit",)
    restored = DirectionFinder.from_dataset(fitted.to_dataset())
    assert repr(restored) == repr(clone(fitted))
    xr.testing.assert_identical(restored.transform(responses), fitted.transform(responses))
    table = ns.sweep(classes[name](), responses, n_directions=[2])
    assert_allclose(table.explained_variance, fitted.explained_variance(responses), rtol=1e-5)


def test_exemplars_are_responses_of_single_stimuli(classes, responses):
    D = classes["FarthestStimuli"](5).fit(responses).directions_.values
    X = responses / (responses**2).sum("unit") ** 0.5
    assert_allclose((X.values @ D.T).max(0), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["SecondMoment", "PowerIteration"])
def test_eigenvectors_are_those_of_pca_about_zero(name, classes, responses):
    expected = ns.PCA(2, center=False, dtype="float64").fit(responses).directions_
    assert_allclose(
        abs(classes[name](2).fit(responses).directions_.values @ expected.values.T), [[1, 0], [0, 1]], atol=1e-3
    )


@pytest.mark.filterwarnings("ignore")
def test_exemplars_pass_the_checks_of_scikit_learn(classes):
    check_estimator(classes["FarthestStimuli"](2), on_skip=None)
