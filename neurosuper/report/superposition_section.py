"""The section of a report on superposition: one figure per question, with what its numbers are to be compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import xarray as xr
from matplotlib.figure import Figure

from neurosuper.plot import (
    plot_disentanglement,
    plot_interference,
    plot_rotation,
    plot_sparseness,
    plot_spectrum,
    plot_synergy,
)
from neurosuper.report.figures import Picture, draw_picture
from neurosuper.report.numbers import unique_names
from neurosuper.report.superposition_sentences import (
    Measured,
    describe_disentanglement,
    describe_interference,
    describe_rotation,
    describe_sparseness,
    describe_spectrum,
    describe_synergy,
)

Draw = Callable[[dict[str, xr.Dataset]], Figure]
Describe = Callable[[list[Measured], Mapping[str, str]], list[str]]


KINDS = "system", "finder"  # in whose names a tree has "_" instead of "/"
SETTINGS = (
    "Measures of superposition that use the index are by {metric} with the top {top} stimuli; the baseline of "
    "sparseness is {baseline} (random seed {random_state})."
)


class Question(NamedTuple):
    """What a measure is asked: a question, how to read its figure, and a sentence of methods."""

    title: str
    caption: str
    method: str
    draw: Draw
    describe: Describe


QUESTIONS = {
    "interference": Question(
        "Do directions interfere?",
        "Points: directions, each with the root mean square of its cosines with all others. Bar and marker: that of "
        "all pairs. Dashed line: Welch bound, below which no directions of this number can be in as many units. "
        "Without superposition, directions are at most as many as units and orthogonal, at 0. The covariance of the "
        "responses alone makes directions nearly parallel: what does not exceed the matched baseline is no evidence "
        "of superposition. Cosines are of the directions as they were found, without an interval.",
        "Interference is the root mean square cosine between the directions of a finder, compared with the Welch "
        "bound and with the matched baseline.",
        plot_interference,
        describe_interference,
    ),
    "spectrum": Question(
        "How many dimensions do responses have?",
        "Variance along each component, as a share of the sum. Dashed line: power law with exponent α, where it was "
        "fitted. Dotted line, if the dimension of the stimuli is known: critical exponent; if α is below it, the "
        "code is not smooth (Stringer et al. 2019). The participation ratio is about the number of dimensions that "
        "have most of the variance: if there are no more features than that, none has to be in superposition. "
        "Intervals (95 %) are for other stimuli.",
        "The spectrum is the variance of the responses along principal components, with the exponent of its power "
        "law and its participation ratio; with repetitions, it is that of cross-validated PCA (Stringer et al. 2019).",
        plot_spectrum,
        describe_spectrum,
    ),
    "sparseness": Question(
        "Are sparse units and directions the interpretable ones?",
        "Points: units or directions. Line: means of fifths of them, ordered by sparseness. If sparseness has "
        "nothing to do with the index, lines are level and the rank correlation is 0; there is no interval, because "
        "items share stimuli and are not independent.",
        "Sparseness is that of the codes over stimuli (Vinje and Gallant 2000), above the same baseline for units "
        "and directions.",
        plot_sparseness,
        describe_sparseness,
    ),
    "rotation": Question(
        "Are units more interpretable than other axes?",
        "Thin lines: random rotations. Thick line: their mean, with 95 % intervals for other stimuli. Dashed line: "
        "the units. If no axis is preferred, rotated axes are as interpretable as units and stay on the dashed line. "
        "If features are aligned with units, the index decreases with the amount of rotation.",
        "Responses were z-scored and rotated by parts of random rotations (Bau et al. 2017); p is the share of "
        "rotations whose mean index is at least that of the units, which count as one.",
        plot_rotation,
        describe_rotation,
    ),
    "synergy": Question(
        "Are pairs of units more interpretable than their units?",
        "Synergy of pairs of units on the stimuli where it was found (grey) and on other stimuli (blue), with the "
        "mean of the 5 % of pairs that were best where found, and its 95 % interval for other stimuli. Without "
        "synergy, no more pairs than shuffled ones are above 0. The best pairs where synergy was found are the best "
        "by chance, too: only their mean on other stimuli counts.",
        "Synergy is the index of a combination of two units minus that of its units, found on one half of the "
        "stimuli and scored on the other, and compared with pairs in which the stimuli of one unit are shuffled.",
        plot_synergy,
        describe_synergy,
    ),
    "disentanglement": Question(
        "Does each unit or direction encode one factor?",
        "Markers: measures of how units and directions encode known factors of the stimuli, with 95 % intervals for "
        "other stimuli. Vertical ticks: the same with permuted factors, which no item encodes; compare with these, "
        "not with 0. 1: each item encodes one factor (DCI disentanglement, modularity, InfoM), each factor is "
        "encoded by one item (MIG, SAP, DCI completeness, InfoC), or factors can be read out (DCI informativeness, "
        "explicitness, InfoE). Several items for one factor lower the second kind, not the first.",
        "Disentanglement of units and directions was measured on the same factors, and compared with permuted factors.",
        plot_disentanglement,
        describe_disentanglement,
    ),
}


class Answer(NamedTuple):
    """A figure, and a sentence of result for each system."""

    picture: Picture
    sentences: list[str]


class Superposition(NamedTuple):
    """The section: the answer to each question, what could not be measured, and sentences of methods."""

    answers: list[Answer]
    left_out: list[str]
    methods: list[str]


def describe_superposition(tree: xr.DataTree | None, comparison: xr.Dataset) -> Superposition | None:
    """Return the figures and sentences of all measures in a tree, in the order of `QUESTIONS`; None without a tree.

    Parameters
    ----------
    tree : DataTree, optional
        From `neurosuper.superposition.measure_superposition`.
    comparison : Dataset (item, metric)
        Of the same systems; states which baseline is matched to which finder.

    Raises
    ------
    TypeError
        Not a DataTree.
    ValueError
        Another measure, or systems that are not in the comparison.
    """
    if tree is None:
        return None
    measured = _read(tree, comparison)
    baselines: dict[str, str] = {}
    if "baseline" in comparison.coords:
        pairs = zip(comparison.finder.values.tolist(), comparison.baseline.values.tolist(), strict=True)
        baselines = {finder: baseline for finder, baseline in pairs if baseline}
    answers, methods = [], [_describe_settings(tree)]
    for name, question in QUESTIONS.items():
        if results := measured.get(name):
            figure = question.draw({each.name: each.values for each in results})
            picture = draw_picture(figure, question.title, question.caption, f"superposition-{name}")
            answers.append(Answer(picture, question.describe(results, baselines)))
            methods.append(question.method)
    return Superposition(answers, _left_out(tree), [text for text in methods if text]) if answers else None


def _left_out(tree: xr.DataTree) -> list[str]:
    """Return what could not be measured and why, with those of the same reason in one line."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for line in str(tree.attrs.get("left_out", "")).splitlines():
        what, _, reason = line.partition(": ")
        measure, _, name = what.partition(" of ")
        reasons.setdefault((measure, reason), []).append(name)
    return [f"{measure} of {'; '.join(names)}: {reason}" for (measure, reason), names in reasons.items()]


