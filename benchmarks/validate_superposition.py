"""Measures of superposition without superposition: p under the null, and coverage of intervals, in simulated studies.

Tests: each study draws data from the null model that it is tested against, such as directions that are uniform on the
sphere, responses that are Gaussian on axes of their own, units that ignore the images, or two independent systems.
Intervals: each study draws other stimuli; the truth is planted, or the mean over studies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from scipy import stats
from validation_tables import Run, Share, Target, print_table

from neurosuper import PCA, CovarianceMatched, Precomputed
from neurosuper.comparison import contrast_systems
from neurosuper.demo.superposed import superposed
from neurosuper.inference import compare_with_null, halves_interval
from neurosuper.interpretability import null_test, shuffle_stimuli, shuffle_units
from neurosuper.superposition import (
    axis_alignment,
    between_directions,
    clustered_apart,
    feature_counts,
    interference,
    privileged_axes,
    rotate_units,
    rotation_curve,
    soft_matching,
    sparseness,
    sparsity_curve,
    spectrum,
    synergy,
    weight_interference,
)
from neurosuper.superposition.axes import random_rotation

N_DRAWS = 19  # p has 20 values, and 5 % of them are at most 0.05
TOP = 3  # top stimuli, of 60


class Tested(NamedTuple):
    """The p of one study, and the same with ties between the data and draws of the null model broken at random.

    The second is exactly uniform where the null model is true. The first has steps, and is larger where there are ties.
    """

    p: float
    spread: float

    @classmethod
    def of(cls, estimate: xr.DataArray, null: xr.DataArray, p: xr.DataArray, seed: int) -> Tested:
        above, equal = (null.values > estimate.item()).sum(), (null.values == estimate.item()).sum()
        u = np.random.default_rng([seed, 7]).uniform()
        return cls(p.item(), (above + u * (1 + equal)) / (1 + null.size))


def label(values: np.ndarray, *dims: str) -> xr.DataArray:
    """Return an array with numbers as labels."""
    sizes = zip(dims, values.shape, strict=True)
    return xr.DataArray(values, {dim: np.arange(n).astype(str) for dim, n in sizes if dim != "repetition"}, dims)


def draw(size: tuple[int, ...], seed: int, stream: int = 0) -> np.ndarray:
    """Return Gaussian numbers."""
    return np.random.default_rng([seed, stream]).normal(size=size)


def look_at(values: np.ndarray, seed: int, tuned: float = 0.0) -> tuple[xr.DataArray, xr.DataArray, Precomputed]:
    """Return responses (stimulus, unit), images, and a metric of what the images show, which units may be tuned to."""
    shown = np.random.default_rng([seed, 5]).normal(size=(len(values), 3))
    tuning = np.random.default_rng(5).normal(size=(3, values.shape[1]))  # of the same units in all studies
    distances = np.linalg.norm(shown[:, None] - shown, axis=2)
    images = xr.DataArray(
        np.zeros((len(values), 1, 1, 3), np.uint8),
        {"stimulus": np.arange(len(values)).astype(str)},
        ("stimulus", "row", "column", "channel"),
    )
    responses = label(values + tuned * shown @ tuning, "stimulus", "unit")
    return responses, images, Precomputed(label(distances, "stimulus", "other"))


def against(null: Callable, statistic: Callable, data: object, seed: int) -> Tested:
    """Return p of any statistic."""
    test = compare_with_null(statistic, data, null, n_resamples=N_DRAWS, random_state=99 * seed)
    return Tested.of(test.estimate, test.null, test.p_value, seed)


def on_sphere(directions: xr.DataArray, *, random_state: int) -> xr.DataArray:
    """Return Gaussian directions, in place of others."""
    return directions.copy(data=np.random.default_rng(random_state).normal(size=directions.shape))


def rotated(directions: xr.DataArray, *, random_state: int) -> xr.DataArray:
    """Return a random rotation, in place of directions."""
    return directions.copy(data=random_rotation(len(directions), np.random.default_rng(random_state)))


def second_shuffled(responses: xr.DataArray, *, random_state: int) -> xr.DataArray:
    """Return responses with the stimuli of the second repetition permuted."""
    values = responses.values.copy()
    values[:, 1] = np.random.default_rng(random_state).permutation(values[:, 1])
    return responses.copy(data=values)


def rms(directions: xr.DataArray) -> xr.DataArray:
    return interference(directions).rms


def p_of_interference(seed: int) -> Tested:
    empty = label(np.zeros((12, 6)), "direction", "unit")
    return against(on_sphere, rms, on_sphere(empty, random_state=10**6 + seed), seed)


def p_of_interference_in_covariance(seed: int) -> Tested:
    responses = label(draw((60, 6), seed) * [3, 2, 1, 1, 1, 1], "stimulus", "unit")

    def in_covariance(_: xr.DataArray, *, random_state: int) -> xr.DataArray:
        return CovarianceMatched(12, center=True, random_state=random_state).fit(responses).directions_

    return against(in_covariance, rms, in_covariance(responses, random_state=10**6 + seed), seed)


def p_of_spectrum(seed: int) -> Tested:
    responses = label(draw((30, 2, 30), seed), "stimulus", "repetition", "unit")

    def total(R: xr.DataArray) -> xr.DataArray:
        return spectrum(R, fit=(1, 30), n_splits=1, n_resamples=0).variance.sum()

    return against(second_shuffled, total, responses, seed)


def p_of_sparseness(seed: int) -> Tested:
    codes = label(np.exp(draw((40, 6), seed) + draw((40, 1), seed, 2)), "stimulus", "unit")
    return against(shuffle_units, lambda Z: sparseness(Z).mean(), codes, seed)


def p_of_alignment(seed: int) -> Tested:
    drawn = rotated(label(np.zeros((6, 6)), "direction", "unit"), random_state=10**6 + seed)
    return against(rotated, lambda D: axis_alignment(D).largest.mean(), drawn, seed)


def p_of_rotation(seed: int) -> Tested:
    def turned(codes: xr.DataArray, *, random_state: int) -> xr.DataArray:
        return rotate_units(codes, 1, random_state=random_state)

    world = look_at(draw((60, 4), seed), seed)
    test = null_test(*world, null=turned, top=TOP, n_resamples=N_DRAWS, random_state=99 * seed)
    return Tested.of(test.interpretability, test.null, test.p_value, seed)


def p_of_curve(seed: int) -> Tested:
    world = look_at(draw((60, 4), seed), seed)
    curve = rotation_curve(*world, amounts=(0, 1), top=TOP, n_rotations=N_DRAWS, n_resamples=10, random_state=99 * seed)
    units, turned = curve.interpretability[0, 0], curve.interpretability.sel(amount=1)
    return Tested.of(units, turned, curve.p_value.sel(amount=1), seed)


def p_of_matching(seed: int) -> Tested:
    a, b = (label(draw((30, 4), seed, i), "stimulus", "unit") for i in range(2))
    return against(shuffle_stimuli, lambda A: soft_matching(A, b, n_folds=2, n_resamples=0).score, a, seed)


def p_of_axes(seed: int) -> Tested:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(60, 6))
    b = a @ random_rotation(6, rng) + 0.5 * rng.normal(size=a.shape)
    a, b = (label(values, "stimulus", "unit") for values in (a, b))
    test = privileged_axes(a, b, n_rotations=N_DRAWS, n_resamples=0, random_state=seed)
    return Tested.of(test.native, test.rotated, test.p_value, seed)


def p_of_axes_within_ceiling(seed: int) -> Tested:
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(60, 1, 6))
    a = label(signal + rng.normal(size=(60, 2, 6)), "stimulus", "repetition", "unit")
    b = label(signal[:, 0] @ random_rotation(6, rng), "stimulus", "unit")
    settings = {"n_rotations": N_DRAWS, "n_folds": 2, "n_resamples": 0, "random_state": seed}
    test = privileged_axes(a, b, **settings)
    return Tested.of(test.native_ceiled, test.rotated_ceiled, test.p_value_ceiled, seed)


def p_of_sparsified(seed: int) -> Tested:
    world = look_at(draw((120, 6), seed), seed)
    curve = sparsity_curve(PCA(4), *world, keep=2, top=TOP, n_resamples=50, random_state=seed)
    return Tested(*[curve.p_value.item()] * 2)


def p_of_synergy(seed: int) -> Tested:
    world = look_at(np.exp(draw((60, 2), seed)), seed)
    p = synergy(*world, top=TOP, score_on="all", n_resamples=N_DRAWS, random_state=seed).p_value.item()
    return Tested(p, p - np.random.default_rng([seed, 7]).uniform(0, 1 / (N_DRAWS + 1)))


def p_of_dip(seed: int) -> Tested:
    responses, images, metric = look_at(draw((60, 6), seed), seed)
    D = label(draw((4, 6), seed, 2), "direction", "unit")
    settings = {"n_steps": 3, "top": TOP, "n_resamples": 50, "random_state": seed}
    return Tested(*[between_directions(D, D, images, metric, responses, **settings).p_value.item()] * 2)


def p_of_halves_of_units(seed: int) -> Tested:
    world = look_at(draw((120, 8), seed), seed)
    table = clustered_apart(*world, finder=PCA(2), top=TOP, random_state=seed)
    return Tested(*[contrast_systems(table).sel(test=0).p_value.item()] * 2)


def p_of_counts(seed: int) -> Tested:
    def matched(R: xr.DataArray) -> int:
        # `n_matched` of one split: `count_features` takes at least two, with shuffled units of its own
        _, fits = feature_counts._fit_halves(PCA(3), R, seed)
        return feature_counts._count_matches(*(fit.directions_.values for fit in fits), 0.5)

    return against(shuffle_units, matched, label(draw((40, 6), seed), "stimulus", "unit"), seed)


def p_of_weights(seed: int) -> Tested:
    def mean(W: torch.Tensor) -> float:
        layer = torch.nn.Linear(6, 8, bias=False)
        layer.weight.data = W
        return weight_interference(torch.nn.Sequential(layer), "0").mean()

    def random(_: object, *, random_state: int) -> torch.Tensor:
        return torch.from_numpy(draw((8, 6), random_state))

    return against(random, mean, random(None, random_state=10**6 + seed), seed)


TESTS = {
    "`interference`: rms of directions uniform on the sphere": p_of_interference,
    "`interference`: rms of directions in the covariance of the responses": p_of_interference_in_covariance,
    "`spectrum`: cross-validated variance of noise; stimuli of one repetition shuffled": p_of_spectrum,
    "`sparseness` of exchangeable units; units shuffled": p_of_sparseness,
    "`axis_alignment`: largest share of a rotation": p_of_alignment,
    "`rotate_units`: index of Gaussian units; rotations": p_of_rotation,
    "`rotation_curve`: index of Gaussian units; its p": p_of_curve,
    "`soft_matching` of independent systems; stimuli shuffled": p_of_matching,
    "`privileged_axes`: Gaussian responses on rotated axes": p_of_axes,
    "`privileged_axes`: the same, relative to the noise ceiling": p_of_axes_within_ceiling,
    "`sparsity_curve`: above random units, of units that ignore the images": p_of_sparsified,
    "`synergy` of two units that ignore the images": p_of_synergy,
    "`between_directions`: dip of units that ignore the images": p_of_dip,
    "`clustered_apart`: contrast of units that ignore the images": p_of_halves_of_units,
    "`count_features`: matches in Gaussian responses; units shuffled": p_of_counts,
    "`weight_interference` of random weights": p_of_weights,
}


def limits(found: xr.Dataset, *names: str) -> list[tuple[float, float, float]]:
    """Return an estimate and its limits, of each name."""
    return [tuple(found[name + end].item() for end in ("", "_low", "_high")) for name in names]


def intervals_of_interference(seed: int) -> list[tuple[float, float, float]]:
    world = superposed(24, 8, 200, active=0.3, random_state=seed)
    codes = world.features.rename(feature="direction")
    return limits(interference(world.directions, codes=codes, n_resamples=50), "cofiring")


def intervals_of_spectrum(seed: int) -> list[tuple[float, float, float]]:
    signal = draw((300, 1, 15), seed) / np.arange(1, 16) ** 0.5
    responses = label(signal + 0.1 * draw((300, 2, 15), seed, 2), "stimulus", "repetition", "unit")
    found = spectrum(responses, fit=(1, 15), n_splits=2, n_resamples=50, random_state=seed)
    return limits(found, "alpha", "participation_ratio", "effective_rank")


def intervals_of_sparseness(seed: int) -> list[tuple[float, float, float]]:
    codes = label(np.random.default_rng(seed).exponential(size=(100, 5)), "stimulus", "unit")
    found = halves_interval(lambda rows: sparseness(codes[rows]).mean(), 100, n_resamples=20)
    return limits(found, "estimate")


def intervals_of_matching(seed: int) -> list[tuple[float, float, float]]:
    a, b = (label(draw((100, 6), seed, i), "stimulus", "unit") for i in range(2))
    return limits(soft_matching(a, b, n_resamples=50, random_state=seed), "score")


def intervals_of_axes(seed: int) -> list[tuple[float, float, float]]:
    rng = np.random.default_rng(seed)
    sources = rng.laplace(size=(100, 4))
    a, b = (label(sources + 0.7 * rng.normal(size=sources.shape), "stimulus", "unit") for _ in range(2))
    return limits(privileged_axes(a, b, n_rotations=N_DRAWS, n_folds=2, n_resamples=20), "difference")


def intervals_of_sparsified(seed: int) -> list[tuple[float, float, float]]:
    world = look_at(0.5 * draw((120, 6), seed), seed, tuned=1.0)
    curve = sparsity_curve(PCA(3), *world, keep=2, top=TOP, n_resamples=50, random_state=seed)
    return limits(curve, "mean", "change", "above_random", "omp_gain")


def intervals_of_synergy(seed: int) -> list[tuple[float, float, float]]:
    world = look_at(0.5 * draw((80, 5), seed), seed, tuned=1.0)
    found = synergy(*world, top=TOP, n_resamples=N_DRAWS, random_state=seed)
    return limits(found, "mean_synergy", "share_above", "synergy_of_best")


def intervals_of_dip(seed: int) -> list[tuple[float, float, float]]:
    responses, images, metric = look_at(0.5 * draw((80, 6), seed), seed, tuned=1.0)
    D = label(np.eye(6)[:4], "direction", "unit")
    settings = {"n_steps": 3, "top": TOP, "n_resamples": 50, "random_state": seed}
    return limits(between_directions(D, D, images, metric, responses, **settings), "mean_dip", "dip_above_turned")


INTERVALS = {  # study: name and planted truth (NaN: the mean over studies) of each estimate
    intervals_of_interference: {"`interference`: co-firing of independent features": 1.0},
    intervals_of_spectrum: {
        "`spectrum`: alpha of variances 1, 1/2, 1/3, …": np.nan,
        "`spectrum`: participation ratio of these": np.nan,
        "`spectrum`: effective rank of these": np.nan,
    },
    intervals_of_sparseness: {"`sparseness` of an exponential distribution, mean of 5 units": np.nan},
    intervals_of_matching: {"`soft_matching` of independent systems": 0.0},
    intervals_of_axes: {"`privileged_axes`: difference of sources with noise": np.nan},
    intervals_of_sparsified: {
        "`sparsity_curve`: mean index": np.nan,
        "`sparsity_curve`: change": np.nan,
        "`sparsity_curve`: above random units": np.nan,
        "`sparsity_curve`: gain by orthogonal matching pursuit": np.nan,
    },
    intervals_of_synergy: {
        "`synergy`: mean": np.nan,
        "`synergy`: share above 0": np.nan,
        "`synergy`: of the best pairs": np.nan,
    },
    intervals_of_dip: {"`between_directions`: mean dip": np.nan, "`between_directions`: dip above turned": np.nan},
}


def print_tables(n_studies: int, run: Run = map) -> None:
    """Print a table of tests and one of intervals."""
    rows = {}
    for name, study in TESTS.items():
        p, spread = np.array(list(run(study, range(n_studies)))).T
        rows[name] = [Share.of(p <= 0.05), f"{stats.kstest(spread, 'uniform').pvalue:.2f}"]
    print_table(
        "Measures of superposition: tests without any",
        f"{n_studies} studies in each row, {N_DRAWS} draws of the null model each. “KS p” tests that p, with ties "
        "broken at random, is uniform.",
        ("test", "p ≤ 0.05", "KS p"),
        rows,
        [Target("p ≤ 0.05", 0.03, 0.07)],
    )
    rows = {}
    for study, names in INTERVALS.items():
        found = np.array(list(run(study, range(n_studies)))).transpose(1, 2, 0)  # (estimate, limit, study)
        for (name, truth), (estimate, low, high) in zip(names.items(), found, strict=True):
            value = estimate.mean() if np.isnan(truth) else truth
            rows[name] = [Share.of((low <= value) & (value <= high)), Share.of(high < value), Share.of(low > value)]
    print_table(
        "Measures of superposition: intervals",
        f"{n_studies} studies in each row; 95 % intervals, of the planted value or of the mean over studies. Those of "
        "an index are wide on purpose: the variance of a mean over top stimuli may not halve as stimuli double.",
        ("measure", "covers", "too low", "too high"),
        rows,
        [Target("covers", 0.92, 1)],
    )
