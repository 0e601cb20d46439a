"""Responses in any physical unit, and what is refused or warned about."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from neurosuper.directions import ICA, NMF, PCA, Archetypal, DictionaryLearning, DirectionFinder, KMeans
from neurosuper.directions._rows.preparation import choose_scale

UNITS = np.array(["a", "b", "c"])


@pytest.mark.parametrize("largest", [2.0**-16, 1.0, 250.0, 2.0**16])
def test_ordinary_responses_are_not_scaled(largest):
    assert choose_scale(np.array([largest, largest / 2, largest / 3]), UNITS) == 1


@pytest.mark.parametrize("largest", [2e-24, 1e-13, 1e-5, 1e5, 1e12, 9e18])
def test_other_responses_are_scaled_near_one_by_a_power_of_two(largest):
    scale = choose_scale(np.array([largest, largest / 2, largest / 3]), UNITS)
    assert 0.5 <= scale * largest < 1
    assert np.log2(scale) % 1 == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("finder", [PCA(2), KMeans(3), NMF(2), ICA(2), Archetypal(3), DictionaryLearning(3)], ids=repr)
def test_responses_beyond_all_units_are_refused(finder, dtype, responses):
    finder.set_params(dtype=dtype)
    with pytest.raises(ValueError, match=r"responses are larger than 1e\+19 in unit 'u000', .*rescale the responses"):
        finder.fit(1e21 * responses)
    with pytest.raises(ValueError, match="responses are smaller than 1e-24; rescale them"):
        finder.fit(1e-28 * responses)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("finder", [PCA(2), PCA(), KMeans(3)], ids=repr)
def test_mark_for_a_missing_value_is_refused_by_the_name_of_its_unit(finder, lazy, responses):
    marked = responses.copy()
    marked[3, 5] = 1e30
    with pytest.raises(ValueError, match=r"larger than 1e\+19 in unit 'u005'; if that stands for a missing value"):
        finder.fit(marked.chunk(stimulus=50) if lazy else marked)


@pytest.mark.parametrize("finder", [PCA(1), KMeans(3)], ids=repr)
def test_unit_on_another_scale_is_named(finder, responses):
    mixed = responses * np.where(responses.unit == "u002", 1e12, 1)
    with pytest.warns(UserWarning, match=r"of unit 'u002' are over 1e\+06 times as large .* outweigh all others"):
        finder.fit(mixed)


def test_what_is_learned_is_in_the_unit_of_the_responses(responses):
    scale = 2.0**-50
    one, other = (KMeans(3, normalize=False, center=True).fit(s * responses) for s in (1, scale))
    assert_allclose(other.mean_ / scale, one.mean_)
    assert_allclose(other.centers_ / scale, one.centers_)
    assert_allclose([other.inertia_ / scale**2, other.objective_ / scale**2], [one.inertia_, one.objective_])
    assert_allclose(other.learning_curve_ / scale**2, one.learning_curve_)
    one, other = (PCA(3, dtype="float64").fit(s * responses) for s in (1, scale))
    assert_allclose(other.explained_variance_ / scale**2, one.explained_variance_)
    assert_allclose(other.explained_variance_ratio_, one.explained_variance_ratio_)
    one, other = (Archetypal(3, max_iter=3, tol=None, whiten=True).fit(s * responses) for s in (1, scale))
    assert_allclose(other.whitening_ * scale, one.whitening_)
    assert_allclose(other.archetypes_, one.archetypes_)


def test_settings_with_a_unit_are_in_that_of_the_responses(responses):
    scale = 2.0**-50
    one = DictionaryLearning(5, l1=2.0, max_iter=3).fit(responses)
    other = DictionaryLearning(5, l1=2.0 * scale, max_iter=3).fit(scale * responses)
    assert other.l1_ == 2.0 * scale
    assert_allclose(other.directions_, one.directions_, atol=1e-5)
    penalties = {"l1_codes": 0.2, "l2_codes": 0.1, "l1_directions": 0.3, "l2_directions": 0.2}
    scaled = penalties | {"l1_codes": 0.2 * scale, "l1_directions": 0.3 * scale**2, "l2_directions": 0.2 * scale**2}
    one = NMF(3, max_iter=20, tol=None, dtype="float64", **penalties).fit(responses)
    other = NMF(3, max_iter=20, tol=None, dtype="float64", **scaled).fit(scale * responses)
    assert_allclose(other.directions_, one.directions_, atol=1e-6)
    assert_allclose(other.lengths_, one.lengths_, rtol=1e-6)
    assert_allclose(other.transform(scale * responses) / scale, one.transform(responses), atol=1e-6)
    start = responses.values[:3]
    one = KMeans(3, init=start, normalize=False).fit(responses)
    other = KMeans(3, init=scale * start, normalize=False).fit(scale * responses)
    assert_allclose(other.centers_ / scale, one.centers_)


def test_responses_far_beyond_those_of_the_fit_are_refused_rather_than_coded_as_infinite(responses):
    fitted = KMeans(3, normalize=False, encoding="distance").fit(1e-18 * responses)
    with pytest.raises(ValueError, match="codes are not finite: .* are they in the same units"):
        fitted.transform(1e15 * responses)


def test_scale_of_a_fit_survives_a_file_and_old_files_have_none(responses):
    fitted = KMeans(3).fit(1e-13 * responses)
    dataset = fitted.to_dataset()
    assert DirectionFinder.from_dataset(dataset).scale_ == fitted.scale_ > 1
    assert DirectionFinder.from_dataset(dataset.drop_vars("scale")).scale_ == 1
