"""Do tests err as often as they say, and do intervals hold the truth as often as they say? Prints Markdown.

500 simulated studies in each row. Tests: of two sets, or of pairs, without a difference; p must be uniform. Nulls: the
index of 30 units whose responses have nothing to do with the images, against that of each null of the same responses.
Intervals: of means and medians that are known; subjects differ as much as the units of one, or not at all.
"""

import numpy as np
import xarray as xr
from scipy import stats

import neurosuper as ns
from neurosuper import bootstrap_interval, permutation_test

STUDIES, RESAMPLES = 500, 1999
UNITS = {
    "8 subjects × 10": [10] * 8,
    "20 subjects × 10": [10] * 20,
    "8 subjects × 4 to 40": [4, 9, 14, 19, 25, 30, 35, 40],
    "2 subjects × 10": [10] * 2,
}  # of each subject


def label(values: np.ndarray) -> xr.DataArray:
    """Label (unit,) or (study, unit)."""
    units = [f"u{i}" for i in range(values.shape[-1])]
    return xr.DataArray(values, dims=("study", "unit")[-values.ndim :], coords={"unit": units})


def p_values(rng: np.random.Generator, paired: bool, statistic: str, n: tuple[int, int]) -> np.ndarray:
    """Return the p of studies of skewed scores without a difference; pairs share what their item adds."""
    found = []
    for study in range(STUDIES):
        item = rng.normal(0, 2, n[0]) if paired else 0
        a, b = (label(item + rng.gamma(2, 1, size)) for size in n)
        test = permutation_test(a, b, paired=paired, statistic=statistic, n_resamples=RESAMPLES, random_state=study)
        found.append(test.p_value.item())
    return np.array(found)


NULLS = {
    "stimuli shuffled": ns.shuffle_stimuli,
    "units shuffled within each stimulus": ns.shuffle_units,
    "phase-randomised surrogates": ns.surrogate_codes,
    "random directions": lambda codes, seed: ns.Random(random_state=seed).fit_transform(codes).rename(direction="unit"),
}


def p_values_of_null(rng: np.random.Generator, name: str) -> np.ndarray:
    """Return the p of studies in which what a null destroys was never there: Gaussian noise and grey levels."""
    found = []
    for study in range(STUDIES):
        grey = rng.integers(0, 256, (200, 1, 1, 1), dtype=np.uint8) * np.ones((1, 1, 1, 3), np.uint8)
        images = ns.load_images(grey)
        codes = xr.DataArray(
            rng.normal(size=(200, 30)),
            dims=("stimulus", "unit"),
            coords={"stimulus": images.stimulus, "unit": [f"u{i}" for i in range(30)]},
        )
        index, by_null = (
            ns.interpretability_index(own, images, ns.Color("cpu")) for own in (codes, NULLS[name](codes, study))
        )
        test = permutation_test(index, by_null, n_resamples=RESAMPLES, random_state=study)
        found.append(test.p_value.item())
    return np.array(found)


def tell_test(name: str, p: np.ndarray) -> str:
    """Return a row: how far p is from uniform, and how often it is small."""
    uniform = stats.kstest(p, "uniform").pvalue
    return f"| {name} | {uniform:.2f} | {100 * np.mean(p <= 0.05):.1f} % | {100 * np.mean(p <= 0.01):.1f} % |"


def tell_interval(name: str, scores: xr.DataArray, truth: float, **options: object) -> str:
    """Return a row: how often the interval holds the truth, and on which side it misses."""
    interval = bootstrap_interval(scores, "unit", n_resamples=RESAMPLES, **options)
    below, above = ((interval.high < truth).mean().item(), (interval.low > truth).mean().item())
    width = (interval.high - interval.low).median().item()
    return f"| {name} | {100 * (1 - below - above):.1f} % | {100 * below:.1f} % | {100 * above:.1f} % | {width:.2f} |"


def validate_tests(rng: np.random.Generator) -> None:
    print("| permutation test, no difference | KS p | p ≤ 0.05 | p ≤ 0.01 |")
    print("|---|---|---|---|")
    print(tell_test("unpaired means, 30 and 30", p_values(rng, False, "mean", (30, 30))))
    print(tell_test("unpaired means, 15 and 60", p_values(rng, False, "mean", (15, 60))))
    print(tell_test("unpaired medians, 30 and 30", p_values(rng, False, "median", (30, 30))))
    print(tell_test("paired means, 30", p_values(rng, True, "mean", (30, 30))))
    print(tell_test("paired medians, 30", p_values(rng, True, "median", (30, 30))))

    for name in NULLS:
        print(tell_test(f"index against its null: {name}", p_values_of_null(rng, name)), flush=True)

    print("\nWhere units are shuffled within each stimulus, or mixed at random, the same population vectors drive the")
    print("same images in both sets: these are more alike than two independent ones, and the test is conservative.")


def validate_intervals(rng: np.random.Generator) -> None:
    print("\n| 95 % interval | holds the truth | too low | too high | median width |")
    print("|---|---|---|---|---|")
    print(tell_interval("mean of 40, normal (BCa)", label(rng.normal(size=(STUDIES, 40))), 0))
    gamma = label(rng.gamma(1, 1, (STUDIES, 40)))
    print(tell_interval("mean of 40, exponential (BCa)", gamma, 1))
    print(tell_interval("median of 40, exponential (percentile)", gamma, np.log(2), statistic="median"))
    for name, sizes in UNITS.items():
        subject = np.repeat([f"s{i}" for i in range(len(sizes))], sizes)
        for spread, differ in ((1, "who differ (ICC 0.5)"), (0, "alike")):
            between = spread * np.repeat(rng.normal(size=(STUDIES, len(sizes))), sizes, axis=1)
            scores = label(between + rng.normal(size=between.shape)).assign_coords(subject=("unit", subject))
            print(tell_interval(f"{name}, {differ}: flat", scores, 0))
            print(tell_interval(f"{name}, {differ}: grouped", scores, 0, groups="subject"))
            print(tell_interval(f"{name}, {differ}: grouped, median", scores, 0, groups="subject", statistic="median"))
    print("\nWhere subjects differ, an interval that knows no subjects is much too narrow. One that resamples whole")
    print(
        "subjects holds the truth as often as it says, be they few, many, alike or of unequal size; of two, it is wide."
    )


def main() -> None:
    print("# Validation\n\nWritten by `make validate`; see `validate.py` for what each row is.\n")
    validate_tests(np.random.default_rng(0))
    validate_intervals(np.random.default_rng(1))


if __name__ == "__main__":
    main()
