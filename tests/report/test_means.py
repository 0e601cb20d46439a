"""The table of means, and what is said about the finders in it."""

import json
import re

import numpy as np
import pytest

import neurosuper as ns
from neurosuper import contrast_finders
from neurosuper.report import make_report

pytestmark = pytest.mark.usefixtures("no_figures")


def cells_of(page):
    """Return the cells of the table of means, in rows of its metrics."""
    return [
        text
        for tag, attrs, inside in page.elements
        if tag == "td" and "data-metric" in attrs
        for text in ["".join(inside)]
    ]


def number(text):
    return float(text.replace("−", "-"))


def test_the_table_shows_means_with_their_intervals(tested, images, read):
    items = tested.interpretability.to_dataframe().groupby(["system", "finder", "metric"], sort=False).interpretability
    table = ns.summarize(tested)
    cells = cells_of(read(make_report(tested, images).html))
    assert len(cells) == len(items) == 12
    for cell, (key, values) in zip(cells, items, strict=True):
        mean, low, high = (number(text) for text in re.findall(r"[−\d.]+", cell)[:3])
        row = table.loc[key]
        assert mean == pytest.approx(values.mean(), abs=row.standard_error / 10)  # to two digits of the standard error
        assert (low, high) == pytest.approx((row.mean_low, row.mean_high), abs=row.standard_error / 10)
        assert f"n {values.count()}" in cell


def test_without_an_interval_there_is_only_the_mean(page):
    assert [cell for cell in cells_of(page) if "[" in cell] == []
    assert [re.match(r"−[\d.]+ n \d+$", cell) is not None for cell in cells_of(page)] == [True] * 8


def bold_of(page):
    """Return the system, finder and metric of each mean in bold: the rows of the table in the order of `summarize`."""
    rows = page.html.split('<table class="summary">')[1].split("</table>")[0].split("<tr>")[2:]
    return [["<b>" in cell for cell in row.split("<td")[1:]] for row in rows]


def test_bold_is_what_scored_detectably_above_units_and_its_matched_baseline(tested, images, read):
    """K-means of the first system does by both metrics, once its baseline is lower; of the second it does not."""
    tested.interpretability[30:40] -= [0.2, 20.0]
    tests = contrast_finders(tested)
    above = ((tests.difference > 0) & (tests.p_adjusted < 0.05)).to_dataframe("above").reset_index()
    both = above.groupby(["system", "finder", "metric"])["above"].agg(["all", "size"])
    expected = {key for key, row in both.iterrows() if row["all"] and row["size"] == 2}
    assert {(system, finder) for system, finder, _ in expected} == {(tested.system.values[0], "KMeans")}
    page = read(make_report(tested, images).html)
    pairs = list(dict.fromkeys(key[:2] for key in ns.summarize(tested).index))
    assert bold_of(page) == [[(*pair, m) in expected for m in tested.metric.values] for pair in pairs]
    assert "Bold: detectably above both single units and the matched baseline" in page.html
    assert "Here, none is." not in page.html


def test_a_baseline_that_is_detectably_above_units_is_never_bold(tested, images, read):
    tests = contrast_finders(tested)
    of_baseline = ((tests.finder == "Gaussian") & (tests.system == tested.system[0])).values
    assert of_baseline.sum() == 2
    assert tests.detectable.values[of_baseline].all()
    page = read(make_report(tested, images).html)
    assert bold_of(page) == [[False, False]] * 6
    assert (
        "Bold: detectably above both single units and the matched baseline of the finder. Here, none is." in page.html
    )


@pytest.mark.parametrize("against", ["Gaussian", "Units"])
def test_without_tests_against_both_nothing_is_bold_and_it_says_why(tested, images, read, against):
    tests = contrast_finders(tested, against=against)
    assert tests.detectable.any()
    page = read(make_report(tested, images, tests=tests).html)
    assert not np.any(bold_of(page))
    assert "Nothing is bold, because no finder was tested against both single units and a matched baseline" in page.html


def with_correction(tested):
    """Return a comparison whose corrected index is 1 higher, and whose chance levels are known."""
    level = 0 * tested.interpretability - 0.7
    return tested.assign(
        corrected=tested.interpretability + 1,
        corrected_difference_of_halves=tested.difference_of_halves,
        corrected_influence=tested.influence,
        frequency_floor=level + 0.2,
        chance_level=level,
        chance_level_low=level - 0.1,
        chance_level_high=level + 0.2,
        chance_level_sd=0 * level + 0.08,
        corrected_chance_sd=0 * level + 0.05,
    )


