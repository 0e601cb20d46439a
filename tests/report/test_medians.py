"""The table of medians, and what is said about the finders in it."""

import json

import numpy as np
import pytest

from neurosuper.report import render_report


def test_the_table_shows_medians_and_marks_the_best_finder(page, comparison):
    first = comparison.isel(metric=0).to_dataframe().groupby(["system", "finder"], sort=False).interpretability
    medians = first.mean()
    cells = [text.split()[0] for text in page.texts("td") if " · n " in text]
    assert cells[::2] == [f"{median:.3f}".replace("-", "−") for median in medians]
    assert [text.split(" · n ")[1] for text in page.texts("td") if " · n " in text][::2] == ["19", "20", "20", "20"]
    best = {f"{value:.3f}".replace("-", "−") for value in medians.groupby("system").max()}
    assert best <= set(page.texts("b"))
    assert len(page.texts("b")) == 4  # two systems × two metrics


def test_raw_and_corrected_medians_stand_side_by_side(comparison, images, read):
    corrected = comparison.interpretability + 1
    both = comparison.assign(corrected=corrected, frequency_floor=0 * corrected - 0.5)
    cells = [text for text in read(render_report(both, images)).texts("td") if "corrected · floor −0.5" in text]
    plain = [text for text in read(render_report(comparison, images)).texts("td") if " to " in text]
    assert len(cells) == len(plain)
    for cell, raw in zip(cells, plain, strict=True):
        first, second = raw.split()[0], cell.removeprefix(raw).split()[0]
        assert cell.startswith(raw)
        assert float(second.replace("−", "-")) == pytest.approx(float(first.replace("−", "-")) + 1, abs=0.01)


def test_inactive_and_constant_items_are_counted_beside_their_finder(comparison, images, read):
    n_active = np.full(80, 20)
    n_active[:2], n_active[40:60] = 2, 1
    counted = comparison.assign(n_active=("item", n_active)).assign_attrs(n_constant=[0, 3, 0, 0])
    page = read(render_report(counted, images))
    rows = [text for text in page.texts("th") if text.startswith(("Units", "KMeans"))]
    assert rows == ["Units2 inactive", "KMeans3 constant", "Units20 inactive", "KMeans"]
    cells = [text.split("n ")[1] for text in page.texts("td") if "n " in text]
    assert cells == ["17", "17", "20", "20", "0", "0", "20", "20"]
    assert "Inactive: items with fewer than 3 active stimuli, which are left out" in page.html
    assert "with the same code for all stimuli to score on" in page.html
    unflagged = render_report(comparison, images)
    assert "inactive" not in unflagged.lower()
    assert "constant" not in unflagged


def test_the_table_shows_the_reliability_of_single_items_with_the_rule(comparison, images, read):
    values = np.where(comparison.finder == "KMeans", 0.456, np.nan)
    known = comparison.assign(index_reliability=(("item", "metric"), np.stack([values, -values], axis=1)))
    page = read(render_report(known, images))
    cells = [text.split("reliability ")[1] for text in page.texts("td") if "reliability" in text]
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
    page = render_report(comparison.assign_attrs(provenance=json.dumps(provenance)), images)
    assert all(text in page for text in said)
    assert unsaid not in page
