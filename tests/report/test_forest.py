"""The tests of a report: a forest plot whose rows say what the tests say, with sentences for a paper, folded."""

import re
import warnings

import numpy as np
import pytest

from neurosuper import contrast_finders, contrast_systems
from neurosuper.report import forest, make_report
from neurosuper.report.forest import BASELINE

pytestmark = pytest.mark.usefixtures("no_figures")


def sentences_of(section):
    """Return the sentences to quote of a section of tests, in order."""
    return section.texts("li")


def sections(html):
    """Return the HTML of each section of tests, by id."""
    parts = re.split(r'(?=<section id=")', html)
    return {name: part for part in parts if (name := part.partition('id="')[2].partition('"')[0]).endswith("tests")}


def rows_of(page):
    """Return each row of the forest plots: (panel, group, name, numbers, p, whether bold, circle, line of interval)."""
    rows, panel, group, zero = [], "", "", None
    for tag, attrs, inside in page.elements:
        text = "".join(inside)
        if tag == "caption":
            panel = text
        elif tag == "th" and attrs.get("scope") == "rowgroup":
            group = text
        elif tag == "th" and attrs.get("scope") == "row":
            rows.append({"panel": panel, "group": group, "name": text, "bold": False, "line": None})
        elif tag == "line" and attrs.get("class") == "zero":
            zero = float(attrs["x1"].rstrip("%"))
        elif tag == "line" and attrs.get("class") == "interval":
            rows[-1]["line"] = [float(attrs[x].rstrip("%")) for x in ("x1", "x2")]
        elif tag == "circle":
            rows[-1] |= {"at": float(attrs["cx"].rstrip("%")), "zero": zero, "circle": attrs["class"]}
        elif tag in ("b", "span") and rows and "numbers" not in rows[-1] and re.match("[+−]", text):
            rows[-1] |= {"numbers": text, "bold": tag == "b"}
        elif tag == "small" and text.startswith("p "):
            rows[-1]["p"] = text
    return rows


def test_finders_are_tested_against_single_units_in_sentences(page, comparison, images, read):
    tests = contrast_finders(comparison)
    own = read(sections(page.html)["tests"])
    assert sentences_of(own) == [tests.sentence.values[i] for i in (0, 2, 1, 3)]  # by metric
    assert own.texts("summary") == [f"Sentences for a paper, by {name} (2)" for name in comparison.metric.values] + [
        "How these tests were made"
    ]
    only_units = comparison.isel(item=(comparison.finder == "Units").values)
    assert "tests" not in sections(make_report(only_units, images).html)


def test_systems_are_tested_against_the_first_in_sentences(page, comparison, images, read):
    tests = contrast_systems(comparison)
    own = read(sections(page.html)["system-tests"])
    assert own.texts("caption") == ["Against V4 <left> & right"] * 2
    assert sentences_of(own) == [
        s for metric in comparison.metric.values for s in tests.sentence.values[tests.metric == metric]
    ]
    assert "between systems only if they share images: 40 stimuli in common." in own.texts("p")[0]
    one = make_report(comparison.isel(item=(comparison.system == comparison.system[0]).values), images)
    assert list(sections(one.html)) == ["tests"]


def test_every_test_has_a_row_that_is_bold_and_filled_exactly_where_it_is_detectable(tested, images, read):
    tests = contrast_finders(tested)
    shown = rows_of(read(sections(make_report(tested, images).html)["tests"]))
    kinds = {"Units": "Against single units", "Gaussian": "Against the matched baseline"}
    order = [(metric, against) for metric in tested.metric.values for against in ("Units", "Gaussian")]  # a table each
    expected = [
        tests.isel(test=i)
        for metric, against in order
        for i in np.flatnonzero((tests.metric == metric) & (tests.against == against))
    ]
    assert len(shown) == len(expected) == tests.sizes["test"]
    for row, test in zip(shown, expected, strict=True):
        assert (row["panel"], row["group"], row["name"]) == (kinds[test.against.item()], test.system, test.finder)
        detectable = bool(test.p_adjusted < 0.05)
        assert row["bold"] == detectable
        assert row["circle"] == ("found" if detectable else "hollow")
        numbers = [float(n.replace("−", "-")) for n in re.findall(r"[+−]?[\d.]+", row["numbers"])]
        width = float(test.difference_high - test.difference_low)
        truth = [float(test[f"difference{end}"]) for end in ("", "_low", "_high")]
        np.testing.assert_allclose(numbers, truth, atol=width / 30)  # rounded to two digits of the standard error
        p = float(test.p_adjusted)
        assert row["p"] == ("p < 0.001" if p < 0.001 else f"p = {p:#.2g}")
    assert {row["bold"] for row in shown} == {True, False}


