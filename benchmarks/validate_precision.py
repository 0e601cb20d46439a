"""What depends on seeds alone: standard errors and p by the number of draws, and headline differences of one study."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from scipy.spatial import distance
from validate_finders import fit_and_score
from validate_sampling import World
from validation_tables import Mean, Run, print_table

import neurosuper as ns
from neurosuper.interpretability import index_difference

DRAWS = (50, 500)
N_SEEDS = 10  # of the headline differences
N_STIMULI, N_UNITS, N_FEATURES = 500, 40, 40
HEADLINES = {
    "KMeans − Units, raw": ("KMeans", "Units", None),
    "KMeans − Units, II_c": ("KMeans", "Units", "hub"),
    "KMeans(center=True) − Units, II_c": ("KMeans(center=True)", "Units", "hub"),
    "KMeans(center=True) − CovarianceMatched(center=True), II_c": (
        "KMeans(center=True)",
        "CovarianceMatched(center=True)",
        "hub",
    ),
}
FINDERS = {
    "Units": ns.Units(),
    "KMeans": ns.KMeans(),
    "KMeans(center=True)": ns.KMeans(center=True),
    "CovarianceMatched(center=True)": ns.CovarianceMatched(normalize=True, center=True),
}
SOURCES = ("halves of the interval", "finders", "which stimuli are for finding, which for scoring")


def test_of_draws(study: tuple[int, int]) -> tuple[float, float, float]:
    """Return the standard error, its stated Monte Carlo error and p of one study, by number of draws and seed."""
    n_resamples, seed = study
    (a, b), images, metric = World().draw(np.random.default_rng(9))
    b = a + np.random.default_rng(10).normal(size=a.shape)  # a difference near p = 0.01
    test = index_difference(a, b, images, metric, n_resamples=n_resamples, random_state=seed)
    return test.standard_error.item(), test.monte_carlo_error.item(), test.p_value.item()


def print_draws(n_seeds: int, run: Run = map) -> None:
    """Print how much a standard error and p vary with the seed."""
    rows = {}
    for n_resamples in DRAWS:
        error, stated, p = np.array(list(run(test_of_draws, [(n_resamples, i) for i in range(n_seeds)]))).T
        spread = 100 * error.std(ddof=1) / error.mean()
        cells = [Mean(spread, spread / np.sqrt(2 * n_seeds), 1), Mean.of(100 * stated / error, 1)]
        rows[f"{n_resamples} draws"] = [
            *cells,
            Mean.of(p, 4),
            f"{p.std(ddof=1):.4f}",
            f"{p.min():.4f} to {p.max():.4f}",
        ]
    print_table(
        "Standard errors and p by the number of draws",
        f"One study, {n_seeds} seeds. “Stated”: `monte_carlo_error` of the result.",
        ("`n_resamples`", "s.d. of s.e., %", "stated, %", "mean p", "s.d. of p", "range of p"),
        rows,
    )


def draw_population() -> tuple[xr.DataArray, xr.DataArray, ns.Precomputed]:
    """Return responses with features in superposition and a common drive, blank images, and a bounded metric."""
    rng = np.random.default_rng(11)
    features = rng.exponential(size=(N_STIMULI, N_FEATURES)) * (rng.random((N_STIMULI, N_FEATURES)) < 0.08)
    contrast = rng.lognormal(0, 0.4, (N_STIMULI, 1))
    weights = rng.normal(size=(N_FEATURES, N_UNITS))
    noise = rng.normal(size=(N_STIMULI, N_UNITS))
    R = features @ weights + 2 - np.log(contrast) + 0.5 * noise
    content = contrast * np.hstack([features, 0.3 * rng.normal(size=(N_STIMULI, 10))])
    squares = distance.squareform(distance.pdist(content, "sqeuclidean"))
    labels = [f"s{i:03d}" for i in range(N_STIMULI)]
    table = xr.DataArray(1 - np.exp(-squares / squares.mean()), {"stimulus": labels, "other": labels})
    blank = np.zeros((N_STIMULI, 1, 1, 3), np.uint8)
    images = xr.DataArray(blank, {"stimulus": labels}, ("stimulus", "row", "column", "channel"))
    coords = {"stimulus": labels, "unit": [f"u{i:02d}" for i in range(N_UNITS)]}
    return xr.DataArray(R, coords, ("stimulus", "unit")), images, ns.Precomputed(table)


def headlines_of(study: tuple[str, int]) -> dict[str, tuple[float, float]]:
    """Return the headline differences and their standard errors, with another seed of one source."""
    source, seed = study
    responses, images, metric = draw_population()
    seeds = [seed if source == each else 0 for each in SOURCES]
    order = np.random.default_rng(seeds[2]).permutation(N_STIMULI)
    codes = {name: fit_and_score(finder, responses[order], seeds[1]) for name, finder in FINDERS.items()}
    found = {}
    for name, (finder, against, correction) in HEADLINES.items():
        test = index_difference(
            codes[finder], codes[against], images, metric, correction=correction, random_state=seeds[0]
        )
        found[name] = float(test.difference), float(test.standard_error)
    return found


def print_headlines(run: Run = map) -> None:
    """Print how much headline differences vary with each source of chance."""
    rows = {}
    for source in SOURCES:
        studies = pd.DataFrame(list(run(headlines_of, [(source, i) for i in range(N_SEEDS)])))
        for name in HEADLINES:
            difference, error = np.array(studies[name].tolist()).T
            spread = difference.std(ddof=1)
            of_error = Mean(100 * error.std(ddof=1) / error.mean(), 100 * error.std(ddof=1) / error.mean() / 18**0.5, 1)
            cells = [Mean.of(difference, 4), Mean(spread, spread / np.sqrt(2 * (N_SEEDS - 1)), 4)]
            rows[f"{source}: {name}"] = [*cells, f"{error.mean():.4f}", of_error]
    print_table(
        "Headline differences of one simulated study, by seed",
        f"{N_SEEDS} seeds of one source of chance at a time. Halves do not change a difference, only its standard "
        "error. (`v4_claims.py` prints those of recordings, for ten splits.)",
        ("source of chance: difference", "mean", "s.d. over seeds", "mean s.e.", "s.d. of s.e., %"),
        rows,
    )


def print_tables(n_seeds: int, run: Run = map) -> None:
    """Print both tables."""
    print_draws(n_seeds, run)
    print_headlines(run)
