"""Measures of superposition without superposition: p under the null, and coverage of intervals, in simulated studies.

Directions are uniform on the sphere, or a random rotation; responses are Gaussian on axes of their own; features are
independent. Each study tests one of them against the null model that is true of it.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats
from validation_tables import Run, Share, Target, print_table

from neurosuper import Precomputed
from neurosuper.demo.superposed import superposed
from neurosuper.inference import compare_with_null, halves_interval
from neurosuper.superposition import (
    axis_alignment,
    interference,
    privileged_axes,
    soft_matching,
    sparseness,
    spectrum,
    synergy,
)
from neurosuper.superposition.axes import random_rotation

N_DRAWS = 19  # p has 20 values, and 5 % of them are at most 0.05


def label(values: np.ndarray, *dims: str) -> xr.DataArray:
    """Return an array with numbers as labels."""
    sizes = zip(dims, values.shape, strict=True)
    return xr.DataArray(values, {dim: np.arange(n).astype(str) for dim, n in sizes if dim != "repetition"}, dims)


def on_sphere(directions: xr.DataArray, *, random_state: int) -> xr.DataArray:
    """Return Gaussian directions, in place of others."""
    return directions.copy(data=np.random.default_rng(random_state).normal(size=directions.shape))


def rotated(directions: xr.DataArray, *, random_state: int) -> xr.DataArray:
    """Return a random rotation, in place of directions."""
    return directions.copy(data=random_rotation(len(directions), np.random.default_rng(random_state)))


def p_of_interference(seed: int) -> float:
    empty = label(np.zeros((12, 6)), "direction", "unit")
    drawn = on_sphere(empty, random_state=10**6 + seed)

    def rms(D: xr.DataArray) -> xr.DataArray:
        return interference(D).rms

    return compare_with_null(rms, drawn, on_sphere, n_resamples=N_DRAWS, random_state=99 * seed).p_value.item()


def p_of_alignment(seed: int) -> float:
    drawn = rotated(label(np.zeros((6, 6)), "direction", "unit"), random_state=10**6 + seed)

    def largest(D: xr.DataArray) -> xr.DataArray:
        return axis_alignment(D).largest.mean()

    return compare_with_null(largest, drawn, rotated, n_resamples=N_DRAWS, random_state=99 * seed).p_value.item()


def p_of_axes(seed: int) -> float:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(60, 6))
    b = a @ random_rotation(6, rng) + 0.5 * rng.normal(size=a.shape)
    a, b = (label(values, "stimulus", "unit") for values in (a, b))
    return privileged_axes(a, b, n_rotations=N_DRAWS, n_resamples=0, random_state=seed).p_value.item()


def p_of_synergy(seed: int) -> float:
    rng = np.random.default_rng(seed)
    responses = label(rng.exponential(size=(60, 2)), "stimulus", "unit")
    shown = rng.random((60, 3))
    distances = np.linalg.norm(shown[:, None] - shown, axis=2)
    metric = Precomputed(label(distances, "stimulus", "other"))
    images = label(np.zeros((60, 1, 1, 3), np.uint8), "stimulus", "row", "column", "channel")
    settings = {"score_on": "all", "n_resamples": N_DRAWS, "random_state": seed}
    return synergy(responses, images.drop_vars(["row", "column", "channel"]), metric, **settings).p_value.item()


TESTS = {
    "`interference`: rms of directions uniform on the sphere": p_of_interference,
    "`axis_alignment`: largest share of a rotation": p_of_alignment,
    "`privileged_axes`: Gaussian responses on rotated axes": p_of_axes,
    "`synergy` of two units that ignore the images": p_of_synergy,
}


def interval_of_cofiring(seed: int) -> tuple[float, float, float]:
    world = superposed(24, 8, 200, active=0.3, random_state=seed)
    codes = world.features.rename(feature="direction")
    found = interference(world.directions, codes=codes, n_resamples=50)
    return found.cofiring.item(), found.cofiring_low.item(), found.cofiring_high.item()


def interval_of_sparseness(seed: int) -> tuple[float, float, float]:
    codes = label(np.random.default_rng(seed).exponential(size=(100, 5)), "stimulus", "unit")
    found = halves_interval(lambda rows: sparseness(codes[rows]).mean(), 100, n_resamples=50)
    return found.estimate.item(), found.estimate_low.item(), found.estimate_high.item()


def interval_of_alpha(seed: int) -> tuple[float, float, float]:
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(300, 1, 15)) / np.arange(1, 16) ** 0.5
    responses = label(signal + 0.1 * rng.normal(size=(300, 2, 15)), "stimulus", "repetition", "unit")
    found = spectrum(responses, fit=(1, 15), n_splits=2, n_resamples=50, random_state=seed)
    return found.alpha.item(), found.alpha_low.item(), found.alpha_high.item()


def interval_of_matching(seed: int) -> tuple[float, float, float]:
    rng = np.random.default_rng(seed)
    a, b = (label(rng.normal(size=(100, 6)), "stimulus", "unit") for _ in range(2))
    found = soft_matching(a, b, n_resamples=50, random_state=seed)
    return found.score.item(), found.score_low.item(), found.score_high.item()


INTERVALS = {  # name: (study, planted truth; NaN: the mean over studies)
    "`interference`: co-firing of independent features": (interval_of_cofiring, 1.0),
    "`sparseness` of an exponential distribution, mean of 5 units": (interval_of_sparseness, np.nan),
    "`spectrum`: alpha of variances 1, 1/2, 1/3, …": (interval_of_alpha, np.nan),
    "`soft_matching` of independent systems": (interval_of_matching, 0.0),
}


def print_tables(n_studies: int, run: Run = map) -> None:
    """Print a table of tests and one of intervals."""
    rng, rows = np.random.default_rng(0), {}
    for name, study in TESTS.items():
        p = np.array(list(run(study, range(n_studies))))
        spread = p - rng.uniform(0, 1 / (N_DRAWS + 1), len(p))  # p has steps of 1/20
        rows[name] = [Share.of(p <= 0.05), f"{stats.kstest(spread, 'uniform').pvalue:.2f}"]
    print_table(
        "Superposition: tests without any",
        f"{n_studies} studies in each row, {N_DRAWS} draws of the null model each.",
        ("test", "p ≤ 0.05", "p of uniformity"),
        rows,
        [Target("p ≤ 0.05", 0.03, 0.07)],
    )
    rows = {}
    for name, (interval, truth) in INTERVALS.items():
        estimate, low, high = np.array(list(run(interval, range(n_studies)))).T
        truth = estimate.mean() if np.isnan(truth) else truth
        rows[name] = [Share.of((low <= truth) & (truth <= high)), Share.of(high < truth), Share.of(low > truth)]
    print_table(
        "Superposition: intervals",
        f"{n_studies} studies in each row; 95 % intervals, of the planted value or of the mean over studies.",
        ("measure", "covers", "too low", "too high"),
        rows,
        [Target("covers", 0.92, 0.98)],
    )