def test_bars_are_drawn_to_the_scale_of_their_axis(tested, images, read):
    """Zero, the difference and the ends of the interval are on one straight line from numbers to places."""
    own = read(sections(make_report(tested, images).html)["tests"])
    tests = contrast_finders(tested)
    ticks = [(attrs["x"], "".join(inside)) for tag, attrs, inside in own.elements if tag == "text"]
    places, values = np.array([[float(x.rstrip("%")), float(text.replace("−", "-"))] for x, text in ticks[:3]]).T
    slope, intercept = np.polyfit(values, places, 1)
    first = tests.isel(test=((tests.metric == "LPIPS-alex") & (tests.against == "Units")).values)
    for row, i in zip(rows_of(own), range(first.sizes["test"]), strict=False):
        low, at, high = (float(first[f"difference{end}"][i]) for end in ("_low", "", "_high"))
        np.testing.assert_allclose(
            [row["zero"], *row["line"], row["at"]], intercept + slope * np.array([0, low, high, at]), atol=0.1
        )


def test_tests_that_were_made_before_are_used(tested, images, read, monkeypatch):
    monkeypatch.setattr(forest, "contrast_finders", lambda _: pytest.fail("tested again"))
    tests = contrast_finders(tested, against="Gaussian")
    own = read(sections(make_report(tested, images, tests=tests).html)["tests"])
    assert sorted(sentences_of(own)) == sorted(tests.sentence.values.tolist())


def test_tests_against_the_matched_baseline_say_what_that_is(tested, images):
    assert BASELINE in make_report(tested, images).html
    assert BASELINE not in make_report(tested.drop_vars("baseline"), images).html


def test_warnings_of_tests_are_on_the_page(comparison, images, monkeypatch):
    def cautious(table, **settings):
        warnings.warn("only 30 stimuli, fewer than 8 * top", stacklevel=2)
        return contrast_finders(table, **settings)

    monkeypatch.setattr(forest, "contrast_finders", cautious)
    assert make_report(comparison, images).html.count("only 30 stimuli, fewer than 8 * top.") == 1


def test_the_page_says_how_the_variance_over_stimuli_was_estimated(comparison, images, read):
    """Without halves, items are treated as independent; with them of one finder only, where there is no interval."""
    none = make_report(comparison, images).html
    assert "Items are treated as independent" in none
    assert "random half-splits" not in none
    rng = np.random.default_rng(0)
    halves = (("item", "metric", "draw"), rng.normal(0, 0.01, (80, 2, 500)))
    influence = (("item", "metric", "rank"), rng.normal(0, 0.01, (80, 2, 3)))
    on_halves = comparison.assign(difference_of_halves=halves, influence=influence)
    on_halves = on_halves.assign(n_stimulus_groups=("item", np.full(80, 8))).assign_attrs(stimulus_groups="burst")
    page = make_report(on_halves, images).html
    assert "for other stimuli (whole groups: burst) and other units" in page
    assert "Stimuli of one burst are dependent: its groups (scored on: 8) are never divided" in page
    assert "independent" not in page
    on_halves.difference_of_halves[40:60] = np.nan
    in_part = read(make_report(on_halves, images).html)
    (of_finders,) = [text for text in in_part.texts("p") if text.startswith('Rows without an interval (net "fire8") ')]
    assert "p may be too small" in of_finders
    assert [text for text in in_part.texts("p") if text.startswith('Rows without an interval (net "fire8" · Units) ')]


def test_a_test_of_the_corrected_index_stands_for_both(comparison, images, read):
    """One pair has no corrected index: its test is of the index itself."""
    corrected = comparison.interpretability + 1
    corrected[60:] = np.nan
    both = comparison.assign(corrected=corrected, frequency_floor=0 * corrected - 0.5)
    tests = contrast_finders(both)
    own = read(sections(make_report(both, images).html)["tests"])
    assert tests.correction.values.tolist() == ["none", "hub", "none", "hub", "none", "none"]
    assert sentences_of(own)[:2] == tests.sentence.values[[1, 4]].tolist()
    assert "Not corrected: difference" in sentences_of(own)[0]


def test_a_family_of_one_test_is_not_called_adjusted(tested, comparison, images, read):
    parts = sections(make_report(comparison, images).html)  # one finder next to units, and two systems
    for name in ("tests", "system-tests"):
        part = read(parts[name])
        assert part.texts("th")[2] == "p"
        assert "p is not adjusted: each family of tests (" in part.html
        assert "detectable, p below 0.05" in part.html
        assert "adjusted p" not in part.html
    finder = np.where(np.arange(80) % 40 < 5, "PCA", tested.finder)
    several = sections(make_report(tested.assign_coords(finder=("item", finder)), images).html)["tests"]
    assert read(several).texts("th")[2] == "adjusted p"
    assert "of tests: the finders, or the matched baselines, with the same system, metric" in several
    assert "; 1 to 2 tests each, 16 in all." in several
    assert "one may exclude 0 without being detectable" in several


def test_an_error_in_a_test_is_not_taken_for_nothing_to_test(monkeypatch, comparison, images):
    def fail(_):
        raise ValueError("damaged")

    monkeypatch.setattr(forest, "contrast_finders", fail)
    with pytest.raises(ValueError, match="damaged"):
        make_report(comparison, images)
