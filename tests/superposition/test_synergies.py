"""Synergy is that of a loop over pairs, is found where it was planted, and is not where nothing was."""

from itertools import combinations

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from scipy import stats

from neurosuper import interpretability_index, split_stimuli
from neurosuper.superposition import synergy


def both_needed(rng, n_stimuli=600, n_units=16):
    """Units 3 and 8 see two hidden properties; all stimuli with both show the same thing, others all differ."""
    values = rng.normal(size=(n_stimuli, n_units))
    features = np.where((values[:, 3] > 0.9) & (values[:, 8] > 0.9), 0, np.arange(1, n_stimuli + 1))
    return values, features


@pytest.fixture(autouse=True)
def _few_halves(monkeypatch):
    monkeypatch.setattr("neurosuper.superposition.synergies.N_HALVES", 40)


@pytest.fixture(scope="module")
def planted(label_world):
    return label_world(*both_needed(np.random.default_rng(0)))


COMBINATIONS = {
    "sum": lambda a, b: a + b,
    "difference": lambda a, b: a - b,
    "product": lambda a, b: a.clip(min=0) * b.clip(min=0),
    "and": lambda a, b: np.minimum(a, b),
}


@pytest.mark.parametrize(("combine", "against"), [*((name, "best") for name in COMBINATIONS), ("sum", "mean")])
def test_it_is_that_of_a_loop_over_pairs(combine, against, label_world):
    rng = np.random.default_rng(1)
    responses, images, metric = label_world(rng.normal(1, 2, size=(80, 4)), rng.integers(0, 5, 80))
    responses = split_stimuli(responses, random_state=2)
    result = synergy(responses, images, metric, combine=combine, against=against, top=4, n_resamples=19)
    parts = {part: responses[responses.split == part] for part in ("fit", "score")}
    scale = parts["fit"].std("stimulus")
    for name, part in {"synergy_found": "fit", "synergy": "score"}.items():
        scaled = parts[part] / scale
        alone = interpretability_index(scaled, images, metric, top=4).values
        for i, (a, b) in enumerate(combinations(range(4), 2)):
            z = COMBINATIONS[combine](scaled[:, a], scaled[:, b].drop_vars("unit")).drop_vars("unit")
            index = interpretability_index(z.expand_dims(unit=["z"]), images, metric, top=4).item()
            reference = max(alone[a], alone[b]) if against == "best" else (alone[a] + alone[b]) / 2
            assert_allclose(result[name][i], index - reference, atol=1e-6)
            if name == "synergy":
                assert (result.unit_a[i], result.unit_b[i]) == (f"u{a:03d}", f"u{b:03d}")
                both = result.interpretability_a[i], result.interpretability_b[i]
                assert_allclose(both, alone[[a, b]], atol=1e-6)
                assert_allclose(result.interpretability[i], index, atol=1e-6)
    best = [int(result.synergy_found.values.argmax())]
    assert_allclose(result.synergy_of_best, result.synergy[best].mean())
    assert_allclose(result.found_of_best, result.synergy_found.max())
    assert_allclose(result.share_above, (result.synergy > 0).mean())
    better = np.maximum(result.interpretability_a, result.interpretability_b)
    assert_allclose(result.correlation, np.corrcoef(result.synergy, better)[0, 1])


def test_directions_are_compared_with_the_units_that_they_weigh(planted):
    responses, images, metric = planted
    W = np.zeros((2, 16))
    W[0, [3, 8]], W[1, [1, 2, 5]] = 1, [0.5, -2, 0.1]
    directions = xr.DataArray(W, {"direction": ["planted", "other"], "unit": responses.unit}, ("direction", "unit"))
    responses = split_stimuli(responses)
    score = responses[responses.split == "score"]
    alone = interpretability_index(score, images, metric).values
    for against, reference in (("best", np.max), ("mean", np.mean)):
        result = synergy(responses, images, metric, pairs=directions[:, ::-1], against=against, n_resamples=199)
        for row, units in enumerate(([3, 8], [1, 2, 5])):
            code = xr.DataArray(score.values @ W[row], {"stimulus": score.stimulus}, ("stimulus",))
            index = interpretability_index(code.expand_dims(unit=["z"]), images, metric).item()
            assert_allclose(result.synergy[row], index - reference(alone[units]), atol=1e-6)
            assert_allclose(result.interpretability_best[row], alone[units].max(), atol=1e-6)
    assert result.pair.values.tolist() == ["planted", "other"]
    assert result.n_units.values.tolist() == [2, 3]
    assert result.p_value[0] < 0.05 < result.p_value[1]
    with pytest.raises(ValueError, match=r"^directions are weighted sums, got combine='and'; leave it out"):
        synergy(responses, images, metric, pairs=directions, combine="and")
    with pytest.raises(ValueError, match=r"^direction 'other' has 1 weights that are not 0, and synergy is for"):
        synergy(responses, images, metric, pairs=directions.where(np.abs(directions) >= 1, 0))
    with pytest.raises(ValueError, match="^directions have weights of unit 'u003', which does not vary or has"):
        synergy(responses.drop_sel(unit="u003"), images, metric, pairs=directions)


