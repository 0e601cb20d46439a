"""The tests of a report, grouped by what was tested against."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from html import escape

import numpy as np
import xarray as xr

from neurosuper.comparison.contrast import NothingToTestError, contrast_finders, contrast_systems

BASELINE = (
    "The matched baseline of a finder draws random directions: Gaussian vectors with the mean and covariance of the "
    "responses, prepared as for the finder. A gain over single units that the baseline shares is no evidence of "
    "features that were found: the mean response and the axes of large variance are enough for it."
)
VARIANCE_FROM_HALVES = (
    "Intervals and p-values are for other stimuli{groups} and other units or directions of the same kind in these "
    "systems; the variance over stimuli is estimated from random half-splits, with directions held fixed."
)
ITEMS_INDEPENDENT = "Items are treated as independent; they share stimuli, so p may be too small."
SOME_INDEPENDENT = "Where no interval is given, items are treated as independent, and p may be too small."
QUOTED = "Sentences on the hub-corrected index quote the test of the index itself."
SAME_METHOD = "Tested as in the section above; p is adjusted within families of its own."


def sections_of_tests(comparison: xr.Dataset) -> dict[str, tuple[str, str]]:
    """Return heading and section of the tests of finders and of systems, by id; only those with tests."""
    sections = {
        name: (heading, f"{intro}{_sentences(part)}")
        for name, heading, intro, part in (*_tests_of_finders(comparison), *_tests_of_systems(comparison))
    }
    return {
        name: (heading, f'<section id="{name}"><h2>{escape(heading)}</h2>{inner}</section>')
        for name, (heading, inner) in sections.items()
    }


Section = tuple[str, str, str, xr.Dataset]  # id, heading, paragraphs above the sentences, tests


def _tests_of_finders(comparison: xr.Dataset) -> list[Section]:
    """Return the tests of finders by the first metric, one section for each kind of what was tested against."""
    tests, cautions = _contrast(contrast_finders, comparison)
    if tests is None:
        return []
    by_first = _to_show(tests, comparison.metric.values[0])
    is_units = (by_first.against == "Units").values
    kinds = {
        "tests": ("Tests against single units", "", is_units),
        "baseline-tests": ("Tests against the matched baseline", _paragraph(BASELINE), ~is_units),
    }
    method, sections = _paragraph(_method(comparison, tests, cautions)), []
    for name, (heading, intro, chosen) in kinds.items():
        if chosen.any():
            sections.append((name, heading, intro + method, by_first.isel(test=chosen)))
            method = _paragraph(SAME_METHOD)
    return sections


def _tests_of_systems(comparison: xr.Dataset) -> list[Section]:
    """Return the tests of systems by the first metric."""
    tests, cautions = _contrast(contrast_systems, comparison)
    if tests is None:
        return []
    caveat = f"Compare indices between systems only if they share images: {comparison.shared_stimuli}."
    by_first = _to_show(tests, comparison.metric.values[0])
    method = _paragraph(_method(comparison, tests, [*cautions, caveat]))
    return [("system-tests", f"Tests against {comparison.system.values[0]}", method, by_first)]


def _to_show(tests: xr.Dataset, metric: str) -> xr.Dataset:
    """Return the tests by one metric: of the corrected index where there is one, whose sentences quote the raw test."""
    by_metric = tests.isel(test=(tests.metric == metric).values)
    keys = list(zip(*(by_metric[name].values.tolist() for name in ("system", "finder", "against")), strict=True))
    corrected = {key for key, name in zip(keys, by_metric.correction.values.tolist(), strict=True) if name == "hub"}
    is_quoted = [key in corrected for key in keys] & (by_metric.correction.values == "none")
    return by_metric.isel(test=~is_quoted)


def _contrast(
    contrast: Callable[[xr.Dataset], xr.Dataset], comparison: xr.Dataset
) -> tuple[xr.Dataset | None, list[str]]:
    """Return tests, None if there is nothing to test, and their warnings."""
    try:
        tests, cautions = with_cautions(lambda: contrast(comparison))
    except NothingToTestError:  # no single units or matched baseline, or nothing else; one system
        return None, []
    return tests, cautions


def with_cautions(test: Callable[[], xr.Dataset]) -> tuple[xr.Dataset, list[str]]:
    """Return the result of a test and its warnings as sentences, which the page shows in their place."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tests = test()
    return tests, list(dict.fromkeys(f"{str(each.message).removesuffix('.')}." for each in caught))


def _method(comparison: xr.Dataset, tests: xr.Dataset, cautions: list[str]) -> str:
    """Return how the tests were made, and to what they generalise."""
    seed = f", items of seed {comparison.seed.values[0]}" if len(np.unique(comparison.seed)) > 1 else ""
    scope = (
        f"By {comparison.metric.values[0]}, the first metric{seed}. p of the {tests.n_tests} tests "
        f"of all metrics is adjusted within {tests.n_families} families (Benjamini–Hochberg)."
    )
    has_interval = np.isfinite(tests.difference_low.values)
    groups = f" (whole groups: {comparison.stimulus_groups})" if "stimulus_groups" in comparison.attrs else ""
    assumptions = [VARIANCE_FROM_HALVES.format(groups=groups)] if has_interval.any() else [ITEMS_INDEPENDENT]
    if has_interval.any() and not has_interval.all():
        assumptions.append(SOME_INDEPENDENT)
    quoted = [QUOTED] if (tests.correction == "hub").any() else []
    return " ".join([scope, *quoted, *assumptions, *cautions])


def _sentences(tests: xr.Dataset) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in tests.sentence.values.tolist())}</ul>"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"
