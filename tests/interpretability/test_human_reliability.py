import itertools

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score

from neurosuper.interpretability import human_ceiling, validate_against_humans

UNIT = ["model", "layer", "channel"]


def judge(p, rng, n_trials=20, n_people=3):
    """Judgements of units whose probability of a correct answer is p (unit,) or (unit, trial)."""
    p = np.broadcast_to(p[:, None] if p.ndim == 1 else p, (len(p), n_trials))
    unit, trial, _ = np.indices((len(p), n_trials, n_people)).reshape(3, -1)
    correct = rng.random(len(unit)) < p[unit, trial]
    table = {"model": "net", "layer": "layer1", "channel": unit, "batch": trial, "correct": correct, "confidence": 2}
    return pd.DataFrame(table)


def test_the_planted_reliability_is_recovered(rng):
    """Accuracy over n answers has variance var p + mean p(1 − p)/n: their ratio is the reliability."""
    found, planted = [], []
    for _ in range(30):
        p = rng.beta(6, 2, 100)
        planted.append(p.var() / (p.var() + (p * (1 - p)).mean() / 30))
        found.append(human_ceiling(judge(p, rng, 10), n_resamples=30).reliability.item())
    error = np.subtract(found, planted)
    assert abs(error.mean()) < 3 * error.std() / 30**0.5
    assert error.std() / 30**0.5 < 0.01


def test_a_perfect_score_reaches_the_ceiling_and_half_of_one_half_of_it(rng):
    ratios = []
    for _ in range(12):
        p = rng.beta(6, 2, 100)
        scores = xr.DataArray(
            p, dims="unit", coords={"unit": [f"u{i}" for i in range(100)], "layer": ("unit", ["layer1"] * 100)}
        ).assign_coords(channel=("unit", np.arange(100)))
        judgements = judge(p, rng, 8, 2)
        noisy = scores.copy(data=p + p.std() * 3**0.5 * rng.normal(size=100))
        both = [validate_against_humans(each, judgements, n_resamples=20).sel(group="all") for each in (scores, noisy)]
        assert both[0].pearson < 0.95
        ratios.append([each.pearson_ceiled.item() for each in both])
    se = np.std(ratios, axis=0) / 12**0.5
    assert (abs(np.mean(ratios, axis=0) - [1, 0.5]) < 3 * se).all()
    assert (se < 0.04).all()
    assert np.max(ratios) > 1, "the ratio is never clipped"


def test_what_is_common_to_the_judgements_of_a_trial_is_no_reliability_of_the_unit(rng):
    """Units are equal, trials are not: halves that shared trials would correlate."""
    found = [
        human_ceiling(judge(rng.beta(0.5, 0.5, (60, 10)), rng, 10, 6), n_resamples=20).reliability for _ in range(30)
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / 30**0.5


def test_the_ceiling_is_that_of_halves_drawn_one_by_one(rng):
    """Oracle: halves in a loop over units, with unequal numbers of trials and people; equal up to Monte Carlo error."""
    judgements = judge(rng.beta(3, 2, 25), rng, 7, 3).sample(frac=0.8, random_state=0)
    units = [[t["correct"].tolist() for _, t in own.groupby("batch")] for _, own in judgements.groupby("channel")]
    r = []
    for _ in range(400):
        x, y = [], []
        for trials in units:
            shuffled = [trials[i] for i in rng.permutation(len(trials))]
            n_first = (len(trials) + rng.integers(2)) // 2
            x.append(np.mean(np.concatenate(shuffled[:n_first])))
            y.append(np.mean(np.concatenate(shuffled[n_first:])))
        r.append(np.corrcoef(x, y)[0, 1])
    ours = human_ceiling(judgements, n_resamples=4000)
    r_ours = ours.reliability / (2 - ours.reliability)
    assert abs(r_ours - np.mean(r)) < 3 * np.std(r) * (1 / 400 + 1 / 4000) ** 0.5
    assert_allclose(ours.ceiling**2, ours.reliability)


def test_the_auc_of_one_person_for_another_is_that_of_all_pairs(rng):
    judgements = judge(rng.beta(2, 1, (30, 5)), rng, 5, 4).sample(frac=0.7, random_state=1)
    pairs = [
        pair
        for _, own in judgements.groupby(["channel", "batch"])
        for pair in itertools.permutations(own["correct"].tolist(), 2)
    ]
    other, person = np.array(pairs).T
    assert_allclose(human_ceiling(judgements, n_resamples=2).auc, roc_auc_score(person, other))


def test_people_who_agree_fully_predict_each_other_and_guesses_do_not(rng):
    same = rng.random((40, 10)) < 0.7
    assert_allclose(human_ceiling(judge(same.astype(float), rng, 10), n_resamples=2).auc, 1)
    assert abs(human_ceiling(judge(np.full(400, 0.7), rng, 10), n_resamples=2).auc - 0.5) < 0.02


def test_guesses_have_no_ceiling_to_divide_by(rng):
    judgements = judge(np.full(40, 0.75), rng, 6, 2)
    coords = {"unit": [f"u{i}" for i in range(40)], "layer": ("unit", ["layer1"] * 40), "channel": ("unit", range(40))}
    scores = xr.DataArray(rng.random(40), dims="unit", coords=coords)
    results = [
        validate_against_humans(scores, judge(np.full(40, 0.75), rng, 6, 2), n_resamples=5).sel(group="all")
        for _ in range(10)
    ]
    low = [result for result in results if result.ceiling < 0.1]
    assert low
    assert all(result.pearson_ceiled.isnull() for result in low)
    assert human_ceiling(judgements, n_resamples=5).ceiling >= 0


def test_the_ceiling_of_a_validation_is_that_of_the_judgements_with_a_score(rng):
    judgements = judge(rng.beta(6, 2, 60), rng)
    coords = {"unit": [f"u{i}" for i in range(30)], "layer": ("unit", ["layer1"] * 30), "channel": ("unit", range(30))}
    result = validate_against_humans(xr.DataArray(rng.random(30), dims="unit", coords=coords), judgements)
    alone = human_ceiling(judgements[judgements["channel"] < 30])
    assert_allclose(result.ceiling.sel(group="all"), alone.ceiling)
    assert_allclose(result.pearson_ceiled.sel(group="all"), result.pearson.sel(group="all") / alone.ceiling)


def test_what_cannot_be_halved_is_counted_or_nan(rng):
    judgements = judge(rng.beta(6, 2, 10), rng)
    once = judgements[(judgements["channel"] > 3) | (judgements["batch"] == 0)]
    result = human_ceiling(once, n_resamples=10)
    assert (result.n_units, result.attrs["n_units_left_out"]) == (6, 4)
    for few in (judgements[judgements["channel"] < 2], judgements.assign(correct=True)):
        assert human_ceiling(few, n_resamples=10).ceiling.isnull()
    assert human_ceiling(judgements.assign(correct=True), n_resamples=10).auc.isnull()
    assert human_ceiling(judgements.drop_duplicates([*UNIT, "batch"]), n_resamples=10).auc.isnull()
    with pytest.raises(ValueError, match="n_resamples must be a whole number of at least 1, got 0"):
        human_ceiling(judgements, n_resamples=0)
