"""Do tests err as often as they say, and do intervals hold the truth as often as they say? Prints Markdown.

500 simulated studies in each row. Tests: of two sets, or of pairs, without a difference; p must be uniform. Nulls: the
index of 20 units whose responses are noise, tested against each null of the same responses. Stimuli: each study has
stimuli and units of its own. Intervals: of means and medians that are known; subjects differ as much as the units of
one, or not at all.
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
    "stimuli shuffled": ns.interpretability.shuffle_stimuli,
    "units shuffled within each stimulus": ns.interpretability.shuffle_units,
    "phase-randomised surrogates": ns.interpretability.phase_surrogates,
    "random directions": lambda codes, random_state: (
        ns.Random(random_state=random_state).fit_transform(codes).rename(direction="unit")
    ),
}


def p_of_null(name: str, study: int) -> float:
    """Return p of a study in which what a null destroys was never there: Gaussian noise and colors."""
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

    Units of the first set have axes of their own; those of the second may have much in common. On average the two have
    the same index.
    """

    n_stimuli: int
    n_units: int
    alike: bool
    top: int = 5
    contrast: bool = False  # some stimuli have more of all features

    def draw(self, rng: np.random.Generator) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray, ns.Precomputed]:
        """Return codes of both sets, images that nobody looks at, and the metric."""
        n, k = self.n_stimuli, self.n_units
        features = rng.normal(size=(n, 6)) * (rng.gamma(8, 1 / 8, (n, 1)) if self.contrast else 1)
        axes = rng.normal(size=(6, 2 * k))
        if self.alike:
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
        of_what = "units alike" if self.alike else "units of their own"
        contrast = ", contrast varies" if self.contrast else ""
        return f"{self.n_stimuli} stimuli, {self.n_units} {of_what}, top {self.top}{contrast}"


WORLDS = [
    World(100, 30, alike=True),
    World(200, 30, alike=False),
    World(200, 30, alike=True),
    World(600, 40, alike=True),
    World(600, 40, alike=True, top=20),
    World(600, 40, alike=True, contrast=True),
]


def study_world(world: World, study: int) -> dict[str, float]:
    """Return p of the difference, that of a test which takes items as independent, and the interval of the second."""
    a, b, images, metric = world.draw(np.random.default_rng([study, 2]))
    index = [ns.interpretability_index(codes, images, metric, top=world.top) for codes in (a, b)]
    mean = ns.interpretability.index_interval(b, images, metric, top=world.top)
    return {
        "p": ns.interpretability.index_difference(a, b, images, metric, top=world.top).p_value.item(),
        "p_by_items": float(stats.ttest_ind(*index).pvalue),
        **{name: mean[name].item() for name in ("interpretability", "interpretability_low", "interpretability_high")},
    }


def tell_world(world: World, studies: pd.DataFrame) -> tuple[str, str]:
    """Return a row on tests, and one on intervals; the truth is the mean over studies."""
    truth = studies["interpretability"].mean()
    low, high = (
        100 * missed.mean()
        for missed in (studies["interpretability_high"] < truth, studies["interpretability_low"] > truth)
    )
    small = 100 * (studies["p_by_items"] <= 0.05).mean()
    width = (studies["interpretability_high"] - studies["interpretability_low"]).median()
    return (
        f"{tell_test(str(world), studies['p'].to_numpy())} {small:.1f} % |",
        f"| {world} | {100 - low - high:.1f} % | {low:.1f} % | {high:.1f} % | {width:.2f} |",
    )


def tell_test(name: str, p: np.ndarray) -> str:
    """Return a row: how far p is from uniform, and how often it is small."""
    uniform = stats.kstest(p, "uniform").pvalue
    return f"| {name} | {uniform:.2f} | {100 * np.mean(p <= 0.05):.1f} % | {100 * np.mean(p <= 0.01):.1f} % |"


def tell_interval(name: str, scores: xr.DataArray, truth: float, **options: object) -> str:
    """Return a row: how often the interval holds the truth, and on which side it misses."""
    interval = bootstrap_interval(scores, "unit", n_resamples=RESAMPLES, **options)
    below, above = ((interval.estimate_high < truth).mean().item(), (interval.estimate_low > truth).mean().item())
    width = (interval.estimate_high - interval.estimate_low).median().item()
    return f"| {name} | {100 * (1 - below - above):.1f} % | {100 * below:.1f} % | {100 * above:.1f} % | {width:.2f} |"


def validate_tests(rng: np.random.Generator) -> None:
    print("| permutation test, no difference | KS p | p ≤ 0.05 | p ≤ 0.01 |")
    print("|---|---|---|---|")
    print(tell_test("unpaired means, 30 and 30", p_values(rng, False, "mean", (30, 30))))
    print(tell_test("unpaired means, 15 and 60", p_values(rng, False, "mean", (15, 60))))
    print(tell_test("unpaired medians, 30 and 30", p_values(rng, False, "median", (30, 30))))
    print(tell_test("paired means, 30", p_values(rng, True, "mean", (30, 30))))
    print(tell_test("paired medians, 30", p_values(rng, True, "median", (30, 30))))


def validate_nulls(pool: ProcessPoolExecutor) -> None:
    print(f"\n| `null_test`, {N_NULLS} draws, nothing to destroy | KS p | p ≤ 0.05 | p ≤ 0.01 |")
    print("|---|---|---|---|")
    for name in NULLS:
        p = list(pool.map(p_of_null, [name] * STUDIES, range(STUDIES), chunksize=25))
        print(tell_test(name, np.array(p)), flush=True)


def validate_stimuli(pool: ProcessPoolExecutor) -> None:
    rows = []
    for world in WORLDS:
        studies = pool.map(study_world, [world] * STUDIES, range(STUDIES), chunksize=25)
        rows.append(tell_world(world, pd.DataFrame(studies)))
    print("\n| `index_difference`, no difference | KS p | p ≤ 0.05 | p ≤ 0.01 | t-test of items, p ≤ 0.05 |")
    print("|---|---|---|---|---|")
    print("\n".join(of_test for of_test, _ in rows))
    print("\n| `index_interval`, 95 % | holds the truth | too low | too high | median width |")
    print("|---|---|---|---|---|")
    print("\n".join(of_interval for _, of_interval in rows))
    print("\nWhere a few stimuli of high contrast drive all units, intervals are too narrow.")


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
    with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:
        validate_nulls(pool)
        validate_stimuli(pool)
    validate_intervals(np.random.default_rng(1))


if __name__ == "__main__":
    main()