def _describe_settings(tree: xr.DataTree) -> str:
    """Return what all measures share."""
    if not {"metric", "top", "baseline", "random_state"} <= set(tree.attrs):
        return ""
    return SETTINGS.format_map(tree.attrs)


def _read(tree: xr.DataTree, comparison: xr.Dataset) -> dict[str, list[Measured]]:
    """Return the results of a tree by measure, with the names that systems and finders have in the comparison."""
    if not isinstance(tree, xr.DataTree):
        raise TypeError(
            f"superposition must be a DataTree from neurosuper.superposition.measure_superposition, got "
            f"{type(tree).__name__}; read one from its file with xarray.open_datatree"
        )
    if unknown := [name for name in tree.children if name not in QUESTIONS]:
        raise ValueError(f"superposition has unknown measures {', '.join(unknown)}; known are {', '.join(QUESTIONS)}")
    systems, finders = ({name.replace("/", "_"): name for name in unique_names(comparison[k])} for k in KINDS)
    measured: dict[str, list[Measured]] = {}
    others = set()
    for name, of_measure in tree.children.items():
        for node in of_measure.subtree:
            if node.has_data:
                system, _, finder = node.relative_to(of_measure).partition("/")
                result = Measured(systems.get(system, system), finders.get(finder, finder), node.to_dataset())
                measured.setdefault(name, []).append(result)
                others |= {system} - set(systems)
    if others:
        raise ValueError(
            f"superposition is of {', '.join(sorted(others))}, and the comparison of {', '.join(systems.values())}; "
            "pass both of the same study"
        )
    return measured
