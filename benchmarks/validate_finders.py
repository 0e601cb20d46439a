"""Finders that are fitted again in every study: coverage of intervals, and K-means against baselines without features.

A study draws stimuli and a population of units. Directions are found on one half of the stimuli and scored on the
other.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import xarray as xr
from scipy.spatial import distance
from sklearn.base import clone
from validate_sampling import World
from validation_tables import Mean, Run, Share, Target, print_table

import neurosuper as ns
from neurosuper.directions import recovery
from neurosuper.interpretability import index_difference, index_interval

N_DIRECTIONS = 20
COVERED = {
    "Units": ns.Units(),
    "PCA": ns.PCA(6),
    "KMeans": ns.KMeans(N_DIRECTIONS),
    "KMeans(center=True)": ns.KMeans(N_DIRECTIONS, center=True),
    "DictionaryLearning": ns.DictionaryLearning(N_DIRECTIONS),
}
POPULATIONS = {
    "bounded": World(400, 40),
    "bounded, exponential contrast": World(400, 40, contrast="exponential"),
    "squared, gamma(8) contrast": World(400, 40, bounded=False, contrast="gamma(8)"),
}
BASELINES = {
    "Units": ns.Units(),
    "Random": ns.Random(N_DIRECTIONS),
    "Exemplars": ns.Exemplars(N_DIRECTIONS, normalize=True),
    "CovarianceMatched": ns.CovarianceMatched(N_DIRECTIONS, normalize=True),
    "CovarianceMatched(center=True)": ns.CovarianceMatched(N_DIRECTIONS, normalize=True, center=True),
}
CONTRASTS = {
    "KMeans": ("Units", "Random", "Exemplars", "CovarianceMatched"),
    "KMeans(center=True)": ("Units", "Random", "CovarianceMatched(center=True)"),
}
N_STIMULI, N_UNITS, N_LATENT = 400, 30, 6
UNIT_NOISE = {"isotropic": 0.02, "isotropic, noisy units": 0.5, "common drive": 0.5}
RECOVERY = {"stimuli": 8000, "units": 32, "atoms": 64, "active": 3}


def fit_and_score(finder: ns.directions.DirectionFinder, responses: xr.DataArray, seed: int) -> xr.DataArray:
    """Return codes of the second half of the stimuli, for directions found on the first."""
    half = responses.sizes["stimulus"] // 2
    settings = {"random_state": seed} if "random_state" in finder.get_params() else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of iterations that stopped
        return clone(finder).set_params(**settings).fit(responses[:half]).transform(responses[half:])


def study_coverage(study: tuple[str, int]) -> dict[str, tuple[float, ...]]:
    """Return the interval of the mean index of each finder, raw and hub-corrected."""
    name, seed = study
    (population, _), images, metric = POPULATIONS[name].draw(np.random.default_rng([seed, 5]))
    found = {}
    for finder in COVERED:
        codes = fit_and_score(COVERED[finder], population, seed)
        for correction in (None, "hub"):
            mean = index_interval(codes, images, metric, correction=correction, random_state=seed)
            names = ("interpretability", "interpretability_low", "interpretability_high")
            found[f"{finder}, {'II_c' if correction else 'raw'}"] = tuple(float(mean[name]) for name in names)
    return found


def print_coverage(n_studies: int, run: Run = map) -> None:
    """Print the coverage of intervals of means of directions that are found again in every study."""
    rows = {}
    for name in POPULATIONS:
        studies = list(run(study_coverage, [(name, i) for i in range(n_studies)]))
        for key in studies[0]:
            estimate, low, high = np.array([study[key] for study in studies]).T
            truth, width = estimate.mean(), np.median(high - low) / estimate.std(ddof=1)
            below, above = high < truth, low > truth
            width = Mean(width, width / np.sqrt(2 * n_studies), 1)
            rows[f"{key}; {name}"] = [Share.of(~(below | above)), Share.of(below), Share.of(above), width]
    print_table(
        "Intervals of directions that are found again in every study",
        f"{n_studies} studies in each row, with new stimuli and new units; directions are found on 200 stimuli and "
        "scored on 200 others. II_c: the hub-corrected index.",
        ("finder, index; metric", "covers", "too low", "too high", "width in true s.d."),
        rows,
        [
            Target("covers", 0.92, 0.98, lambda name: "bounded" in name),
            Target("covers", 0.9, 1, lambda name: "squared" in name),
        ],
    )


def draw_without_features(kind: str, seed: int) -> tuple[xr.DataArray, xr.DataArray, ns.Precomputed]:
    """Return responses to stimuli without privileged features, blank images, and a bounded metric.

    "isotropic": a linear map of normal stimuli, and noise of each unit. "common drive": rates, all of them larger for
    plain stimuli.
    """
    rng = np.random.default_rng([seed, 6])
    features = rng.normal(size=(N_STIMULI, N_LATENT))
    weights = rng.normal(size=(N_LATENT, N_UNITS)) / N_LATENT**0.5
    R = features @ weights + UNIT_NOISE[kind] * rng.normal(size=(N_STIMULI, N_UNITS))
    if kind == "common drive":
        contrast = rng.lognormal(0, 0.5, (N_STIMULI, 1))
        R, features = np.maximum(R + 2 - 1.5 * np.log(contrast), 0), contrast * features
    squares = distance.squareform(distance.pdist(features, "sqeuclidean"))
    labels = [f"s{i:03d}" for i in range(N_STIMULI)]
    table = xr.DataArray(1 - np.exp(-squares / squares.mean()), {"stimulus": labels, "other": labels})
    blank = np.zeros((N_STIMULI, 1, 1, 3), np.uint8)
    images = xr.DataArray(blank, {"stimulus": labels}, ("stimulus", "row", "column", "channel"))
    coords = {"stimulus": labels, "unit": [f"u{i:02d}" for i in range(N_UNITS)]}
    return xr.DataArray(R, coords, ("stimulus", "unit")), images, ns.Precomputed(table)


def study_baselines(study: tuple[str, int]) -> dict[tuple[str, str, str], tuple[float, bool]]:
    """Return the difference between K-means and each baseline, and whether K-means is found above it."""
    kind, seed = study
    responses, images, metric = draw_without_features(kind, seed)
    finders = BASELINES | {name: finder for name, finder in COVERED.items() if name in CONTRASTS}
    codes = {name: fit_and_score(finder, responses, seed) for name, finder in finders.items()}
    found = {}
    for finder, baselines in CONTRASTS.items():
        for baseline in baselines:
            for correction in (None, "hub"):
                test = index_difference(codes[finder], codes[baseline], images, metric, correction=correction)
                above = bool(test.difference > 0 and test.p_value < 0.05)
                found[finder, baseline, correction or "raw"] = (float(test.difference), above)
    return found


def print_baselines(n_studies: int, run: Run = map) -> None:
    """Print how often K-means is above units and baselines where there are no features to find."""
    rows = {}
    for kind in UNIT_NOISE:
        studies = pd.DataFrame(list(run(study_baselines, [(kind, i) for i in range(n_studies)])))
        for finder, baselines in CONTRASTS.items():
            for baseline in baselines:
                cells: list[object] = []
                for correction in ("raw", "hub"):
                    difference, above = zip(*studies[finder, baseline, correction], strict=True)
                    cells += [Mean.of(difference, 3), Share.of(above)]
                rows[f"{kind}: {finder} − {baseline}"] = cells
    print_table(
        "K-means against units and baselines where nothing is planted",
        f"{n_studies} studies in each row: stimuli vary in {N_LATENT} dimensions, without privileged directions. "
        "“Common drive” adds to all rates what is large for plain stimuli. By II_c, K-means is above units and Random "
        "in all worlds without having found features: baselines of the same mean and covariance show that, so do "
        "exemplars. Where units have noise of their own, centres average it out, and K-means is a little above these "
        "baselines as well.",
        ("contrast", "raw difference", "raw above (p < 0.05)", "II_c difference", "II_c above (p < 0.05)"),
        rows,
        [
            Target(head, 0, 0.06, lambda name: "Matched" in name)
            for head in ("raw above (p < 0.05)", "II_c above (p < 0.05)")
        ],
    )


def study_recovery(study: tuple[str, int]) -> dict[str, float]:
    """Return the share of planted atoms with a direction at a cosine above .9, for each finder."""
    kind, seed = study
    rng, (n, d, k, active) = np.random.default_rng([seed, 7]), RECOVERY.values()
    D = rng.normal(size=(k, d))
    D = np.abs(D) if kind == "rate-like" else D
    D /= np.linalg.norm(D, axis=1, keepdims=True)
    Z = rng.exponential(1, (n, k)) * (rng.random((n, k)) < active / k)
    units = [f"u{i:02d}" for i in range(d)]
    R = xr.DataArray(Z @ D, {"stimulus": np.arange(n).astype(str), "unit": units}, ("stimulus", "unit"))
    atoms = xr.DataArray(D, {"direction": np.arange(k).astype(str), "unit": units}, ("direction", "unit"))
    finders = {
        "KMeans": ns.KMeans(k, random_state=seed),
        "DictionaryLearning(positive=True)": ns.DictionaryLearning(k, positive=True, max_iter=100, random_state=seed),
        "SparseAutoencoder": ns.SparseAutoencoder(k, n_active=active, max_iter=60, random_state=seed),
        "NMF": ns.NMF(k, signed=kind == "signed", random_state=seed),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of iterations that stopped
        return {name: float((recovery(own.fit(R).directions_, atoms) > 0.9).mean()) for name, own in finders.items()}


def print_recovery(n_studies: int, run: Run = map) -> None:
    """Print the shares of planted atoms that finders recover."""
    rows = {}
    for kind in ("signed", "rate-like"):
        studies = pd.DataFrame(list(run(study_recovery, [(kind, i) for i in range(n_studies)])))
        rows |= {f"{name}, {kind} atoms": [Mean.of(studies[name])] for name in studies}
    n, d, k, active = RECOVERY.values()
    print_table(
        "Recovery of planted atoms in superposition",
        f"{n_studies} populations in each row: {k} atoms in {d} units, {n} stimuli with {active} active atoms each on "
        "average, codes not negative. Atoms have any sign, or none is negative, as tuning of firing rates.",
        ("finder", "share of atoms with a direction at a cosine above 0.9"),
        rows,
    )
