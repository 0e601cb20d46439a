"""Directions between two others are on a great circle, and their index is that of a loop over them."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy.spatial import geometric_slerp

from neurosuper import interpretability_index, project, split_stimuli
from neurosuper.superposition import between_directions


def name_directions(D, unit):
    labels = [f"d{i}" for i in range(len(D))]
    return xr.DataArray(D, {"direction": labels, "unit": unit}, ("direction", "unit"))


@pytest.fixture(scope="module")
def world(label_world):
    """Eight directions, each of which one feature of images drives, in 8 units; and these directions."""
    rng = np.random.default_rng(0)
    features, D = rng.integers(0, 8, 320), np.linalg.qr(rng.normal(size=(8, 8)))[0]
    values = rng.exponential(2, 320)[:, None] * D[features] + 0.1 * rng.normal(size=(320, 8))
    responses, images, metric = label_world(values, features)
    return responses, images, metric, name_directions(D, responses.unit)


def test_each_index_is_that_of_a_loop_over_points_of_the_great_circle(world):
    responses, images, metric, D = world
    a, b = D[:2] * 3.0, name_directions(np.random.default_rng(1).normal(size=(2, 8)), responses.unit)
    result = between_directions(a, b, images, metric, responses, n_steps=5, n_resamples=10)
    assert result.sizes == {"pair": 4, "step": 5}
    for pair in range(4):
        ends = [result.direction_a.values[pair], result.direction_b.values[pair]]
        first, second = (
            each.values / np.linalg.norm(each) for each in (a.sel(direction=ends[0]), b.sel(direction=ends[1]))
        )
        points = geometric_slerp(first, second, np.linspace(0, 1, 5))
        index = interpretability_index(project(responses, name_directions(points, responses.unit)), images, metric)
        assert_allclose(result.interpretability[pair], index, atol=1e-6)
        assert_allclose(result.angle[pair], np.degrees(np.arccos(first @ second)))
        assert_allclose(result.dip[pair], (index[0] + index[4]) / 2 - index[2], atol=1e-6)
        assert_allclose(result.interpretability_turned[pair, 0], index[0], atol=1e-6)
    assert_allclose(result.mean_dip, result.dip.mean())
    random = result.interpretability_random
    assert_allclose(result.mean_dip_random, ((random[:, 0] + random[:, 4]) / 2 - random[:, 2]).mean())


def test_the_index_dips_between_two_features_and_not_between_copies_of_one(world):
    responses, images, metric, D = world
    result = between_directions(D, D, images, metric, responses, n_steps=3, n_resamples=50)
    assert result.sizes["pair"] == 28
    assert result.mean_dip_low > 0.3
    assert result.dip_above_turned_low > 0
    assert result.p_value < 0.05
    assert abs(result.mean_dip_random) < 0.1
    near = name_directions(D.values + 0.02 * np.random.default_rng(2).normal(size=D.shape), responses.unit)
    copies = [
        between_directions(D[i : i + 1], near[i : i + 1], images, metric, responses, n_steps=3, n_resamples=10)
        for i in range(3)
    ]
    assert_allclose([copy.mean_dip for copy in copies], 0, atol=0.05)
    again = between_directions(D[:1], D[:1].assign_coords(direction=["copy"]), images, metric, responses, n_steps=3)
    assert (again.angle.item(), again.mean_dip.item(), again.p_value.item()) == (0, 0, 1)


def test_noise_has_no_dip(label_world):
    p_values = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        responses, images, metric = label_world(rng.normal(size=(100, 6)), rng.integers(0, 6, 100), seed)
        D = name_directions(rng.normal(size=(6, 6)), responses.unit)
        settings = {"n_steps": 3, "n_resamples": 10, "random_state": seed}
        p_values.append(between_directions(D, D, images, metric, responses, **settings).p_value.item())
    assert np.mean(np.array(p_values) < 0.05) < 0.3


def test_order_does_not_matter_and_only_stimuli_to_score_on_are_used(world):
    responses, images, metric, D = world
    settings = {"n_steps": 3, "n_pairs": 5, "n_resamples": 10}
    marked = split_stimuli(responses)
    first = between_directions(D, D, images, metric, marked, **settings)
    assert (first.n_stimuli, first.sizes["pair"]) == (160, 5)
    score = marked[marked.split == "score"].drop_vars("split")
    turned = between_directions(D[::-1], D[::-1, ::-1], images, metric, score[:, ::-1], **settings)
    for name in ("interpretability", "interpretability_random", "interpretability_turned", "mean_dip"):
        assert_allclose(turned[name], first[name], atol=1e-6)
    lazy = between_directions(D, D, images, metric, marked.chunk(stimulus=40), **settings)
    xr.testing.assert_allclose(lazy, first)


def test_bad_input_is_refused_with_a_reason(world):
    responses, images, metric, D = world
    with pytest.raises(ValueError, match="^n_steps must be odd, so that one step is in the middle, got 4$"):
        between_directions(D, D, images, metric, responses, n_steps=4)
    with pytest.raises(ValueError, match="^no pair of directions to interpolate between: there is only one, or all"):
        between_directions(D[:1], D[:1], images, metric, responses)
    with pytest.raises(ValueError, match="^no pair of directions to interpolate between"):
        between_directions(D[:1], -D[:1], images, metric, responses)
    with pytest.raises(ValueError, match="^directions and responses have different units: only one has 'u000'; select"):
        between_directions(D, D, images, metric, responses[:, 1:])
    with pytest.raises(ValueError, match="^directions of 1 unit have none between them; record at least 2 units$"):
        between_directions(D[:, :1], D[:, :1], images, metric, responses[:, :1])
