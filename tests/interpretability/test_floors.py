import itertools

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.optimize import fsolve
from scipy.spatial.distance import cdist

from neurosuper import Color, Precomputed, interpretability_index, top_stimuli
from neurosuper.interpretability import frequency_floor
from neurosuper.interpretability.floors import balance_picks


def picks(codes, images, top):
    """Return the positions `(item, rank)` of top stimuli among the images."""
    labels = top_stimuli(codes, top=top)
    return images.get_index("stimulus").get_indexer(labels.values.T.ravel()).reshape(-1, top)


def test_the_frequency_floor_is_that_of_pairs_in_which_each_image_is_as_often(metric, responses, images):
    """Oracle: the weights by a solver of equations, and all pairs in loops."""
    E = metric.embed(images).double()
    table = cdist(E, E, "sqeuclidean" if metric.squared else "euclidean")
    places, f = np.unique(picks(responses, images, 20), return_counts=True)
    x = fsolve(lambda x: x * (x.sum() - x) - 19 * f, f / np.sqrt(f.sum()))
    pairs = [(x[i] * x[j], table[places[i], places[j]]) for i, j in itertools.combinations(range(len(places)), 2)]
    weights, distances = np.array(pairs).T
    floor = frequency_floor(responses, images, metric, top=20)
    expected = metric.self_similarity - np.average(distances, weights=weights)
    assert_allclose(floor, expected, rtol=1e-5, atol=1e-6)
    assert floor.name == "frequency_floor"
    assert floor.attrs == {"metric": metric.name, "quantity": floor.quantity, "top": 20, "n_items": 8}


@pytest.mark.parametrize(("most", "error"), [(6, 1e-9), (9, 5e-3)], ids=["in some pairs", "in every pair"])
def test_weights_of_picks_keep_the_number_of_pairs_of_every_image(most, error):
    counts = np.array([[most, 3], [5, 3], [4, 3], [0, 3]])
    x = balance_picks(counts)
    pairs = x * (x.sum(0) - x)
    assert_allclose(pairs / pairs.sum(0), counts / counts.sum(0), rtol=0, atol=error)


def trade(sets, rng):
    """Let two random sets trade the images that only one of them has (Strona et al. 2014)."""
    a, b = rng.choice(len(sets), 2, replace=False)
    own = sorted(sets[a] ^ sets[b])
    rng.shuffle(own)
    n_of_a = len(sets[a] - sets[b])
    sets[a], sets[b] = (sets[a] & sets[b]) | set(own[:n_of_a]), (sets[a] & sets[b]) | set(own[n_of_a:])


@pytest.mark.parametrize("noise", [0.7, 2.0], ids=["some images are in most sets", "images are in few sets"])
def test_the_frequency_floor_is_the_mean_of_random_sets_that_keep_all_frequencies(noise, make_responses, rng):
    """Units prefer plain images, whose distances to all others are small."""
    n, plain = 300, rng.normal(size=300)
    codes = make_responses(plain[:, None] + noise * rng.normal(size=(n, 40)))
    E = np.exp(-0.4 * plain)[:, None] * rng.normal(size=(n, 5))
    table = cdist(E, E)
    table /= table.mean()
    labels = codes.stimulus.values
    blank = xr.DataArray(
        np.zeros((n, 1, 1, 3), np.uint8), {"stimulus": labels}, ("stimulus", "row", "column", "channel")
    )
    given = Precomputed(xr.DataArray(table, {"stimulus": labels, "other": labels}, ("stimulus", "other")))
    sets, means = [set(row) for row in picks(codes, blank, 5)], []
    for step in range(40_000):
        trade(sets, rng)
        if step > 1000 and step % 20 == 0:
            at = np.array([sorted(each) for each in sets])
            means.append(-table[at[:, :, None], at[:, None, :]].sum() / (len(sets) * 20))
    floor = float(frequency_floor(codes, blank, given, top=5))
    assert abs(floor - np.mean(means)) < 1e-3
    assert floor > -0.9  # random images have −1


def test_items_that_all_pick_the_same_images_are_at_their_floor(make_responses, images, rng):
    codes = make_responses(np.repeat(rng.normal(size=(len(images), 1)), 3, axis=1))
    index = interpretability_index(codes, images, Color())
    assert_allclose(index, frequency_floor(codes, images, Color()), rtol=1e-5)


def test_too_few_top_stimuli_are_refused(responses, images):
    with pytest.raises(ValueError, match="at least 2 top stimuli, got 1"):
        frequency_floor(responses, images, Color(), top=1)
