"""The paragraph of methods states what the comparison knows, number by number."""

import json
import re

import numpy as np
import pytest
import xarray as xr
from markupsafe import escape

from neurosuper import contrast_finders
from neurosuper.report import make_report
from neurosuper.report.forest import finder_tests
from neurosuper.report.methods import ADJUSTED, PAPERS, count_detectable, describe_methods

SYSTEMS = ("V4 <left> & right", 'net "fire8"')  # of `comparison`

FINDERS = {
    "Units": {"finder": "Units"},
    "KMeans": {"finder": "KMeans", "n_directions": "2x", "center": True},
    "Gaussian": {"finder": "CovarianceMatched"},
}


@pytest.fixture
def made(tested):
    provenance = json.loads(tested.provenance) | {"finders": FINDERS}
    is_pca = np.isin(np.arange(80) % 40, np.arange(15, 20))
    tested = tested.assign_coords(finder=("item", np.where(is_pca, "PCA", tested.finder)))
    n_active = np.full(80, 20)
    n_active[:7] = 2
    corrected = tested.interpretability + 1
    level = 0 * tested.interpretability
    return tested.assign(
        n_active=("item", n_active),
        corrected=corrected,
        frequency_floor=level,
        corrected_difference_of_halves=tested.difference_of_halves,
        corrected_influence=tested.influence,
        chance_level=level,
        chance_level_low=level - 1,
        chance_level_high=level + 1,
    ).assign_attrs(provenance=json.dumps(provenance), n_constant=[0, 11, 0, 2, 0, 0], n_resamples=200)


def methods_of(comparison):
    return "\n".join(describe_methods(comparison, finder_tests(comparison)[0]))


def test_every_number_is_that_of_the_comparison(made):
    text = methods_of(made)
    tests = contrast_finders(made)
    hub = tests.isel(test=(tests.correction == "hub").values)
    n_found = int((hub.p_adjusted < 0.05).sum())
    assert 0 < n_found < hub.sizes["test"]
    for said in (
        'compared in V4 <left> & right (15 units) and net "fire8" (15 units), on 40 stimuli in common',
        "V4 <array> is cowley-v4, version unverified, doi 10.1/x.",
        "Units; PCA; KMeans(n_directions='2x', center=True); Gaussian: CovarianceMatched().",
        "scored on the rest (scored stimuli: 40). Random seeds: 0, 7.",
        "its top 3 stimuli",
        "2023): −LPIPS distance (AlexNet) by LPIPS-alex and −distance of mean colour by color.",
        "the mean index of all sets of 3 stimuli of a system; the range of single sets is that of 200 random ones.",
        "Of 80 items, 7 with fewer than 3 active stimuli were left out.",
        "Also left out: 13 directions with the same code",
        "single units for a difference in the mean hub-corrected index (two-sided). Each finder was also tested",
        f"from {made.sizes['draw']} random halves",
        "95 % confidence intervals",
        f"Of {hub.sizes['test']} differences in the mean hub-corrected index, {n_found} were detectable "
        "(adjusted p < 0.05).",
        "Computed with neurosuper 0.1.0 (numpy 2.0.0) on cpu.",
        PAPERS,
        ADJUSTED,
    ):
        assert said in text
        text = text.replace(said, "")
    left = set(re.findall(r"\d+(?:[.,]\d+)*", text))
    sizes = {str(n) for n in np.unique(finder_tests(made)[0].n_family)}
    assert left <= sizes | {"2023", "0", "1995"}, "a number that no one checked"


def test_units_that_were_left_out_are_counted_per_system(comparison, images, no_figures):
    text = 'Units that do not vary over the stimuli were left out: 5 of net "fire8".'
    counted = comparison.assign_attrs(n_units_left_out=[0, 5])
    assert text in methods_of(counted)
    assert escape(text) in make_report(counted, images).html.partition('id="tests"')[0]
    assert "do not vary" not in methods_of(comparison.assign_attrs(n_units_left_out=np.array([0, 0])))
    one = comparison.isel(item=slice(40)).assign_attrs(n_units_left_out=[2, 5])
    assert "left out: 7 in all systems that were compared." in methods_of(one)


@pytest.mark.parametrize("score_on", ["held-out", "all"])
def test_the_split_is_the_one_that_was_made(made, score_on):
    text = methods_of(made.assign_attrs(score_on=score_on))
    assert ("scored on the rest" in text) == (score_on == "held-out")
    assert ("on the same stimuli" in text) == (score_on == "all")


def test_what_is_not_known_is_not_said(comparison):
    for name in ("provenance", "score_on", "shared_stimuli"):
        del comparison.attrs[name]
    text = "\n".join(describe_methods(comparison, None))
    assert 'V4 <left> & right (20 units) and net "fire8" (20 units).' in text
    for absent in ("seed", "Computed with", "hub-corrected", "tested", "Benjamini", "left out", "chance", "rest"):
        assert absent not in text


def test_without_halves_the_paragraph_speaks_of_permutations_and_of_no_interval(comparison):
    text = methods_of(comparison)
    assert "permutation test over units and directions" in text
    assert "confidence interval" not in text
    assert "matched baseline" not in text


@pytest.mark.parametrize(
    ("n", "n_found", "said"),
    [
        (72, 0, "Of 72 differences in the mean index, none were detectable (p < 0.05)."),
        (72, 1, "Of 72 differences in the mean index, 1 was detectable (p < 0.05)."),
        (2, 2, "Of 2 differences in the mean index, 2 were detectable (p < 0.05)."),
        (1, 1, "The difference in the mean index was detectable (p < 0.05)."),
        (1, 0, "The difference in the mean index was not detectable (p < 0.05)."),
    ],
)
def test_the_number_of_detectable_differences_is_grammatical(n, n_found, said):
    shown = xr.Dataset({"detectable": ("test", np.arange(n) < n_found)})
    assert count_detectable(shown, "mean index", "p") == said


def test_systems_that_are_tested_by_permutation_alone_are_named(tested):
    second = (tested.system == SYSTEMS[1]).values[:, None, None]
    text = methods_of(tested.assign(difference_of_halves=tested.difference_of_halves.where(~second)))
    assert f"In {SYSTEMS[1]}, where stimuli are too few to halve, p is that of a permutation test over units" in text
    assert "too few to halve" not in methods_of(tested)


def test_an_agreement_is_not_called_a_distance(comparison):
    labelled = comparison.assign_coords(quantity=("metric", ["label agreement", "−distance of mean colour"]))
    text = methods_of(labelled)
    assert "of a similarity of two images (Klindt et al. 2023): label agreement by LPIPS-alex and −distance of" in text
    assert "minus the mean distance" not in text


def test_the_seed_of_compare_and_groups_of_stimuli_are_stated(tested):
    del tested.attrs["provenance"]
    grouped = tested.assign(n_stimulus_groups=("item", np.full(80, 8)))
    text = methods_of(grouped.assign_attrs(random_state=np.int64(5), stimulus_groups="burst"))
    assert "Random seed: 5." in text
    assert "Stimuli of one burst were never divided." in text
    assert "random halves of the stimuli (whole groups: burst)" in text


def test_the_page_has_the_paragraph_in_a_box_to_paste(made, images, read, no_figures):
    page = read(make_report(made, images).html)
    (box,) = ["".join(inside) for _, attrs, inside in page.elements if attrs.get("class") == "to-paste"]
    assert box.split("\n") == ["", *describe_methods(made, finder_tests(made)[0]), ""]
