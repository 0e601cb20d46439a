"""Sentences on superposition quote the numbers of the measures, with intervals, and what to compare them with."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from neurosuper.report.superposition_section import QUESTIONS
from neurosuper.report.superposition_sentences import Measured
from tests.plot.superposition_results import make_superposition_results


@pytest.fixture
def sentence_on():
    """Return the sentence on V4 of a measure, after `change` of its results, with U+00A0 as a blank."""

    def describe(name, change=lambda values: values, baselines=None):
        of_v4 = {key: values for key, values in make_superposition_results()[name].items() if key.startswith("V4")}
        results = [Measured("V4", key.partition(" · ")[2], change(values)) for key, values in of_v4.items()]
        (sentence,) = QUESTIONS[name].describe(results, baselines or {})
        return sentence.replace("\N{NO-BREAK SPACE}", " ")

    return describe


def test_interference_without_a_matched_baseline_says_so(sentence_on):
    expected = "V4: the root mean square cosine is 0.20 between 30 directions of KMeans ({}, Welch bound 0.10)."
    assert sentence_on("interference") == expected.format("without a matched baseline")
    assert sentence_on("interference", baselines={"KMeans": "Gaussian"}) == expected.format(
        "without a matched baseline"
    )


def test_the_spectrum_has_dimensions_and_exponents_with_intervals(sentence_on):
    assert sentence_on("spectrum") == (
        "V4 (signal and noise, by PCA): the participation ratio is 12.30 [11.10, 13.50] of 40 components, and α = "
        "1.016 [0.930, 1.100] from component 3 to 30; the critical exponent is 1.50."
    )

    def without(values):
        return values.drop_vars([name for name in values if name.endswith(("_low", "_high", "critical"))])

    cross_validated = sentence_on("spectrum", lambda values: without(values).assign_attrs(method="cvpca"))
    assert cross_validated == (
        "V4 (signal, by cross-validated PCA): the participation ratio is 12.30 of 40 components, and α = 1.02 from "
        "component 3 to 30."
    )


def test_sparseness_is_correlated_by_rank_over_items_with_both_values(sentence_on):
    items = make_superposition_results()["sparseness"]["V4 · Units"]
    x, y = items.sparseness.values.copy(), items.interpretability.values
    r = stats.spearmanr(x[1:], y[1:]).statistic
    x[0] = np.nan
    sentence = sentence_on("sparseness", lambda _: items.assign(sparseness=("item", x)))
    assert f"the rank correlation with the index is {r:.2f} over 49 items of Units".replace("-", "−") in sentence
    assert f"(mean sparseness {x[1:].mean():.2f})".replace("-", "−") in sentence
    matched = sentence_on("sparseness", baselines={"KMeans": "Units"})  # as if units were the baseline
    assert "of KMeans" in matched
    assert "of Units" not in matched
    constant = sentence_on("sparseness", lambda values: values.assign(sparseness=0 * values.sparseness))
    assert "with the index is not computed over 50 items of Units" in constant
    few = sentence_on("sparseness", lambda values: values.isel(item=slice(9)))
    assert "not computed over 9 items of Units" in few


def test_rotation_quotes_the_largest_amount(sentence_on):
    curve = make_superposition_results()["rotation"]["V4"]
    mean = float(curve.mean_difference[-1])
    numbers = [f"{value:+.4f}".replace("-", "−") for value in (mean, mean - 0.01, mean + 0.01)]
    expected = f"{numbers[0]} [{numbers[1]}, {numbers[2]}] (p = 0.050, one-sided, from 19 rotations)."
    assert sentence_on("rotation").endswith(f"of the units by {expected}")
    with_units = sentence_on("rotation", lambda values: values.assign_attrs(n_units=1256))
    assert with_units.startswith("V4: axes of 1,256 units that are rotated by an amount of 1 have a mean index")


def test_synergy_quotes_shuffled_pairs_and_the_best_ones_on_other_stimuli(sentence_on):
    shares = "V4: 31 % [28, 34] of 300 pairs are above 0, and 30 % of shuffled pairs"
    best = "the best 5 % have +0.0600 where they were found, and −0.0200 [−0.0300, −0.0100] on other stimuli."
    assert sentence_on("synergy") == f"{shares}; {best}"
    on_all = sentence_on("synergy", lambda pairs: pairs.drop_vars([name for name in pairs if "of_best" in name]))
    assert on_all == f"{shares}."


def test_disentanglement_quotes_permuted_factors(sentence_on):
    one = "0.300 [0.200, 0.400] for {} (factors permuted 0.10)"
    assert sentence_on("disentanglement") == f"V4: InfoM is {one.format('Units')}; {one.format('KMeans')}."
    matched = sentence_on("disentanglement", baselines={"KMeans": "Units"})  # as if units were the baseline
    assert matched == "V4: InfoM is 0.300 [0.200, 0.400] for KMeans (factors permuted 0.10, matched baseline 0.30)."
    only_mig = sentence_on("disentanglement", lambda _: xr.Dataset({"mig": 0.25}))
    assert only_mig == "V4: MIG is 0.25 for Units; 0.25 for KMeans."