def test_two_units_that_together_code_what_neither_does_are_first_of_all_pairs(planted):
    result = synergy(*planted, combine="and", n_resamples=9999)
    assert result.pair[result.synergy.values.argmax()] == "u003 & u008"
    assert result.pair[result.synergy_found.values.argmax()] == "u003 & u008"
    chosen = result.sel(pair="u003 & u008")
    assert chosen.synergy > 0.5
    assert chosen.p_adjusted < 0.05
    assert (result.p_adjusted < 0.05).sum() == 1


def test_the_best_pairs_of_noise_are_good_only_where_they_were_found(label_world):
    rng = np.random.default_rng(3)
    result = synergy(*label_world(rng.normal(size=(400, 20)), rng.integers(0, 6, 400)), n_resamples=999)
    assert result.found_of_best > 0.2
    assert result.synergy_of_best_low < 0 < result.synergy_of_best_high
    assert result.correlation_found < -0.3
    assert abs(result.share_above - result.share_above_null) < 0.1
    assert result.share_above_low < result.share_above < result.share_above_high
    assert result.p_adjusted.min() > 0.05


@pytest.mark.slow
def test_p_values_of_pairs_of_noise_are_uniform(label_world):
    p_values = []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        world = label_world(rng.exponential(size=(60, 20)), rng.integers(0, 6, 60), seed)
        pairs = [(f"u{i:03d}", f"u{i + 1:03d}") for i in range(0, 20, 2)]
        p_values += synergy(
            *world, pairs=pairs, score_on="all", n_resamples=400, random_state=seed
        ).p_value.values.tolist()
    # p-values of few distances are discrete: spread each evenly below itself
    spread = np.array(p_values) - np.random.default_rng(0).random(500) / 401
    assert stats.kstest(spread, "uniform").pvalue > 0.01
    assert 0.03 <= np.mean(np.array(p_values) <= 0.05) <= 0.07


def test_order_and_dask_do_not_matter_and_scale_does_not(planted):
    responses, images, metric = planted
    responses, pairs = responses[:150, :9], [("u003", "u008"), ("u002", "u001")]
    settings = {"pairs": pairs, "n_resamples": 50}
    first = synergy(responses, images, metric, **settings)
    for other in (responses.chunk(stimulus=40), responses[::-1, ::-1], responses * np.linspace(1, 9, 9)):
        again = synergy(other, images, metric, **settings)
        xr.testing.assert_allclose(first, again)
    everything = synergy(responses[:, ::-1], images, metric, n_resamples=50, score_on="all")
    xr.testing.assert_allclose(everything, synergy(responses, images, metric, n_resamples=50, score_on="all"))
    assert "synergy_found" not in everything
    assert everything.n_stimuli == 150


def test_bad_input_is_refused_with_a_reason(planted, monkeypatch):
    responses, images, metric = planted
    with pytest.raises(ValueError, match=r"^pairs must be 'all', directions, or pairs of two different units, such as"):
        synergy(responses, images, metric, pairs=[("u001", "u001")])
    with pytest.raises(ValueError, match="^pairs name unit 'v', but the units that vary are 'u000', 'u001', 'u002', …"):
        synergy(responses, images, metric, pairs=[("u001", "v")])
    with pytest.raises(ValueError, match="pairs must contain each pair of units once; leave out those that are repeat"):
        synergy(responses, images, metric, pairs=[("u001", "u002"), ("u002", "u001")])
    with pytest.raises(ValueError, match="combine must be one of 'sum', 'difference', 'product', 'and'; got 'or'"):
        synergy(responses, images, metric, combine="or")
    silent = responses[:, :3].copy()
    silent[1:, 0] = 0
    with pytest.warns(UserWarning, match="^1 of 3 units do not vary over both halves of the stimuli, and are left"):
        assert synergy(silent, images, metric, n_resamples=19).pair.values.tolist() == ["u001 & u002"]
    with pytest.raises(ValueError, match="synergy needs at least 2 units that vary, got 1; record or select more"):
        synergy(responses[:, :1], images, metric)
    with monkeypatch.context() as small:
        small.setattr("neurosuper.superposition.unit_groups.memory_of_machine", lambda: 1e5)
        with pytest.raises(ValueError, match="^all 120 pairs of 16 units take 7.2e-05 GB, more than half of this mac"):
            synergy(responses, images, metric)
    with monkeypatch.context() as small:
        small.setattr("neurosuper.superposition.index_tables.memory_of_machine", lambda: 1e5)
        with pytest.raises(ValueError, match="^the distances between 298 images take 0.000355 GB, more than half of"):
            synergy(responses, images, metric, n_resamples=19)
    with pytest.raises(ValueError, match="n_resamples must be a whole number of at least 19, which allow p = 0.05"):
        synergy(responses, images, metric, n_resamples=9)
