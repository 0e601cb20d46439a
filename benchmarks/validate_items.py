"""Error rates of tests, and coverage of intervals, of scores of items for given stimuli, in simulated studies.

Permutation tests and null models without a difference, whose p must be uniform; means and medians of items with a known
true value, also of items nested in subjects.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats
from validation_tables import Mean, Run, Share, Target, print_table

import neurosuper as ns
from neurosuper.inference import bootstrap_interval, permutation_test

N_PERMUTATIONS = 999
N_NULLS = 39
TESTS = {  # whether pairs, statistic, numbers of items
    "unpaired means, 30 and 30": (False, "mean", (30, 30)),
    "unpaired means, 15 and 60": (False, "mean", (15, 60)),
    "unpaired medians, 30 and 30": (False, "median", (30, 30)),
    "paired means, 30": (True, "mean", (30, 30)),
    "paired medians, 30": (True, "median", (30, 30)),
}
NULLS = {
    "stimuli shuffled": ns.interpretability.shuffle_stimuli,
    "units shuffled within each stimulus": ns.interpretability.shuffle_units,
    "phase-randomised surrogates": ns.interpretability.phase_surrogates,
    "random directions": lambda codes, random_state: (
        ns.Random(random_state=random_state).fit_transform(codes).rename(direction="unit")
    ),
}
UNITS = {
    "8 subjects × 10": [10] * 8,
    "20 subjects × 10": [10] * 20,
    "8 subjects × 4 to 40": [4, 9, 14, 19, 25, 30, 35, 40],
    "2 subjects × 10": [10] * 2,
}  # numbers of units of each subject


def label(values: np.ndarray) -> xr.DataArray:
    """Label (unit,) or (study, unit)."""
    units = [f"u{i}" for i in range(values.shape[-1])]
    return xr.DataArray(values, dims=("study", "unit")[-values.ndim :], coords={"unit": units})


def p_of_test(study: tuple[str, int]) -> float:
    """Return the p of skewed scores without a difference; the two scores of a pair share a random term."""
    name, seed = study
    paired, statistic, n = TESTS[name]
    rng = np.random.default_rng([seed, 3])
    item = rng.normal(0, 2, n[0]) if paired else 0
    a, b = (label(item + rng.gamma(2, 1, size)) for size in n)
    test = permutation_test(a, b, paired=paired, statistic=statistic, n_resamples=N_PERMUTATIONS, random_state=seed)
    return test.p_value.item()


def p_of_null(study: tuple[str, int]) -> float:
    """Return p of a study without the property that a null model destroys: Gaussian noise and random colors."""
    name, seed = study
    rng = np.random.default_rng([seed, 1])
    images = ns.load_images(rng.integers(0, 256, (100, 1, 1, 3), dtype=np.uint8))
    codes = xr.DataArray(
        rng.normal(size=(100, 20)),
        dims=("stimulus", "unit"),
        coords={"stimulus": images.stimulus, "unit": [f"u{i}" for i in range(20)]},
    )
    test = ns.interpretability.null_test(
        codes, images, ns.Color(device="cpu"), null=NULLS[name], n_resamples=N_NULLS, random_state=1000 * seed
    )
    return test.p_value.item()


def row_of_test(p: np.ndarray) -> list[object]:
    """Return the p of a test that p is uniform, and how often p is small."""
    return [f"{stats.kstest(p, 'uniform').pvalue:.2f}", Share.of(p <= 0.05), Share.of(p <= 0.01)]


def row_of_interval(scores: xr.DataArray, true_value: float, **options: object) -> list[object]:
    """Return how often the interval covers the true value, on which side it misses, and its width."""
    interval = bootstrap_interval(scores, "unit", n_resamples=999, **options)
    below, above = interval.estimate_high.values < true_value, interval.estimate_low.values > true_value
    width = Mean.of(interval.estimate_high - interval.estimate_low)
    return [Share.of(~(below | above)), Share.of(below), Share.of(above), width]


def intervals(n_studies: int, rng: np.random.Generator) -> dict[str, list[object]]:
    """Return a row for each kind of items."""
    rows = {f"mean of {n}, normal (t)": row_of_interval(label(rng.normal(size=(n_studies, n))), 0) for n in (8, 12, 20)}
    rows["mean of 40, normal (BCa)"] = row_of_interval(label(rng.normal(size=(n_studies, 40))), 0)
    gamma = label(rng.gamma(1, 1, (n_studies, 40)))
    rows["mean of 40, exponential (BCa)"] = row_of_interval(gamma, 1)
    rows["median of 40, exponential (percentile)"] = row_of_interval(gamma, np.log(2), statistic="median")
    for name, sizes in UNITS.items():
        subject = np.repeat([f"s{i}" for i in range(len(sizes))], sizes)
        for spread, differ in ((1, "who differ (ICC 0.5)"), (0, "who do not differ")):
            between = spread * np.repeat(rng.normal(size=(n_studies, len(sizes))), sizes, axis=1)
            scores = label(between + rng.normal(size=between.shape)).assign_coords(subject=("unit", subject))
            for how, options in (
                ("flat", {}),
                ("grouped", {"groups": "subject"}),
                ("grouped, median", {"groups": "subject", "statistic": "median"}),
            ):
                rows[f"{name}, {differ}: {how}"] = row_of_interval(scores, 0, **options)
    return rows


def print_tables(n_studies: int, run: Run = map) -> None:
    """Print the tables."""
    rejection = Target("p ≤ 0.05", 0.02, 0.06)
    heads = ("KS p", "p ≤ 0.05", "p ≤ 0.01")
    n_tests, n_of_nulls = 2 * n_studies, max(2, n_studies // 2)
    print_table(
        "Permutation tests of items, no difference",
        f"{n_tests} studies in each row; KS p tests that p is uniform.",
        ("`permutation_test`", *heads),
        {name: row_of_test(np.array(list(run(p_of_test, [(name, i) for i in range(n_tests)])))) for name in TESTS},
        [rejection],
    )
    print_table(
        "Null models of the index, no effect",
        f"{n_of_nulls} studies in each row, {N_NULLS} draws of the null model in each.",
        ("`null_test`", *heads),
        {name: row_of_test(np.array(list(run(p_of_null, [(name, i) for i in range(n_of_nulls)])))) for name in NULLS},
        [rejection],
    )
    print_table(
        "Intervals of means and medians of items, for given stimuli",
        f"{2 * n_studies} studies in each row. If subjects differ, an interval without groups is much too narrow. One "
        "that resamples whole subjects covers the true value as often as it should; for two subjects, it is wide.",
        ("95 % `bootstrap_interval`", "covers", "too low", "too high", "width"),
        intervals(2 * n_studies, np.random.default_rng(1)),
        [Target("covers", 0.92, 0.98, lambda name: "who differ (ICC 0.5): flat" not in name)],
    )