def test_raw_and_corrected_means_stand_side_by_side(tested, images, read):
    cells = cells_of(read(make_report(with_correction(tested), images).html))
    plain = cells_of(read(make_report(tested, images).html))
    both = [cell for cell in cells if "single sets" not in cell]
    for cell, raw in zip(both, plain, strict=True):
        mean, interval = re.match(r"(\S+) (\[.*?\])", raw).groups()
        assert f"raw {mean} {interval}" in cell
        assert "floor −0.5" in cell
        assert number(cell.split()[0]) == pytest.approx(number(mean) + 1, abs=0.011)


def test_chance_of_single_sets_is_beside_that_of_the_mean(tested, images, read):
    both = with_correction(tested)
    cells, table = cells_of(read(make_report(both, images).html)), ns.summarize(both)
    single = [cell for cell in cells if "single sets" in cell]
    assert single == ["−0.700; single sets −0.800 to −0.500"] * 4
    of_means = [cell for cell in cells if "single sets" not in cell]
    for cell, (_, row) in zip(of_means, table.iterrows(), strict=True):
        of_corrected, raw = re.findall(r"chance (\S+) to (\S+)", cell)
        for (low, high), suffix in ((of_corrected, "_corrected"), (raw, "")):
            expected = row[f"chance_of_mean{suffix}_low"], row[f"chance_of_mean{suffix}_high"]
            error = row[f"standard_error{suffix}"]
            assert (number(low), number(high)) == pytest.approx(expected, abs=error / 10)


def test_inactive_and_constant_items_are_counted_beside_their_finder(comparison, images, read):
    n_active = np.full(80, 20)
    n_active[:2], n_active[40:60] = 2, 1
    counted = comparison.assign(n_active=("item", n_active)).assign_attrs(n_constant=[0, 3, 0, 0])
    page = read(make_report(counted, images).html)
    rows = [text for text in page.texts("th") if text.startswith(("Units", "KMeans"))]
    assert rows[-4:] == ["Units2 inactive", "KMeans3 constant", "Units20 inactive", "KMeans"]
    assert [re.search(r"n (\d+)", text)[1] for text in cells_of(page)] == ["17", "17", "20", "20", "0", "0", "20", "20"]
    assert "Inactive: items with fewer than 3 active stimuli, which are left out" in page.html
    assert "with the same code for all stimuli to score on" in page.html
    unflagged = make_report(comparison, images).html
    assert "inactive" not in unflagged.lower()
    assert "constant" not in unflagged


def test_the_table_shows_the_reliability_of_single_items_with_the_rule(comparison, images, read):
    values = np.where(comparison.finder == "KMeans", 0.456, np.nan)
    known = comparison.assign(index_reliability=(("item", "metric"), np.stack([values, -values], axis=1)))
    page = read(make_report(known, images).html)
    cells = [text.split("reliability ")[1] for text in cells_of(page) if "reliability" in text]
    assert cells == ["unknown", "unknown", "0.46", "−0.46"] * 2
    assert "2r/(1 + r), is below 0.5, the order of items says more about the stimuli shown than" in page.html


PAPER, CENTERED = {"finder": "KMeans", "n_directions": 4}, {"finder": "KMeans", "center": True}


@pytest.mark.parametrize(
    ("finders", "said", "unsaid"),
    [
        ({"A": PAPER, "B": CENTERED}, ("A: K-means as in", "B: K-means with center=True, whose"), "report both"),
        (
            {"A": PAPER},
            ("A: K-means as in", "KMeans(center=True), which is not in this comparison"),
            "whose directions",
        ),
        ({"B": CENTERED}, ("B: K-means with center=True, whose",), "as in the paper, which"),
        ({"P": {"finder": "PCA", "center": False}}, (), ": K-means"),
        (None, (), ": K-means"),
    ],
)
def test_k_means_with_and_without_the_mean_response_are_explained(comparison, images, finders, said, unsaid):
    provenance = json.loads(comparison.provenance) | ({"finders": finders} if finders else {})
    page = make_report(comparison.assign_attrs(provenance=json.dumps(provenance)), images).html
    assert all(text in page for text in said)
    assert unsaid not in page
