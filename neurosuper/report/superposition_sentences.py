"""Sentences on measures of superposition: the result of each system with interval and null, and methods for a paper.

They state numbers and what these are to be compared with, and leave it to tests to say what is detectable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from neurosuper._rounding import decimals_for, format_interval, format_number, format_p
from neurosuper.plot.factor_scores import MEASURES

N_SE = 3.92  # standard errors that a 95 % interval is wide
MIN_ITEMS = 10  # of a rank correlation
QUOTED = ("infom", "modularity", "dci_disentanglement", "mig")  # the first that there is stands for the others


class Measured(NamedTuple):
    """The result of a measure for a system, and for a finder unless the measure is of the system alone ("")."""

    system: str
    finder: str
    values: xr.Dataset

    @property
    def name(self) -> str:
        """Name in figures."""
        return f"{self.system} · {self.finder}" if self.finder else self.system


def describe_interference(results: Sequence[Measured], baselines: Mapping[str, str]) -> list[str]:
    """Return the cosines of the directions of each system, with those of the matched baseline and the least possible.

    Parameters
    ----------
    results : sequence of Measured
    baselines : mapping of str to str
        The name of the matched baseline of each finder that has one.
    """
    sentences = []
    for system, of_system in _by_system(results).items():
        rms = {each.finder: format_number(float(each.values.rms), 2) for each in of_system}
        parts = []
        for each in of_system:
            if each.finder in baselines.values():
                continue
            n, welch = each.values.sizes["direction"], format_number(float(each.values.welch), 2)
            baseline = baselines.get(each.finder)
            matched = f"matched baseline {rms[baseline]}" if baseline in rms else "without a matched baseline"
            parts.append(
                f"{rms[each.finder]} between {n:,} directions of {each.finder} ({matched}, Welch bound {welch})"
            )
        if parts:
            sentences.append(f"{system}: the root mean square cosine is {'; '.join(parts)}.")
    return sentences


def describe_spectrum(results: Sequence[Measured], _: Mapping[str, str]) -> list[str]:
    """Return the number of dimensions and the exponent of each system."""
    sentences = []
    for system, _finder, found in results:
        of = "signal, by cross-validated PCA" if found.attrs["method"] == "cvpca" else "signal and noise, by PCA"
        first, last = found.attrs["fit"]
        critical = ""
        if "alpha_critical" in found:
            critical = f"; the critical exponent is {format_number(float(found.alpha_critical), 2)}"
        sentences.append(
            f"{system} ({of}): the participation ratio is {_estimate(found, 'participation_ratio')} of "
            f"{found.sizes['component']:,} components, and α = {_estimate(found, 'alpha')} from component {first} to "
            f"{last}{critical}."
        )
    return sentences


def describe_sparseness(results: Sequence[Measured], baselines: Mapping[str, str]) -> list[str]:
    """Return the correlation of sparseness with the index, of each system and finder but baselines."""
    sentences = []
    for system, of_system in _by_system(results).items():
        parts = []
        for _system, finder, items in of_system:
            if finder in baselines.values():
                continue
            known = items[["sparseness", "interpretability"]].to_dataframe().dropna()
            x, y = known["sparseness"], known["interpretability"]
            is_defined = len(known) >= MIN_ITEMS and x.nunique() > 1 and y.nunique() > 1
            r = format_number(float(stats.spearmanr(x, y).statistic), 2) if is_defined else "not computed"
            parts.append(f"{r} over {len(known):,} items of {finder} (mean sparseness {format_number(x.mean(), 2)})")
        if parts:
            sentences.append(f"{system}: the rank correlation with the index is {'; '.join(parts)}.")
    return sentences


def describe_rotation(results: Sequence[Measured], _: Mapping[str, str]) -> list[str]:
    """Return the difference between fully rotated axes and units, of each system."""
    sentences = []
    for system, _finder, curve in results:
        last = curve.isel(amount=-1)
        of = f" of {curve.attrs['n_units']:,} units" if "n_units" in curve.attrs else ""
        p = f"p {format_p(float(last.p_value))}".replace(" ", "\N{NO-BREAK SPACE}")
        sentences.append(
            f"{system}: axes{of} that are rotated by an amount of {float(last.amount):g} have a mean index that "
            f"differs from that of the units by {_estimate(last, 'mean_difference', sign=True)} ({p}, one-sided, from "
            f"{curve.sizes['rotation']} rotations)."
        )
    return sentences


def describe_synergy(results: Sequence[Measured], _: Mapping[str, str]) -> list[str]:
    """Return the share of pairs above their units, with that of shuffled pairs, and the best ones on other stimuli."""
    sentences = []
    for system, _finder, pairs in results:
        null, n = _percent(float(pairs.share_above_null)), pairs.sizes["pair"]
        text = f"{system}: {_share(pairs, 'share_above')} of {n:,} pairs are above 0, and {null} of shuffled pairs"
        if "synergy_of_best" in pairs:
            found = format_number(float(pairs.found_of_best), _decimals(pairs, "synergy_of_best"), sign=True)
            scored = _estimate(pairs, "synergy_of_best", sign=True)
            text += f"; the best 5\N{NO-BREAK SPACE}% have {found} where they were found, and {scored} on other stimuli"
        sentences.append(f"{text}.")
    return sentences


def describe_disentanglement(results: Sequence[Measured], baselines: Mapping[str, str]) -> list[str]:
    """Return one measure of each system and finder, with what permuted factors and the matched baseline score."""
    sentences = []
    for system, of_system in _by_system(results).items():
        quoted = next((name for name in (*QUOTED, *MEASURES) if all(name in each.values for each in of_system)), None)
        if quoted is None:
            continue
        score_of = {finder: float(scores[quoted]) for _system, finder, scores in of_system}
        parts = []
        for _system, finder, scores in of_system:
            if finder in baselines.values():
                continue
            against = {}
            if f"{quoted}_null" in scores:
                against["factors permuted"] = float(scores[f"{quoted}_null"])
            if (baseline := baselines.get(finder)) in score_of:
                against["matched baseline"] = score_of[baseline]
            others = ", ".join(f"{name} {format_number(score, 2)}" for name, score in against.items())
            parts.append(f"{_estimate(scores, quoted)} for {finder}{f' ({others})' if others else ''}")
        if parts:
            sentences.append(f"{system}: {MEASURES[quoted]} is {'; '.join(parts)}.")
    return sentences


def _by_system(results: Sequence[Measured]) -> dict[str, list[Measured]]:
    groups: dict[str, list[Measured]] = {}
    for each in results:
        groups.setdefault(each.system, []).append(each)
    return groups


def _decimals(found: xr.Dataset, name: str) -> int:
    """Return as many decimals as the interval of a number supports; 2 without an interval."""
    low, high = (float(found.get(f"{name}{end}", np.nan)) for end in ("_low", "_high"))
    return decimals_for((high - low) / N_SE, float(found[name])) if np.isfinite(high - low) else 2


def _estimate(found: xr.Dataset, name: str, *, sign: bool = False) -> str:
    """Return a number with its interval, if it has one."""
    decimals = _decimals(found, name)
    low, high = (float(found.get(f"{name}{end}", np.nan)) for end in ("_low", "_high"))
    interval = f" {format_interval(low, high, decimals)}" if np.isfinite(high - low) else ""
    return f"{format_number(float(found[name]), decimals, sign=sign)}{interval}"


def _percent(share: float) -> str:
    return f"{format_number(100 * share, 0)}\N{NO-BREAK SPACE}%"


def _share(found: xr.Dataset, name: str) -> str:
    """Return a share in percent, with its interval."""
    low, high = (100 * float(found[f"{name}{end}"]) for end in ("_low", "_high"))
    return f"{_percent(float(found[name]))} {format_interval(low, high, 0)}"
