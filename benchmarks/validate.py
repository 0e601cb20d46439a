"""Measure the error rates of tests and the coverage of intervals, in simulated studies. Prints Markdown.

Each row is 500 studies. Tests: two sets, or pairs, without a difference; p must be uniform. Nulls: the index of 20
units whose responses are noise, tested against each null model of the same responses. Stimuli: each study has new
stimuli and new units. Intervals: means and medians with a known true value; subjects differ as much as the units of one
subject, or not at all.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy import stats
from scipy.spatial import distance

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


@dataclass
class World:
    """Stimuli in a space of 6 features, in which the squared distance is the metric, and two sets of noisy units.

    Units of the first set have independent axes; those of the second may be correlated. On average both sets have the
    same index.
    """

    n_stimuli: int
    n_units: int
    correlated: bool
    top: int = 5
    contrast: bool = False  # whether some stimuli have more of all features

    def draw(self, rng: np.random.Generator) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray, ns.Precomputed]:
        """Return the codes of both sets, blank images, and the metric."""
        n, k = self.n_stimuli, self.n_units
        features = rng.normal(size=(n, 6)) * (rng.gamma(8, 1 / 8, (n, 1)) if self.contrast else 1)
        axes = rng.normal(size=(6, 2 * k))
        if self.correlated:
            axes[:, k:] = rng.normal(size=(6, 1)) + 0.5 * axes[:, k:]
        codes = features @ (axes / np.linalg.norm(axes, axis=0)) + 0.5 * rng.normal(size=(n, 2 * k))
        stimuli, units = [f"s{i:04d}" for i in range(n)], [f"u{i}" for i in range(2 * k)]
        squares = distance.squareform(distance.pdist(features, "sqeuclidean"))
        metric = ns.Precomputed(xr.DataArray(squares, {"stimulus": stimuli, "other": stimuli}, ("stimulus", "other")))
        blank = np.zeros((n, 1, 1, 3), np.uint8)
        images = xr.DataArray(blank, {"stimulus": stimuli}, ("stimulus", "row", "column", "channel"))
        labelled = xr.DataArray(codes, {"stimulus": stimuli, "unit": units}, ("stimulus", "unit"))
        return labelled[:, :k], labelled[:, k:], images, metric

    def __str__(self) -> str:
        kind = "correlated units" if self.correlated else "independent units"
        contrast = ", contrast varies" if self.contrast else ""
        return f"{self.n_stimuli} stimuli, {self.n_units} {kind}, top {self.top}{contrast}"


WORLDS = [
    World(100, 30, correlated=True),
    World(200, 30, correlated=False),
    World(200, 30, correlated=True),
    World(600, 40, correlated=True),
    World(600, 40, correlated=True, top=20),
    World(600, 40, correlated=True, contrast=True),
]


def study_world(world: World, study: int) -> dict[str, float]:
    """Return p of the difference, p of a test that assumes independent items, and the interval of the second set."""
    a, b, images, metric = world.draw(np.random.default_rng([study, 2]))
    index = [ns.interpretability_index(codes, images, metric, top=world.top) for codes in (a, b)]
    mean = ns.interpretability.index_interval(b, images, metric, top=world.top)
    return {
        "p": ns.interpretability.index_difference(a, b, images, metric, top=world.top).p_value.item(),
        "p_by_items": float(stats.ttest_ind(*index).pvalue),
        **{name: mean[name].item() for name in ("interpretability", "interpretability_low", "interpretability_high")},
    }


def row_of_world(world: World, studies: pd.DataFrame) -> tuple[str, str]:
    """Return a row on tests, and one on intervals; the true value is the mean over studies."""
    true_value = studies["interpretability"].mean()
    low, high = (
        100 * missed.mean()
        for missed in (studies["interpretability_high"] < true_value, studies["interpretability_low"] > true_value)
    )
    small = 100 * (studies["p_by_items"] <= 0.05).mean()
    width = (studies["interpretability_high"] - studies["interpretability_low"]).median()
    return (
        f"{row_of_test(str(world), studies['p'].to_numpy())} {small:.1f} % |",
        f"| {world} | {100 - low - high:.1f} % | {low:.1f} % | {high:.1f} % | {width:.2f} |",
    )


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
    rows = []
    for world in WORLDS:
        studies = pool.map(study_world, [world] * STUDIES, range(STUDIES), chunksize=25)
        rows.append(row_of_world(world, pd.DataFrame(studies)))
    print("\n| `index_difference`, no difference | KS p | p ≤ 0.05 | p ≤ 0.01 | t-test of items, p ≤ 0.05 |")
    print("|---|---|---|---|---|")
    print("\n".join(of_test for of_test, _ in rows))
    print("\n| `index_interval`, 95 % | covers the true value | too low | too high | median width |")
    print("|---|---|---|---|---|")
    print("\n".join(of_interval for _, of_interval in rows))
    print("\nIf a few stimuli of high contrast drive all units, intervals are too narrow.")


def validate_intervals(rng: np.random.Generator) -> None:
    print("\n| 95 % interval | covers the true value | too low | too high | median width |")
    print("|---|---|---|---|---|")
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
