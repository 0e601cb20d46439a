"""The methods of a comparison as a paragraph for a paper, from the comparison alone."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from neurosuper.comparison.table import count_constant, count_left_out, describe_scored, describe_units_left_out
from neurosuper.report.forest import families_of_finders, main_tests
from neurosuper.report.numbers import unique_names

SPLIT = {
    "held-out": "Directions were found on one part of the stimuli, and units and directions were scored on the rest",
    "all": "Directions were found, and units and directions scored, on the same stimuli",
}
INDEX = (
    "The interpretability index of a unit or direction is the mean, over all pairs of its top {top} stimuli, of a "
    "similarity of two images (Klindt et al. 2023): {metrics}."
)
CORRECTED = (
    "The hub-corrected index subtracts from each distance what the mean distances of the two images to all others "
    "explain; its chance level is 0."
)
CHANCE = (
    "The chance level is the mean index of all sets of {top} stimuli of a system; the range of single sets is that of "
    "{n} random ones."
)
BASELINE = (
    "Each finder was also tested against its matched baseline, random directions with the mean and covariance of the "
    "responses prepared as for the finder."
)
HALVES = "The variance over stimuli was estimated from {n} random halves of the stimuli{groups}, with directions fixed."
PERMUTED = "p is that of a permutation test over units and directions, which treats stimuli as fixed"
PAPERS = (
    "Klindt, D., Sanborn, S., Acosta, F., Poitevin, F. & Miolane, N. (2023). Identifying interpretable visual features "
    "in artificial and biological neural systems. arXiv:2310.11431."
)
ADJUSTED = (
    "Benjamini, Y. & Hochberg, Y. (1995). Controlling the false discovery rate: a practical and powerful approach to "
    "multiple testing. Journal of the Royal Statistical Society B 57, 289–300."
)


def describe_methods(comparison: xr.Dataset, tests: xr.Dataset | None) -> list[str]:
    """Return the methods of a comparison as sentences in paragraphs: data and fits, scores, tests, software, papers.

    Everything is read from the comparison, its provenance and the tests of finders; what these do not state is left
    out.
    """
    provenance = json.loads(comparison.attrs.get("provenance", "{}"))
    paragraphs = [
        [*_describe_systems(comparison, provenance), *_describe_fits(comparison, provenance)],
        _describe_scores(comparison),
        [] if tests is None else _describe_tests(comparison, tests),
        _describe_software(provenance),
        [PAPERS] if tests is None or tests.n_family.max() == 1 else [PAPERS, ADJUSTED],
    ]
    return [" ".join(sentences) for sentences in paragraphs if sentences]


def _describe_systems(comparison: xr.Dataset, provenance: dict) -> list[str]:
    """Return the systems with their numbers of units, their stimuli, and the datasets that they are from."""
    classes = {name: settings["finder"] for name, settings in provenance.get("finders", {}).items()}
    of_units = [name for name in unique_names(comparison.finder) if classes.get(name, name) == "Units"][:1]
    first = _of_first_seed(comparison)
    names = []
    for system in unique_names(comparison.system):
        n = int(((first.system == system) & first.finder.isin(of_units)).sum())
        names.append(f"{system} ({_count(n, 'unit')})" if n else system)
    shared = f", on {comparison.shared_stimuli}" if "shared_stimuli" in comparison.attrs else ""
    sentences = [f"The interpretability of single units and of directions was compared in {_join(names)}{shared}."]
    if left_out := describe_units_left_out(comparison):
        sentences.append(left_out)
    for system, about in provenance.get("datasets", {}).items():
        sentences.append(f"{system} is {about['dataset']}, version {about['dataset_version']}, doi {about['doi']}.")
    return sentences


def _of_first_seed(comparison: xr.Dataset) -> xr.Dataset:
    if "seed" not in comparison.coords:
        return comparison
    return comparison.isel(item=(comparison.seed == comparison.seed[0]).values)


def _describe_fits(comparison: xr.Dataset, provenance: dict) -> list[str]:
    """Return finders with settings, the stimuli that they were fitted and scored on, and seeds."""
    known = provenance.get("finders", {})
    finders = [_name_finder(name, known.get(name)) for name in unique_names(comparison.finder)]
    sentences = [f"Finders, with the settings that are not their defaults: {'; '.join(finders)}."]
    scored = f" (scored stimuli: {n})" if (n := describe_scored(comparison)) else ""
    if "score_on" in comparison.attrs:
        sentences.append(f"{SPLIT[comparison.score_on]}{scored}.")
    if "stimulus_groups" in comparison.attrs:
        sentences.append(f"Stimuli of one {comparison.stimulus_groups} were never divided.")
    seeds = provenance.get("seeds", [])
    if not seeds and "random_state" in comparison.attrs:
        seeds = [int(comparison.random_state)]
    if seeds:
        sentences.append(f"Random seed{'s' * (len(seeds) > 1)}: {', '.join(map(str, seeds))}.")
    return sentences


def _name_finder(name: str, settings: dict | None) -> str:
    """Return the name of a finder with its class and settings, if they say more."""
    if settings is None or (called := call_of(settings)) == f"{name}()":
        return name
    return called if settings["finder"] == name else f"{name}: {called}"


def call_of(settings: dict) -> str:
    """Return the class of a finder with its settings, as Python would call it."""
    others = ", ".join(f"{name}={value!r}" for name, value in settings.items() if name != "finder")
    return f"{settings['finder']}({others})"


def _describe_scores(comparison: xr.Dataset) -> list[str]:
    metrics = [
        f"{quantity} by {metric}"
        for metric, quantity in zip(comparison.metric.values.tolist(), comparison.quantity.values.tolist(), strict=True)
    ]
    sentences = [INDEX.format(top=comparison.top, metrics=_join(metrics))]
    if "corrected" in comparison:
        sentences.append(CORRECTED)
    if "chance_level" in comparison and "n_resamples" in comparison.attrs:
        sentences.append(CHANCE.format(n=comparison.n_resamples, top=comparison.top))
    left_out = count_left_out(comparison)
    if n := int(left_out.n_inactive.sum()):
        of = _count(int(left_out.n_items.sum()), "item")
        sentences.append(f"Of {of}, {n} with fewer than {comparison.top} active stimuli were left out.")
    if n := count_constant(comparison):
        sentences.append(f"Also left out: {_count(n, 'direction')} with the same code for all stimuli scored on.")
    return sentences


def _describe_tests(comparison: xr.Dataset, tests: xr.Dataset) -> list[str]:
    """Return how finders were tested, in which families p was adjusted, and how many differences were detectable."""
    shown = main_tests(tests)
    is_corrected = (shown.correction == "hub").any()
    index = f"mean {'hub-corrected ' if is_corrected else ''}index"
    confidence = f"{100 * tests.attrs.get('confidence_level', 0.95):g} %"
    references = unique_names(shown.against)
    against = "single units" if "Units" in references else _join(references)
    sentences = [f"Each finder was tested against {against} for a difference in the {index} (two-sided)."]
    if (
        "baseline" in comparison.coords
        and np.isin(references, comparison.baseline.values[comparison.baseline != ""]).any()
    ):
        sentences.append(BASELINE)
    without = unique_names(tests.system[np.isnan(tests.difference_low.values)])
    if np.isfinite(tests.difference_low).any() and "draw" in comparison.sizes:
        groups = f" (whole groups: {comparison.stimulus_groups})" if "stimulus_groups" in comparison.attrs else ""
        sentences.append(HALVES.format(n=comparison.sizes["draw"], groups=groups))
        sentences.append(f"Intervals are {confidence} confidence intervals.")
        if without:
            sentences.append(f"In {_join(without)}, where stimuli are too few to halve, {PERMUTED}.")
    else:
        sentences.append(f"{PERMUTED}.")
    smallest, largest = int(tests.n_family.min()), int(tests.n_family.max())
    sizes = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
    if largest == 1:
        sentences.append(f"p-values were not adjusted, because each family ({families_of_finders(tests)}) is one test.")
    else:
        sentences.append(
            f"p-values were adjusted within families ({families_of_finders(tests)}; {sizes} each) by the method of "
            "Benjamini and Hochberg (1995)."
        )
    return [*sentences, count_detectable(shown, index, "adjusted p" if largest > 1 else "p")]


def count_detectable(shown: xr.Dataset, index: str, p_name: str) -> str:
    """Return how many of the shown differences are detectable."""
    n, n_found = shown.sizes["test"], int(shown.detectable.sum())
    if n == 1:
        return f"The difference in the {index} was {'' if n_found else 'not '}detectable ({p_name} < 0.05)."
    found = "1 was" if n_found == 1 else f"{n_found or 'none'} were"
    return f"Of {n:,} differences in the {index}, {found} detectable ({p_name} < 0.05)."


def _describe_software(provenance: dict) -> list[str]:
    versions = dict(provenance.get("versions", {}))
    if not versions:
        return []
    first = f"neurosuper {versions.pop('neurosuper')}" if "neurosuper" in versions else "neurosuper"
    others = ", ".join(f"{name} {version}" for name, version in versions.items())
    device = f" on {provenance['device']}" if "device" in provenance else ""
    return [f"Computed with {first}{f' ({others})' if others else ''}{device}."]


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def _join(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
