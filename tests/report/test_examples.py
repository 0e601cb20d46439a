"""The items that a report shows, and what it says of them."""

import re

import numpy as np
import pytest

from neurosuper.report import make_report
from neurosuper.report.examples import choose_examples

pytestmark = pytest.mark.usefixtures("no_figures")


def drivers(page):
    """Return the items shown, in order."""
    return [re.match(r"d\d+", text).group() for text in page.texts("th") if re.match(r"d\d+ −", text)]


def test_most_middle_and_least_interpretable_items_are_shown(page, comparison):
    shown = drivers(page)
    index = comparison.interpretability.values[20:40, 0]
    ranked = [f"d{20 + i}" for i in np.argsort(-index)]
    assert shown[9:18] == ranked[:3] + ranked[8:11] + ranked[-3:]


def test_items_without_an_index_are_never_shown(page):
    shown = drivers(page)
    assert len(shown) == 4 * 9
    assert "d3" not in shown


@pytest.mark.parametrize("n_items", [0, 2, 5, 7])
def test_few_items_are_each_shown_once(comparison, images, read, n_items):
    comparison["interpretability"][n_items:20] = np.nan
    comparison["interpretability"][:n_items] = np.linspace(-1, 0, 2 * n_items).reshape(n_items, 2)
    page = read(make_report(comparison.isel(metric=[0]), images).html)
    shown = [name for name in drivers(page) if int(name[1:]) < 20]
    assert sorted(shown) == [f"d{i}" for i in range(n_items)]


def test_top_stimuli_are_shown_in_order_and_each_is_embedded_once(page, comparison):
    most = comparison.interpretability.values[20:40, 0].argmax() + 20
    labels = [attrs["aria-label"] for tag, attrs, _ in page.elements if tag == "i"]
    assert labels[27:30] == comparison.top_stimuli.values[most].tolist()
    assert page.html.count("background-image:url(data:image/png") == len(set(labels)) < len(labels)


def test_seeds_distinguish_items_of_equal_name(comparison, images, read):
    comparison.seed[20:30] = 7
    names = read(make_report(comparison.isel(metric=[0]), images).html).texts("th")
    assert {re.search(r"\(seed .\)", name).group() for name in names if "seed" in name} == {"(seed 0)", "(seed 7)"}
    assert not any("seed" in name for name in names if name.startswith("d4"))  # of a finder with one seed


def with_reliability(comparison, **by_finder):
    values = np.select([comparison.finder == name for name in by_finder], list(by_finder.values()), np.nan)
    return comparison.assign(index_reliability=(("item", "metric"), np.stack([values, values], axis=1)))


def about(page):
    """Return what is said of the reliability of each finder, and the captions of the tables of images."""
    said = ["".join(inside) for tag, attrs, inside in page.elements if attrs.get("class") == "reliability"]
    return said, [text for text in page.texts("caption") if "interpretable" in text or "examples" in text][1:]


def test_items_whose_order_is_not_reliable_are_shown_without_a_claim(comparison, images, read):
    page = read(make_report(with_reliability(comparison, Units=0.33, KMeans=0.34), images).html)
    said, captions = about(page)
    not_reliable = "The order of items is not reliable (r = 0.33): examples, not the most or least interpretable."
    assert said == [not_reliable, "Reliability of single items: 0.34."] * 2
    ranked = ["most interpretable", "middle interpretable", "least interpretable"]
    assert captions == ["examples 1", "examples 2", "examples 3", *ranked] * 2


def test_examples_do_not_depend_on_the_index_and_have_none(comparison, images, read):
    unreliable = with_reliability(comparison, Units=-0.1, KMeans=0.2).isel(metric=[0])
    names = [f"d{i}" for i in (20, 22, 25, 27, 30, 32, 34, 37, 39)]  # 9 at equal steps
    for sign in (1, -1):
        index = sign * unreliable.interpretability
        page = read(make_report(unreliable.assign(interpretability=index), images).html)
        shown = [text for text in page.texts("th") if re.fullmatch(r"d\d+", text)]
        assert shown[9:18] == names
        assert not drivers(page)


def test_an_unknown_reliability_is_called_so(page, comparison, images, read):
    assert about(page)[0] == ["Reliability of single items: unknown."] * 4
    said, _ = about(read(make_report(with_reliability(comparison, KMeans=0.8), images).html))
    assert said == ["Reliability of single items: unknown.", "Reliability of single items: 0.80."] * 2


def test_items_are_ranked_by_the_corrected_index_and_show_both(comparison, images, read):
    both = comparison.assign(corrected=-comparison.interpretability, frequency_floor=0 * comparison.interpretability)
    chosen = choose_examples(both)[comparison.system.values[0], "KMeans"].groups
    worst = np.argsort(comparison.interpretability.values[20:40, 0])[:3] + 20
    assert chosen["most interpretable"].direction.values.tolist() == [f"d{i}" for i in worst]
    heads = [text for text in read(make_report(both, images).html).texts("th") if text.startswith(f"d{worst[0]}")]
    index = f"{-comparison.interpretability.values[worst[0], 0]:.3f}"
    assert heads == [f"d{worst[0]} {index} raw −{index}"]


def test_inactive_items_are_not_shown(comparison, images, read):
    n_active = np.full(80, 20)
    best = comparison.interpretability.values[20:40, 0].argmax() + 20
    n_active[best] = 2
    page = read(make_report(comparison.assign(n_active=("item", n_active)), images).html)
    assert f"d{best}" not in drivers(page)
    assert "Inactive items are not shown." in page.html


def test_hovering_is_mentioned_only_where_there_is_a_pointer(comparison, images, read):
    page = read(make_report(comparison, images).html)
    assert ["".join(inside) for _, attrs, inside in page.elements if attrs.get("class") == "hover"] == [
        " Hover over an image for its label."
    ]
    assert page.html.count("Hover over") == 1
    assert ".hover { display: none; }" in page.html
    assert "@media (hover: hover) { .hover { display: inline; } }" in page.html


def test_the_images_of_an_item_have_room_for_one_row(comparison, images, read):
    (style,) = (
        attrs["style"]
        for _, attrs, _ in read(make_report(comparison, images).html).elements
        if attrs.get("id") == "drivers"
    )
    assert style == f"--top: {comparison.top}"
