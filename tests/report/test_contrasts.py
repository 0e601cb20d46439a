"""The tests of a report are grouped by what was tested against, and say to what they generalise."""

import warnings

import numpy as np
import pytest

from neurosuper import contrast_finders, contrast_systems
from neurosuper.report import contrasts, render_report
from neurosuper.report.contrasts import BASELINE


def sentences_of(page):
    """Return the sentences of tests, in order."""
    return [text for text in page.texts("li") if "permutation test" in text]


def test_finders_are_tested_against_single_units_in_sentences(page, comparison, images, read):
    assert "Tests against single units" in page.texts("h2")
    assert sentences_of(page)[:2] == contrast_finders(comparison).sel(test=[0, 2]).sentence.values.tolist()
    only_units = read(render_report(comparison.isel(item=(comparison.finder == "Units").values), images))
    assert "Tests against single units" not in only_units.html


def test_systems_are_tested_against_the_first_in_sentences(page, comparison, images, read):
    assert "Tests against V4 <left> & right" in page.texts("h2")
    assert sentences_of(page)[2:] == contrast_systems(comparison).sel(test=[0, 1]).sentence.values.tolist()
    assert "between systems only if they share images: 40 stimuli in common." in page.html
    one = read(render_report(comparison.isel(item=(comparison.system == comparison.system[0]).values), images))
    assert len(sentences_of(one)) == 1
    assert "Tests against V4" not in one.html


def test_tests_are_grouped_by_what_was_tested_against(comparison, images, read):
    matched = comparison.assign_coords(finder=("item", np.repeat(["Units", "KMeans", "Gaussian", "PCA"], 20)))
    matched = matched.assign_coords(system=("item", ["V4"] * 80))
    baseline = np.where(matched.finder.isin(["KMeans", "PCA"]), "Gaussian", "")
    matched = matched.assign_coords(baseline=("item", baseline))
    html = render_report(matched, images)
    units, against_baseline = html.index('id="tests"'), html.index('id="baseline-tests"')
    parts = [
        read(html[units - 9 : against_baseline - 9]),
        read(html[against_baseline - 9 : html.index('id="figures"') - 9]),
    ]
    by_first = contrast_finders(matched)
    by_first = by_first.isel(test=(by_first.metric == "LPIPS-alex").values)
    for page, against, heading in zip(
        parts, ["Units", "Gaussian"], ["single units", "the matched baseline"], strict=True
    ):
        expected = by_first.isel(test=(by_first.against == against).values)
        assert sentences_of(page) == expected.sentence.values.tolist()
        assert page.texts("h2") == [f"Tests against {heading}"]
    assert parts[1].texts("p")[:1] == [BASELINE]
    assert "p of the 10 tests of all metrics is adjusted within 4 families" in parts[0].html
    assert "p is adjusted within families of its own" in parts[1].html
    alone = read(render_report(matched.isel(item=(matched.finder != "Units").values), images))
    assert "Tests against single units" not in alone.texts("h2")
    assert "p of the 4 tests of all metrics is adjusted within 2 families" in alone.html


def test_warnings_of_tests_are_on_the_page(comparison, images, monkeypatch):
    def cautious(table, **settings):
        warnings.warn("only 30 stimuli, fewer than 8 * top", stacklevel=2)
        return contrast_finders(table, **settings)

    monkeypatch.setattr("neurosuper.report.contrasts.contrast_finders", cautious)
    assert render_report(comparison, images).count("only 30 stimuli, fewer than 8 * top.") == 1


def test_the_page_says_how_the_variance_over_stimuli_was_estimated(comparison, images):
    """Without halves, items are treated as independent; with them of one finder only, where there is no interval."""
    none = render_report(comparison, images)
    assert "Items are treated as independent" in none
    assert "random half-splits" not in none
    rng = np.random.default_rng(0)
    halves = (("item", "metric", "draw"), rng.normal(0, 0.01, (80, 2, 500)))
    influence = (("item", "metric", "rank"), rng.normal(0, 0.01, (80, 2, 3)))
    on_halves = comparison.assign(difference_of_halves=halves, influence=influence).assign_attrs(n_stimuli=40)
    on_halves = on_halves.assign_attrs(stimulus_groups="burst", n_stimulus_groups=8)
    page = render_report(on_halves, images)
    assert "for other stimuli (whole groups: burst) and other units" in page
    assert "Stimuli of one burst are dependent: its 8 groups are never divided" in page
    assert "independent" not in page
    on_halves.difference_of_halves[40:60] = np.nan
    assert "Where no interval is given, items are treated as independent" in render_report(on_halves, images)


def test_a_test_of_the_corrected_index_stands_for_both(comparison, images, read):
    """One pair has no corrected index: its test is of the index itself."""
    corrected = comparison.interpretability + 1
    corrected[60:] = np.nan
    both = comparison.assign(corrected=corrected, frequency_floor=0 * corrected - 0.5)
    tests = contrast_finders(both)
    shown = sentences_of(read(render_report(both, images)))[:2]
    assert tests.correction.values.tolist() == ["none", "hub", "none", "hub", "none", "none"]
    assert shown == tests.sentence.values[[1, 4]].tolist()
    assert "Not corrected: difference" in shown[0]


def test_an_error_in_a_test_is_not_taken_for_nothing_to_test(monkeypatch, comparison):
    def fail(_):
        raise ValueError("damaged")

    monkeypatch.setattr(contrasts, "contrast_finders", fail)
    with pytest.raises(ValueError, match="damaged"):
        contrasts.sections_of_tests(comparison)
