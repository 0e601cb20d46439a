"""Names, categories and factors of items that ignore them: p under the null, and coverage of intervals.

Responses are Gaussian and independent of the labels of stimuli, of their affinities to concepts, of images and factors.
The model of `alignment` is Gaussian on axes of its own.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy import stats
from validate_superposition import N_DRAWS, Tested, draw, label, limits, print_intervals, print_tests
from validation_tables import Run

from neurosuper import Color, load_images
from neurosuper.inference import compare_with_null
from neurosuper.interpretability import enrichment, intrusion, name_items, polysemanticity, selectivity
from neurosuper.superposition import alignment, disentanglement, replicate_disentanglement

N, N_CATEGORIES = 120, 4  # stimuli, and categories of 30 each
SCORES = (
    *("mig", "sap", "dci_disentanglement", "dci_completeness", "dci_informativeness", "modularity", "explicitness"),
    *("infom", "infoc", "infoe"),
)


def uniform(seed: int) -> float:
    """Return a number that breaks ties."""
    return float(np.random.default_rng([seed, 7]).uniform())


def categories() -> xr.DataArray:
    """Return the category of each stimulus."""
    return label(np.arange(N) % N_CATEGORIES, "stimulus").astype(str)


def codes_of(seed: int, n_items: int = 2) -> xr.DataArray:
    """Return Gaussian responses."""
    return label(draw((N, n_items), seed), "stimulus", "unit")


def p_of_selectivity(seed: int) -> Tested:
    return Tested(*[selectivity(codes_of(seed), categories()).p_value[0, 0].item()] * 2)


def p_of_best_category(seed: int) -> Tested:
    return Tested(*[selectivity(codes_of(seed), categories(), random_state=seed).best_p_value[0].item()] * 2)


def p_of_enrichment(seed: int) -> Tested:
    found = enrichment(codes_of(seed), categories(), top=20, n_resamples=19, random_state=seed)
    k, null = found.n_top[0, 0].item(), stats.hypergeom(N, N // N_CATEGORIES, 20)
    return Tested(found.p_value[0, 0].item(), null.sf(k) + uniform(seed) * null.pmf(k))


def p_of_names(seed: int) -> Tested:
    affinities = label(draw((N, 3), seed, 1), "stimulus", "concept").clip(-3, 3) / 3
    return Tested(*[name_items(codes_of(seed), affinities, top=20, n_names=1).p_value[0, 0].item()] * 2)


def p_of_intruders(seed: int) -> Tested:
    images = load_images(np.random.default_rng([seed, 2]).integers(0, 256, (N, 1, 1, 3), dtype=np.uint8))
    codes = codes_of(seed).assign_coords(stimulus=images.stimulus.values)
    found = intrusion(codes, images, Color(device="cpu"), n_images=5, n_trials=10, random_state=seed)
    k = round(10 * found.accuracy[0].item())
    return Tested(found.p_value[0].item(), stats.binom.sf(k, 10, 0.2) + uniform(seed) * stats.binom.pmf(k, 10, 0.2))


def p_of_clarity(seed: int) -> Tested:
    images = load_images(np.random.default_rng([seed, 2]).integers(0, 256, (N, 1, 1, 3), dtype=np.uint8))
    codes = codes_of(seed).assign_coords(stimulus=images.stimulus.values)
    found = polysemanticity(codes, images, Color(device="cpu"), top=10, n_resamples=99, random_state=seed)
    p = found.clarity_p_value[0].item()
    return Tested(p, p - uniform(seed) / 100)


NAMES = {
    "`selectivity`: an item for a category": p_of_selectivity,
    "`selectivity`: the best category, held out": p_of_best_category,
    "`enrichment`: an item in a category": p_of_enrichment,
    "`name_items`: the name of rank 1, held out": p_of_names,
    "`intrusion`: accuracy": p_of_intruders,
    "`polysemanticity`: clarity": p_of_clarity,
}


def permuted(factors: xr.Dataset, *, random_state: int) -> xr.Dataset:
    """Return factors with the stimuli permuted, in the same way for all."""
    order = np.random.default_rng(random_state).permutation(factors.sizes["stimulus"])
    return factors.copy(data={name: values.values[order] for name, values in factors.items()})


def p_of_disentanglement(seed: int) -> list[float]:
    """Return p, and p with ties broken at random, of each of ten measures."""
    codes = label(draw((60, 2), seed), "stimulus", "unit")
    levels = np.random.default_rng([seed, 3]).integers(2, size=(2, 60)).astype(str)
    factors = xr.Dataset(
        {name: ("stimulus", own) for name, own in zip("ab", levels, strict=True)}, {"stimulus": codes.stimulus}
    )

    def scores(own: xr.Dataset) -> np.ndarray:
        found = disentanglement(codes, own, bins=4, n_permutations=0, n_resamples=0)
        return np.array([found[name].item() for name in SCORES])

    test = compare_with_null(scores, factors, permuted, n_resamples=N_DRAWS, random_state=99 * seed)
    above = (test.null.values > test.estimate.values).sum(0)
    equal = (test.null.values == test.estimate.values).sum(0)
    spread = (above + uniform(seed) * (1 + equal)) / (1 + N_DRAWS)
    return [*test.p_value.values, *spread]


def p_of_replication(seed: int) -> Tested:
    a, b = (label(draw((60, 3), seed, stream), "stimulus", "unit") for stream in (0, 1))
    settings = {"n_permutations": N_DRAWS, "n_resamples": 0, "random_state": seed}
    p = replicate_disentanglement(a, b, **settings).p_value.item()
    return Tested(p, p - uniform(seed) / (1 + N_DRAWS))


def p_of_alignment(seed: int) -> Tested:
    model = draw((60, 3), seed)
    axis = draw((3, 1), seed, 1)
    neurons = model @ axis / np.linalg.norm(axis) + 0.5 * draw((60, 1), seed, 2)
    settings = {"n_rotations": N_DRAWS, "n_resamples": 0, "random_state": seed}
    found = alignment(label(model, "stimulus", "direction"), label(neurons, "stimulus", "unit"), **settings)
    p = found.mean_alignment_p_value.item()
    return Tested(p, p - uniform(seed) / (1 + N_DRAWS))


FACTORS = {
    "`replicate_disentanglement` of independent systems": p_of_replication,
    "`alignment` of a Gaussian model with a neuron": p_of_alignment,
}


def intervals_of_selectivity(seed: int) -> list[tuple[float, float, float]]:
    codes = codes_of(seed) + (categories() == "0")
    found = selectivity(codes, categories(), random_state=seed)
    return [*limits(found[["auc", "auc_low", "auc_high"]].isel(unit=0, category=0), "auc")]


def intervals_of_best_share(seed: int) -> list[tuple[float, float, float]]:
    found = enrichment(codes_of(seed), categories(), top=20, n_resamples=19, random_state=seed)
    return limits(found.isel(unit=0), "best_share")


def intervals_of_names(seed: int) -> list[tuple[float, float, float]]:
    affinities = label(draw((N, 3), seed, 1), "stimulus", "concept").clip(-3, 3) / 3
    return limits(name_items(codes_of(seed), affinities, top=20, n_names=1).isel(unit=0, rank=0), "auc")


def intervals_of_intrusion(seed: int) -> list[tuple[float, float, float]]:
    images = load_images(np.random.default_rng([seed, 2]).integers(0, 256, (N, 1, 1, 3), dtype=np.uint8))
    codes = codes_of(seed).assign_coords(stimulus=images.stimulus.values)
    found = intrusion(codes, images, Color(device="cpu"), n_images=5, n_trials=10, random_state=seed)
    return limits(found.isel(unit=0), "accuracy")


INTERVALS = {  # study: name and planted truth of each estimate
    intervals_of_selectivity: {"`selectivity`: AUC of d′ = 1": float(stats.norm.cdf(0.5**0.5))},
    intervals_of_best_share: {"`enrichment`: share of the best category, held out; none is enriched": 1 / N_CATEGORIES},
    intervals_of_names: {"`name_items`: AUC of a name, held out; none fits": 0.5},
    intervals_of_intrusion: {"`intrusion`: accuracy of items that ignore the images": 0.2},
}


def print_tables(n_studies: int, run: Run = map) -> None:
    """Print tables of tests and of intervals."""
    print_tests("Names and categories: tests without any", NAMES, n_studies, run)
    print_intervals("Names and categories: intervals", INTERVALS, n_studies, run)
    found = np.array(list(run(p_of_disentanglement, range(n_studies)))).reshape(n_studies, 2, len(SCORES))
    of_scores = {f"`disentanglement`: {name}, factors permuted": found[:, :, i] for i, name in enumerate(SCORES)}
    print_tests("Disentanglement: tests without any", FACTORS, n_studies, run, of_scores)
