"""Exemplars are the prepared response vectors of stimuli of the fit."""

import dask.array as da
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.preprocessing import normalize

from neurosuper.directions import Exemplars


def prepared(R, normalized, center, whiten):
    X = normalize(R) if normalized else R
    X = X - X.mean(0) if center or whiten else X
    if whiten:
        variance, V = np.linalg.eigh(np.cov(X.T))
        X = X @ (V / np.sqrt(variance)) @ V.T
    return X


@pytest.mark.parametrize(
    ("normalized", "center", "whiten"),
    [(False, False, False), (True, False, False), (True, True, False), (False, False, True)],
)
def test_directions_are_response_vectors_of_unit_length(normalized, center, whiten, responses):
    finder = Exemplars(20, normalize=normalized, center=center, whiten=whiten, dtype="float64").fit(responses)
    at = finder.positions_.values
    assert (np.diff(at) > 0).all(), "each stimulus at most once"
    assert_allclose(finder.directions_, normalize(prepared(responses.values, normalized, center, whiten)[at]))


def test_every_stimulus_is_drawn_with_the_same_probability(responses):
    counts = np.zeros(120)
    for seed in range(200):
        counts[Exemplars(12, random_state=seed).fit(responses).positions_.values] += 1
    assert stats.chisquare(counts).pvalue > 0.01


def test_seeds_differ_and_all_stimuli_can_be_taken(responses):
    first, second = (Exemplars(5, random_state=seed).fit(responses).positions_.values for seed in (0, 1))
    assert set(first) != set(second)
    assert_allclose(Exemplars(120).fit(responses).positions_, np.arange(120))


@pytest.mark.parametrize("chunks", [None, (50, 3)])
def test_stimuli_without_response_are_replaced(chunks, responses):
    silent = responses.copy()
    silent[10:100] = 0
    if chunks is not None:
        silent = silent.copy(data=da.from_array(silent.values, chunks=chunks))
    finder = Exemplars(30).fit(silent)
    assert set(finder.positions_.values) == {*range(10), *range(100, 120)}
    assert_allclose(finder.directions_, normalize(responses.values[finder.positions_.values]), rtol=1e-5)
    with pytest.raises(ValueError, match="cannot give 31 directions: 30 of 120 stimuli have a response; ask for fewer"):
        Exemplars(31).fit(silent)


def test_more_directions_than_stimuli_are_refused(responses):
    with pytest.raises(ValueError, match="cannot give 121 directions: 120 of 120 stimuli have a response"):
        Exemplars(121).fit(responses)
