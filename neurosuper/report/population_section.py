"""The section of a report on the similarity of populations: a matrix per measure, and a table with intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from neurosuper._rounding import ALPHA, decimals_for, format_interval, format_number, format_p
from neurosuper.plot import plot_similarity
from neurosuper.report.figures import Picture, draw_picture
from neurosuper.report.numbers import unique_names

UNITS, ROTATION, BACK = "units", "rotation", " back"
N_SE = 3.92  # standard errors that a 95 % interval is wide
NEEDED = ("estimate", "p_value", "p_adjusted", "gain", "gain_over_matched", "system_a", "system_b")
READING = (
    "Numbers in parentheses are of pairs that chance explains (adjusted p of at least 0.05). Blank pairs were not "
    "compared."
)
QUESTIONS = {  # of each measure: a question, and what its numbers mean
    "cka": (
        "Are products of responses similar? (CKA)",
        "1: one is a rotation of the other, up to a scale; 0: what independent systems have. No rotation changes it.",
    ),
    "rsa": (
        "Are the same stimuli far from each other? (RSA)",
        "1: the same order of distances; 0: what independent systems have. No rotation changes it.",
    ),
    "procrustes": (
        "Is one a rotation of the other? (Procrustes)",
        "1: a rotation, up to a scale. It is learned on other stimuli than it is scored on.",
    ),
    "encoding": (
        "Can one be predicted from the other? (encoding)",
        "Mean correlation of units with their predictions, on other stimuli. More columns predict better, even random "
        "ones.",
    ),
    "twins": (
        "Do single items have twins?",
        "Median correlation of items with their best partners, chosen on other stimuli. Unlike most measures, it "
        "depends on the axes: what rotations of the units reach is a property of the space, not of these axes.",
    ),
}
CLAIMS = (
    "A small p says that two systems share something about these stimuli, often one drive such as contrast. “A is more "
    "similar to V4 than B” needs intervals that do not overlap, of the same stimuli. A gain of directions over units "
    "counts as found only if as many columns for which nothing was learned do not have it too."
)
METHOD = (
    "Similarity of populations: directions were found on {n_fit} stimuli that all systems share, and everything was "
    "compared on {n_stimuli} others. p is that of {n_permutations} permutations of the stimuli of the second system, "
    "adjusted over all pairs, items and measures (Benjamini and Hochberg); intervals are for other stimuli."
)


class Answer(NamedTuple):
    """A figure, and sentences on it."""

    picture: Picture
    sentences: list[str]


class Cell(NamedTuple):
    """A number of the table as text, with its interval and p."""

    measure: str
    value: str
    interval: str
    p: str


class Populations(NamedTuple):
    """The section: a figure per measure, rows of a table by pair, what may be claimed, and a sentence of methods."""

    answers: list[Answer]
    measures: list[str]
    rows: dict[str, list[tuple[str, list[Cell]]]]
    claims: str
    method: str


def describe_populations(populations: xr.Dataset | None, comparison: xr.Dataset) -> Populations | None:
    """Return the figures, sentences and table of the similarity of populations; None without one.

    Raises
    ------
    TypeError
        Not a Dataset.
    ValueError
        Another Dataset, or systems that are not in the comparison.
    """
    if populations is None:
        return None
    _check(populations, comparison)
    measures = [str(each) for each in populations.measure.values]
    answers = []
    for measure in measures:
        forth = measure.removesuffix(BACK)
        if measure != forth and forth in measures:
            continue  # it is drawn in the same matrix
        title, caption = QUESTIONS[forth]
        figure = plot_similarity(populations, measure=measure, items=_drawn(populations, forth))
        picture = draw_picture(figure, title, f"{caption} {READING}", f"populations-{forth}")
        both = [each for each in (measure, f"{forth}{BACK}") if each in measures]
        answers.append(
            Answer(picture, [text for each in dict.fromkeys(both) for text in _sentences(populations, each)])
        )
    method = METHOD.format_map(populations.attrs) if "n_permutations" in populations.attrs else ""
    return Populations(answers, measures, _rows(populations, measures), CLAIMS, method)


def _check(populations: xr.Dataset, comparison: xr.Dataset) -> None:
    if not isinstance(populations, xr.Dataset):
        raise TypeError(
            "populations must be a Dataset from neurosuper.comparison.compare_populations, got "
            f"{type(populations).__name__}; read one from its file with neurosuper.study.read_populations"
        )
    if missing := [name for name in NEEDED if name not in populations.variables]:
        raise ValueError(f"populations lacks {', '.join(missing)}; pass what compare_populations returns")
    own = {*populations.system_a.values.tolist(), *populations.system_b.values.tolist()}
    if others := own - {*unique_names(comparison.system)}:
        known = ", ".join(unique_names(comparison.system))
        raise ValueError(
            f"populations has {', '.join(sorted(others))}, and the comparison {known}; pass both of the same study"
        )


def _drawn(populations: xr.Dataset, measure: str) -> list[str]:
    """Return the items to draw; rotations only where they differ from units."""
    items = [str(each) for each in populations["items"].values]
    return [each for each in items if each != ROTATION or measure in ("encoding", "twins")]


def _sentences(populations: xr.Dataset, measure: str) -> list[str]:
    """Return in how many pairs units are similar, and codes more so than units and than as many columns."""
    found = populations.sel(measure=measure)
    n = found.sizes["pair"]
    where = " the other way round" if measure.endswith(BACK) else ""
    n_similar = int((found.p_adjusted.sel(items=UNITS) < ALPHA).sum())
    sentences = [f"Units are more similar than chance explains{where} in {_of(n_similar, n)} (adjusted p < {ALPHA})."]
    if "gain_low" not in found:
        return sentences
    for items in _drawn(populations, measure.removesuffix(BACK)):
        if items not in (UNITS, ROTATION):
            own = found.sel(items=items)
            counts = [
                _of(int(((own[f"{gain}_low"] > 0) if more else (own[f"{gain}_high"] < 0)).sum()), n)
                for gain, more in (("gain", True), ("gain_over_matched", True), ("gain", False))
            ]
            sentences.append(
                f"Codes of {items} are more similar than units in {counts[0]} (interval above 0), more than as many "
                f"columns for which nothing was learned in {counts[1]}, and less than units in {counts[2]}."
            )
    return sentences


def _of(n: int, n_all: int) -> str:
    return f"{n} of {n_all} pair{'s' * (n_all != 1)}"


def _rows(populations: xr.Dataset, measures: list[str]) -> dict[str, list[tuple[str, list[Cell]]]]:
    """Return the rows of the table by pair: for each kind of items, a cell per measure."""
    return {
        str(pair): [
            (str(items), [_cell(populations.sel(pair=pair, items=items, measure=each), each) for each in measures])
            for items in populations["items"].values
        ]
        for pair in populations.pair.values
    }


def _cell(one: xr.Dataset, measure: str) -> Cell:
    value = float(one.estimate)
    if not np.isfinite(value):
        return Cell(measure, "–", "", "")
    low, high = (float(one[f"estimate_{end}"]) if f"estimate_{end}" in one else np.nan for end in ("low", "high"))
    decimals = min(decimals_for((high - low) / N_SE, value), 3) if np.isfinite(high - low) else 3
    interval = format_interval(low, high, decimals) if np.isfinite(high - low) else ""
    return Cell(measure, format_number(value, decimals), interval, f"p {format_p(float(one.p_adjusted))}")
