"""The sections on populations and twins: numbers as they are, what may not be claimed, and only of the same systems."""

import itertools
import re

import numpy as np
import pytest
import xarray as xr

from neurosuper.report import make_report
from neurosuper.report.population_section import describe_populations
from neurosuper.report.twin_section import SPACE_ONLY, TOO_FEW, describe_twins
from tests.plot.pair_results import make_populations, make_twins
from tests.report.conftest import SYSTEMS, Page, make_comparison, make_images

PAIR = " | ".join(SYSTEMS)
ROTATED = tuple(np.linspace(0.1, 0.2, 19))


def items_of(comparison, system, finder="Units"):
    own = (comparison.system == system) & (comparison.finder == finder)
    return comparison.direction.values[own.values].tolist()


def make_tree(comparison, **settings) -> xr.DataTree:
    """Twins of the first units of two systems, the partner of each at the same place in its list."""
    a, b = (items_of(comparison, system)[5:9] for system in SYSTEMS)
    found = make_twins(a, b, **({"rotated": ROTATED} | settings))
    found = found.assign_attrs(system_a=SYSTEMS[0], system_b=SYSTEMS[1], items="units")
    names = PAIR.replace("/", "_")
    return xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs={"left_out": "ceilings of <V4>: few"}), f"/{names}/units": found}
    )


@pytest.fixture(scope="module")
def page() -> Page:
    """The page of a comparison, populations and twins."""
    comparison = make_comparison()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurosuper.report.page.draw_figures", lambda _: [])
        patch.setattr("neurosuper.report.page.MAX_SYSTEMS_WITHOUT_CONTENTS", 1)
        report = make_report(
            comparison, make_images(), populations=make_populations(SYSTEMS), twins=make_tree(comparison)
        )
    return Page(report.html)


def test_both_follow_the_distributions_with_links_and_ids_of_their_own(page):
    sections = [attrs["id"] for tag, attrs, _ in page.elements if tag == "section" and "id" in attrs]
    place = sections.index("figures")
    assert sections[place + 1 : place + 3] == ["populations", "twins"]
    links = [attrs["href"] for tag, attrs, _ in page.elements if tag == "a" and "href" in attrs]
    assert {"#populations", "#twins"} <= set(links)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, *_ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert "ceilings of <V4>: few" in [text.strip() for text in page.texts("li")]  # escaped


def test_each_measure_has_a_figure_and_the_table_all_numbers(page):
    assert [text for text in page.texts("h3") if "?" in text] == [
        "Are products of responses similar? (CKA)",
        "Are the same stimuli far from each other? (RSA)",
        "Do single items have twins?",
    ]
    found = make_populations(SYSTEMS)
    for items, measure in itertools.product(found["items"].values, found.measure.values):
        estimate = float(found.estimate.sel(pair=PAIR, items=items, measure=measure))
        assert f"{estimate:.3f}" in page.texts("span")


def test_pairs_are_counted_by_p_and_by_intervals(comparison):
    found = make_populations([*SYSTEMS])
    found["p_adjusted"][:] = 0.01
    found["gain_low"].loc[{"items": "KMeans", "measure": "cka"}] = 0.01
    found["gain_over_matched_low"].loc[{"items": "KMeans", "measure": "cka"}] = -0.01
    first = describe_populations(found, comparison).answers[0]
    assert first.sentences == [
        "Units are more similar than chance explains in 1 of 1 pair (adjusted p < 0.05).",
        "Codes of KMeans are more similar than units in 1 of 1 pair (interval above 0), more than as many columns for "
        "which nothing was learned in 0 of 1 pair, and less than units in 0 of 1 pair.",
    ]
    back = make_populations(SYSTEMS, measures=("twins", "twins back"))
    (answer,) = describe_populations(back, comparison).answers
    assert len(answer.sentences) == 4
    assert "chance explains the other way round in" in answer.sentences[2]


def test_twins_are_those_with_the_largest_matched_r_as_two_rows_with_both_indices(comparison):
    tree = make_tree(comparison)
    found = describe_twins(tree, comparison)
    (result,) = found.pairs[PAIR]
    a, b = (items_of(comparison, system)[5:8] for system in SYSTEMS)
    assert [[item.name for item in twin.both] for twin in result.shown] == [
        list(pair) for pair in zip(a, b, strict=True)
    ]
    index = comparison.interpretability.isel(metric=0)
    for item in (item for twin in result.shown for item in twin.both):
        own = comparison.direction == item.name
        assert item.score == f"{float(index[own.values][0]):.3f}".replace("-", "−")
        assert item.labels == comparison.top_stimuli[own.values][0].values.tolist()
    assert result.shown[0].caption == "r = 0.50 [0.40, 0.60], ceiling 0.80, p = 0.010"
    assert found.labels == {label for twin in result.shown for item in twin.both for label in item.labels}


def test_what_may_not_be_claimed_is_said(comparison):
    def sentences(**settings):
        return describe_twins(make_tree(comparison, **settings), comparison).pairs[PAIR][0].sentences

    assert sentences() == [
        "The median r is 0.60; that of 19 random rotations is 0.10 to 0.20 (p = 0.050). 4 of 4 items respond as their "
        "twins do (adjusted p < 0.05). Their reliabilities allow r of 0.80 to 0.80.",
        SPACE_ONLY,
    ]
    assert len(sentences(p_rotated=0.04)) == 1
    assert sentences(rotated=(0.1,))[1:] == sentences(rotated=())[1:] == [TOO_FEW]
    tree = make_tree(comparison)
    tree[PAIR.replace("/", "_")]["units"]["partner"][:] = ""
    assert describe_twins(tree, comparison).pairs[PAIR][0].sentences == ["None of 4 items has a twin."]


def test_without_results_there_are_no_sections(comparison):
    assert describe_populations(None, comparison) is describe_twins(None, comparison) is None


def test_other_things_and_other_systems_are_refused_in_one_line(comparison):
    with pytest.raises(TypeError, match="populations must be a Dataset from .*, got dict; read one"):
        describe_populations({}, comparison)
    with pytest.raises(ValueError, match="populations lacks gain, gain_over_matched; pass what compare_populations"):
        describe_populations(make_populations(SYSTEMS).drop_vars(["gain", "gain_over_matched"]), comparison)
    with pytest.raises(ValueError, match="populations has IT, and the comparison .*; pass both of the same study"):
        describe_populations(make_populations([SYSTEMS[0], "IT"]), comparison)
    with pytest.raises(TypeError, match="twins must be a DataTree, .*, got Dataset; put results of"):
        describe_twins(xr.Dataset(), comparison)
    tree = make_tree(comparison)
    tree[PAIR.replace("/", "_")]["units"].attrs["system_b"] = "IT"
    with pytest.raises(ValueError, match="twins are of IT, and the comparison of .*; pass both of the same study"):
        describe_twins(tree, comparison)
    with pytest.raises(ValueError, match="twins has other results at /spectrum; pass what"):
        describe_twins(xr.DataTree.from_dict({"/spectrum": xr.Dataset({"alpha": 1.0})}), comparison)
