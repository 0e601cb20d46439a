"""Measure the error rates of tests and the coverage of intervals, in simulated studies. Prints Markdown.

Each row is 500 studies. Tests: two sets, or pairs, without a difference; p must be uniform. Nulls: the index of 20
units whose responses are noise, tested against each null model of the same responses. Stimuli: each study has new
stimuli and new units (`validate_sampling.py`). Intervals: means and medians with a known true value; subjects differ as
much as the units of one subject, or not at all.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import torch
import xarray as xr
from scipy import stats
from validate_sampling import print_worlds

import neurosuper as ns
from neurosuper.inference import bootstrap_interval, permutation_test

STUDIES, RESAMPLES = 500, 1999
N_NULLS = 39
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


def p_values(rng: np.random.Generator, paired: bool, statistic: str, n: tuple[int, int]) -> np.ndarray:
    """Return the p of studies of skewed scores without a difference; the two scores of a pair share a random term."""
    found = []
    for study in range(STUDIES):
        item = rng.normal(0, 2, n[0]) if paired else 0
        a, b = (label(item + rng.gamma(2, 1, size)) for size in n)
        test = permutation_test(a, b, paired=paired, statistic=statistic, n_resamples=RESAMPLES, random_state=study)
        found.append(test.p_value.item())
    return np.array(found)


NULLS = {
    "stimuli shuffled": ns.interpretability.shuffle_stimuli,
    "units shuffled within each stimulus": ns.interpretability.shuffle_units,
    "phase-randomised surrogates": ns.interpretability.phase_surrogates,
    "random directions": lambda codes, random_state: (
        ns.Random(random_state=random_state).fit_transform(codes).rename(direction="unit")
    ),
}


def p_of_null(name: str, study: int) -> float:
    """Return p of a study without the property that a null model destroys: Gaussian noise and random colors."""
    rng = np.random.default_rng([study, 1])
    images = ns.load_images(rng.integers(0, 256, (100, 1, 1, 3), dtype=np.uint8))
    codes = xr.DataArray(
        rng.normal(size=(100, 20)),
        dims=("stimulus", "unit"),
        coords={"stimulus": images.stimulus, "unit": [f"u{i}" for i in range(20)]},
    )
    test = ns.interpretability.null_test(
        codes, images, ns.Color(device="cpu"), null=NULLS[name], n_resamples=N_NULLS, random_state=1000 * study
    )
    return test.p_value.item()


def row_of_test(name: str, p: np.ndarray) -> str:
    """Return a row: the p of a test that p is uniform, and how often p is small."""
    uniform = stats.kstest(p, "uniform").pvalue
    return f"| {name} | {uniform:.2f} | {100 * np.mean(p <= 0.05):.1f} % | {100 * np.mean(p <= 0.01):.1f} % |"


def row_of_interval(name: str, scores: xr.DataArray, true_value: float, **options: object) -> str:
    """Return a row: how often the interval covers the true value, and on which side it misses."""
    interval = bootstrap_interval(scores, "unit", n_resamples=RESAMPLES, **options)
    below, above = (
        (interval.estimate_high < true_value).mean().item(),
        (interval.estimate_low > true_value).mean().item(),
    )
    width = (interval.estimate_high - interval.estimate_low).median().item()
    return f"| {name} | {100 * (1 - below - above):.1f} % | {100 * below:.1f} % | {100 * above:.1f} % | {width:.2f} |"


def validate_tests(rng: np.random.Generator) -> None:
    print("| permutation test, no difference | KS p | p ≤ 0.05 | p ≤ 0.01 |")
    print("|---|---|---|---|")
    print(row_of_test("unpaired means, 30 and 30", p_values(rng, False, "mean", (30, 30))))
    print(row_of_test("unpaired means, 15 and 60", p_values(rng, False, "mean", (15, 60))))
    print(row_of_test("unpaired medians, 30 and 30", p_values(rng, False, "median", (30, 30))))
    print(row_of_test("paired means, 30", p_values(rng, True, "mean", (30, 30))))
    print(row_of_test("paired medians, 30", p_values(rng, True, "median", (30, 30))))


def validate_nulls(pool: ProcessPoolExecutor) -> None:
    print(f"\n| `null_test`, {N_NULLS} draws, no effect | KS p | p ≤ 0.05 | p ≤ 0.01 |")
    print("|---|---|---|---|")
    for name in NULLS:
        p = list(pool.map(p_of_null, [name] * STUDIES, range(STUDIES), chunksize=25))
        print(row_of_test(name, np.array(p)), flush=True)


def validate_stimuli(pool: ProcessPoolExecutor) -> None:
    print("\n`index_interval` (95 %) and `index_difference` (no difference), with the standard errors of both shares:")
    print_worlds(STUDIES, partial(pool.map, chunksize=25))
    print("\nIf a few stimuli of extreme contrast drive all items under an unbounded metric, intervals are too narrow.")


def validate_intervals(rng: np.random.Generator) -> None:
    print("\n| 95 % interval | covers the true value | too low | too high | median width |")
    print("|---|---|---|---|---|")
    for n in (8, 12, 20):
        print(row_of_interval(f"mean of {n}, normal (t)", label(rng.normal(size=(STUDIES, n))), 0))
    print(row_of_interval("mean of 40, normal (BCa)", label(rng.normal(size=(STUDIES, 40))), 0))
    gamma = label(rng.gamma(1, 1, (STUDIES, 40)))
    print(row_of_interval("mean of 40, exponential (BCa)", gamma, 1))
    print(row_of_interval("median of 40, exponential (percentile)", gamma, np.log(2), statistic="median"))
    for name, sizes in UNITS.items():
        subject = np.repeat([f"s{i}" for i in range(len(sizes))], sizes)
        for spread, differ in ((1, "who differ (ICC 0.5)"), (0, "who do not differ")):
            between = spread * np.repeat(rng.normal(size=(STUDIES, len(sizes))), sizes, axis=1)
            scores = label(between + rng.normal(size=between.shape)).assign_coords(subject=("unit", subject))
            print(row_of_interval(f"{name}, {differ}: flat", scores, 0))
            print(row_of_interval(f"{name}, {differ}: grouped", scores, 0, groups="subject"))
            print(
                row_of_interval(f"{name}, {differ}: grouped, median", scores, 0, groups="subject", statistic="median")
            )
    print(
        "\nIf subjects differ, an interval without groups is much too narrow. An interval that resamples whole subjects"
    )
    print("covers the true value as often as it should, for few, many, equal or unequal subjects; for two, it is wide.")


def main() -> None:
    print("# Validation\n\nWritten by `make validate`; `validate.py` describes each row.\n")
    validate_tests(np.random.default_rng(0))
    with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:
        validate_nulls(pool)
        validate_stimuli(pool)
    validate_intervals(np.random.default_rng(1))


if __name__ == "__main__":
    main()
