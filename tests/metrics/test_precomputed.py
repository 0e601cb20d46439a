"""Distances given as a matrix: looked up by label, in any order; a wrong matrix is an error that names the pair."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from neurosuper.metrics import ImageMetric, Precomputed

LABELS = [f"s{i}" for i in range(6)]


def label_distances(values: np.ndarray, labels=LABELS, others=LABELS) -> xr.DataArray:
    return xr.DataArray(values, dims=("stimulus", "other"), coords={"stimulus": labels, "other": others})


@pytest.fixture
def distances(rng) -> xr.DataArray:
    """Euclidean distances between six random points."""
    return label_distances(squareform(pdist(rng.normal(size=(6, 3)))))


@settings(max_examples=20, deadline=None)
@given(
    rows=st.permutations(range(6)),
    columns=st.permutations(range(6)),
    turned=st.booleans(),
    asked=st.lists(st.sampled_from(LABELS)),
)
def test_distances_are_found_by_label(rows, columns, turned, asked):
    distances = label_distances(squareform(pdist(np.random.default_rng(0).normal(size=(6, 3)))))
    shuffled = distances[rows, columns]
    metric = Precomputed(shuffled.T if turned else shuffled)
    where = [LABELS.index(label) for label in asked]
    np.testing.assert_array_equal(metric.distances_between(asked), distances.values[np.ix_(where, where)])


def test_it_works_together_with_other_metrics(distances):
    metric = Precomputed(distances, name="human", quantity="judged distance (1–7)")
    assert isinstance(metric, ImageMetric)
    assert (metric.name, metric.quantity) == ("human", "judged distance (1–7)")
    assert (metric.squared, metric.self_similarity, metric.batch_size) == (False, 0.0, None)
    assert repr(metric) == "Precomputed(6 stimuli, name='human', quantity='judged distance (1–7)')"


def test_names_come_from_the_matrix(distances):
    assert (Precomputed(distances).name, Precomputed(distances).quantity) == ("precomputed", "precomputed distance")
    named = Precomputed(distances.assign_attrs(metric="color", quantity="color distance"))
    assert (named.name, named.quantity) == ("color", "color distance")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("float64", torch.float64), ("float32", torch.float32), ("float16", torch.float32), ("int8", torch.float64)],
)
def test_values_keep_their_precision(distances, given, kept):
    distances = distances.round().astype(given)
    ours = Precomputed(distances).distances_between(LABELS)
    assert ours.dtype == kept
    np.testing.assert_array_equal(ours, distances)


def test_rounding_errors_are_evened_out(distances):
    """As single-precision arithmetic leaves them, on and off the diagonal."""
    rough = distances + distances.values.max() * 5e-6 * np.tri(6)
    ours = Precomputed(rough).distances_between(LABELS).numpy()
    np.testing.assert_allclose(ours, distances, atol=float(distances.max()) * 3e-6)
    np.testing.assert_array_equal(ours, ours.T)
    assert not ours.diagonal().any()
    assert rough[0, 0] > 0, "what was given is left as it was"


def test_it_has_no_embeddings(distances):
    with pytest.raises(
        TypeError, match=r"precomputed gives distances, not embeddings; call distances_between\(labels\)"
    ):
        Precomputed(distances).embed(torch.zeros(1, 3, 4, 4))


def test_missing_stimuli_are_named(distances):
    with pytest.raises(ValueError, match=r"no distance for stimulus 'x', 'y'; it has 's0', 's1', 's2', … \(6 in all\)"):
        Precomputed(distances).distances_between(["s1", "x", "y", "x"])


def changed(i: int, j: int, value: float):
    """Return a function that puts a value at one place of the matrix."""

    def change(distances: xr.DataArray) -> xr.DataArray:
        distances = distances.copy()
        distances[i, j] = value
        return distances

    return change


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (changed(1, 3, np.nan), ValueError, "distance of 's1' and 's3' is nan, not finite; leave out"),
        (changed(1, 3, np.inf), ValueError, "distance of 's1' and 's3' is inf, not finite"),
        (changed(4, 2, -0.5), ValueError, "'s4' and 's2' is -0.5, but distances are at least 0; from similarities"),
        (changed(2, 2, 1), ValueError, "'s2' and 's2' is 1, but a stimulus is at distance 0 from itself; from similar"),
        (changed(0, 5, 90), ValueError, r"'s0' and 's5' is 90, but [\d.]+ the other way round; average"),
        (lambda d: 1 - d / d.max(), ValueError, "'s0' and 's0' is 1, but .*pass s.max"),
        (lambda d: d[:, 1:], ValueError, "square, but stimulus 's0' is on only one of the dims 'stimulus' and 'other'"),
        (lambda d: d.assign_coords(other=list("abcdef")), ValueError, r"stimulus 'a', 'b', 'c', … \(12 in all\)"),
        (lambda d: d.drop_vars("other"), ValueError, "distances need labels on 'other'"),
        (lambda d: d.assign_coords(stimulus=range(6)), TypeError, "distances need strings on 'stimulus', got int"),
        (lambda d: d.assign_coords(stimulus=["s0"] * 6), ValueError, "duplicate stimulus labels 's0'"),
        (lambda d: d.rename(stimulus="image"), ValueError, r"need the dim 'stimulus' and one other, got \('image'"),
        (lambda d: d.expand_dims("subject"), ValueError, "need the dim 'stimulus' and one other"),
        (lambda d: d + 1j, TypeError, "must be real numbers, got dtype complex128"),
        (lambda d: d.values, TypeError, "must be an xarray.DataArray .* got ndarray"),
    ],
)
def test_a_wrong_matrix_is_refused(distances, wrong, error, message):
    with pytest.raises(error, match=message) as caught:
        Precomputed(wrong(distances))
    assert "\n" not in str(caught.value)
