"""The section of a report on hypotheses that were stated before scores existed, and on everything that was tried."""

from __future__ import annotations

import json
from functools import partial
from typing import NamedTuple

import xarray as xr

from neurosuper.comparison.hypotheses import contrast_hypotheses, describe_claim, is_about
from neurosuper.report.forest import with_cautions

BEFORE = (
    "Written to the registry before this folder had scores ({} UTC). p is adjusted over these alone. The registry "
    "shows the order of events in this folder, not what was tried elsewhere."
)
AFTER = "Stated for these settings only after this folder had scores ({} UTC), and therefore exploratory."
ABSENT = "{}: not in this part of the study."
OF_THIS_PART = "Here p is adjusted over the hypotheses in this part alone: quote the report of the whole study."
NONE = "No hypothesis was stated before scores existed: every contrast in this report is exploratory. "
TRIED = (
    "Tried in this folder: {runs} with scores, {settings} of settings and data, {tests} of finders and of "
    "systems{both} in all. The tests in the sections below are exploratory."
)


class Hypotheses(NamedTuple):
    """What was stated, in parts of a paragraph and the sentences of its tests, and how much was tried."""

    parts: list[tuple[str, list[str]]]
    tried: str


def describe_hypotheses(comparison: xr.Dataset) -> Hypotheses | None:
    """Return the tests of the stated hypotheses and how much else was tried; None without a registry.

    Of a part of a study, hypotheses that name something else are only listed.
    """
    if "registry" not in comparison.attrs:
        return None
    tried, parts = json.loads(comparison.registry), []
    for before, text in ((True, BEFORE), (False, AFTER)):
        if own := [stated for stated in tried["hypotheses"] if stated["before_scores"] == before]:
            times = ", ".join(sorted({stated["time"][:16].replace("T", " ") for stated in own}))
            paragraph, sentences = [text.format(times)], []
            if here := [stated for stated in own if is_about(stated, comparison)]:
                tests, cautions = with_cautions(partial(contrast_hypotheses, comparison, here))
                paragraph += [*([OF_THIS_PART] if len(here) < len(own) else []), *cautions]
                sentences = tests.sentence.values.tolist()
            absent = [stated for stated in own if stated not in here]
            parts.append((" ".join(paragraph), sentences + [ABSENT.format(describe_claim(each)) for each in absent]))
    tally = TRIED.format(
        runs=_count(tried["n_runs"], "run"),
        settings=_count(tried["n_settings"], "combination"),
        tests=_count(tried["n_tests"], "contrast"),
        both=", of the raw and of the corrected index," if "corrected" in comparison else "",
    )
    none = "" if any(stated["before_scores"] for stated in tried["hypotheses"]) else NONE
    return Hypotheses(parts, none + tally)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
