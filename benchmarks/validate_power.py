"""Power of `index_difference`: predicted by `index_power` from a pilot, and the share of studies that find it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from scipy.spatial import distance
from validation_tables import Mean, Run, Share, print_table

import neurosuper as ns
from neurosuper.interpretability import index_difference, index_power

N_FEATURES = 2  # few, so that noise makes a large difference
PILOT = (200, 20)  # stimuli, items of each set
DESIGNS = (PILOT, (400, 40), (600, 60))
NOISE, NOISES = 0.2, (0.4, 0.6, 1.0, 6.0)  # of the items of the first set, and of the second


def draw(
    design: tuple[int, int], noise: float, seed: int
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray, ns.Precomputed]:
    """Return two sets of tuned items, the second with more noise, blank images, and a bounded metric."""
    n, k = design
    rng = np.random.default_rng([seed, n, k, 8])
    features, labels = rng.normal(size=(n, N_FEATURES)), [f"s{i:03d}" for i in range(n)]
    squares = distance.squareform(distance.pdist(features, "sqeuclidean"))
    table = xr.DataArray(1 - np.exp(-squares / squares.mean()), {"stimulus": labels, "other": labels})
    blank = np.zeros((n, 1, 1, 3), np.uint8)
    images = xr.DataArray(blank, {"stimulus": labels}, ("stimulus", "row", "column", "channel"))
    sets = []
    for sd in (NOISE, noise):
        axes = rng.normal(size=(N_FEATURES, k))
        values = features @ (axes / np.linalg.norm(axes, axis=0)) + sd * rng.normal(size=(n, k))
        sets.append(
            xr.DataArray(values, {"stimulus": labels, "unit": [f"u{i}" for i in range(k)]}, ("stimulus", "unit"))
        )
    return *sets, images, ns.Precomputed(table)


def study_test(study: tuple[tuple[int, int], float, int]) -> xr.Dataset:
    """Return the test of one study."""
    design, noise, seed = study
    return index_difference(*draw(design, noise, seed), random_state=seed)


def print_tables(n_studies: int, run: Run = map) -> None:
    """Print predicted and actual power, for each design and size of the difference."""
    rows = {}
    for noise in NOISES:
        tests = {design: list(run(study_test, [(design, noise, i) for i in range(n_studies)])) for design in DESIGNS}
        for design, of_design in tests.items():
            true = float(np.mean([test.difference for test in of_design]))
            settings = {"n_stimuli": design[0], "n_items": design[1], "difference": true}
            predicted = pd.Series([index_power(pilot, **settings).item() for pilot in tests[PILOT]])
            found = Share.of([test.p_value < 0.05 for test in of_design])
            name = f"{design[0]} stimuli, {design[1]} items, true difference {true:.3f}"
            rows[name] = [Mean.of(100 * predicted, 1), f"{100 * predicted.std():.1f}", found]
    print_table(
        "Power: predicted and actual",
        f"{n_studies} pilots of {PILOT[0]} stimuli and {PILOT[1]} items predict the power of the true difference, and "
        "as many studies of each design show it. The true difference is their mean. “Varies by”: the standard "
        "deviation of predictions over pilots.",
        ("design", "predicted, %", "varies by", "actual"),
        rows,
    )
