"""Populations that share nothing: p under the null, and coverage of intervals, in simulated studies.

Tests: the two systems of a study are independent and Gaussian. Intervals: each study draws other stimuli; the truth is
planted.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from validate_superposition import N_DRAWS, Tested, draw, label, limits, print_intervals, print_tests
from validation_tables import Run

from neurosuper.comparison import cka, dissimilarities, procrustes, rsa, twins

N = 60  # stimuli
PLAIN = {"n_permutations": N_DRAWS, "n_rotations": 0}


def spread(p: float, seed: int) -> Tested:
    """Return p of a test with N_DRAWS draws without ties, and the same between its steps."""
    return Tested(p, p - np.random.default_rng([seed, 7]).uniform(0, 1 / (N_DRAWS + 1)))


def independent(seed: int, n_a: int = 6, n_b: int = 9) -> tuple[xr.DataArray, xr.DataArray]:
    """Return two systems that share nothing."""
    a, b = (label(draw((N, n), seed, i), "stimulus", "unit") for i, n in enumerate((n_a, n_b)))
    return a, b


def p_of_best_twin(seed: int) -> Tested:
    return spread(twins(*independent(seed), **PLAIN, random_state=seed).p_value[0].item(), seed)


def p_of_any_twin(seed: int) -> Tested:
    return spread(twins(*independent(seed), **PLAIN, random_state=seed).p_any.item(), seed)


def p_of_only_twin(seed: int) -> Tested:
    found = twins(*independent(seed), match="one-to-one", **PLAIN, random_state=seed)
    return spread(found.p_value[0].item(), seed)


def p_of_soft_twin(seed: int) -> Tested:
    return spread(twins(*independent(seed), match="soft", **PLAIN, random_state=seed).p_value[0].item(), seed)


FAST = {"n_permutations": N_DRAWS, "n_resamples": 0}


def p_of_rsa(seed: int) -> Tested:
    a, b = (dissimilarities(each, distance="correlation") for each in independent(seed))
    return spread(rsa(a, b, **FAST, random_state=seed).p_value.item(), seed)


def p_of_cka(seed: int) -> Tested:
    return spread(cka(*independent(seed), **FAST, random_state=seed).p_value.item(), seed)


def p_of_cka_of_sampled_units(seed: int) -> Tested:
    return spread(cka(*independent(seed, 20, 20), debias="both", **FAST, random_state=seed).p_value.item(), seed)


def p_of_procrustes(seed: int) -> Tested:
    return spread(procrustes(*independent(seed), **FAST, random_state=seed).p_value.item(), seed)


TESTS = {
    "`twins`, best: r of an item": p_of_best_twin,
    "`twins`, best: the largest r": p_of_any_twin,
    "`twins`, one-to-one: r of an item": p_of_only_twin,
    "`twins`, soft: r of an item and the weighted mean of its partners": p_of_soft_twin,
    "`rsa`": p_of_rsa,
    "`cka`": p_of_cka,
    '`cka`, debias="both"': p_of_cka_of_sampled_units,
    "`procrustes`": p_of_procrustes,
}


def intervals_of_twins(seed: int) -> list[tuple[float, float, float]]:
    signal = draw((N, 6), seed)
    a, b = (label(signal + draw((N, 6), seed, i) / 3**0.5, "stimulus", "unit") for i in (1, 2))
    return limits(twins(a, b, remove="none", **PLAIN, random_state=seed).isel(item_a=0), "r")


INTERVALS = {intervals_of_twins: {"`twins`: r of a planted twin, 0.75": 0.75}}


def print_tables(n_studies: int, run: Run = map) -> None:
    """Print a table of tests and one of intervals."""
    print_tests("Populations: tests where nothing is shared", TESTS, n_studies, run)
    print_intervals("Populations: intervals", INTERVALS, n_studies, run)
