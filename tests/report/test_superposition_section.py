"""The section on superposition: one figure per question, only if it was measured, and of the same systems."""

import itertools
import re

import numpy as np
import pytest
import xarray as xr

from neurosuper.report import make_report
from neurosuper.report.superposition_section import QUESTIONS, describe_superposition
from tests.report.conftest import SYSTEMS, Page, make_comparison, make_images, make_tree


@pytest.fixture(scope="module")
def measured() -> Page:
    """The page of a comparison and all measures."""
    lines = (
        "spectrum of IT: a power law needs <5> components",
        "synergy of IT: 1 unit",
        "synergy of IT · KMeans: 1 unit",
    )
    settings = {"metric": "LPIPS-alex", "top": 5, "baseline": "median", "random_state": 3}
    tree = make_tree()
    tree.attrs |= settings | {"left_out": "\n".join(lines)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurosuper.report.page.draw_figures", lambda _: [])
        patch.setattr("neurosuper.report.page.MAX_SYSTEMS_WITHOUT_CONTENTS", 1)
        return Page(make_report(make_comparison(), make_images(), superposition=tree).html)


def test_every_question_has_a_figure_and_says_what_it_would_be_without_superposition(measured):
    assert [text for text in measured.texts("h3") if text.endswith("?")] == [each.title for each in QUESTIONS.values()]
    without = ("Without superposition", "none has to be in superposition", "correlation is 0", "no axis is preferred")
    captions = measured.texts("figcaption")
    assert len(captions) == 6
    for words, caption in zip((*without, "Without synergy", "with permuted factors"), captions, strict=True):
        assert words in caption
    assert {"share of the variance", "MIG", "Welch bound: the least possible"} <= set(measured.texts("text"))


def test_its_figures_have_texts_for_those_who_do_not_see_them_and_ids_of_their_own(measured):
    labels = [attrs["aria-label"] for _, attrs, _ in measured.elements if attrs.get("class") == "plot-frame"]
    assert [label.partition("?")[0] + "?" for label in labels] == [each.title for each in QUESTIONS.values()]
    ids = measured.attributes("id")
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, *_ in measured.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_each_figure_has_a_sentence_per_system_and_hostile_names_are_escaped(measured):
    for start in (f"{system}: axes that are rotated by" for system in SYSTEMS):
        assert len([text for text in measured.texts("li") if text.startswith(start)]) == 1
    assert SYSTEMS[0] in [text.strip() for text in measured.texts("text")]
    assert not {"left"} & {tag for tag, *_ in measured.elements}


def test_it_follows_the_distributions_and_methods_name_what_was_measured(measured):
    sections = [attrs["id"] for tag, attrs, _ in measured.elements if tag == "section" and "id" in attrs]
    place = sections.index("superposition")
    assert sections[place - 1 : place + 2] == ["figures", "superposition", "drivers"]
    (paragraph,) = [text for text in measured.texts("p") if "Interference is the root mean square" in text]
    assert all(each.method in paragraph for each in QUESTIONS.values())


def test_without_measures_there_is_no_section(page, comparison):
    assert "superposition" not in page.attributes("id")
    assert describe_superposition(None, comparison) is None
    assert describe_superposition(xr.DataTree(), comparison) is None


def test_of_one_measure_there_is_only_its_figure(comparison):
    one = xr.DataTree.from_dict({f"rotation/{SYSTEMS[0]}": make_tree()[f"rotation/{SYSTEMS[0]}"].to_dataset()})
    found = describe_superposition(one, comparison)
    assert [answer.picture.title for answer in found.answers] == [QUESTIONS["rotation"].title]
    assert found.methods == [QUESTIONS["rotation"].method]
    assert found.left_out == []


def test_a_tree_from_its_file_gives_the_same_section(comparison, tmp_path):
    place = f"spectrum/{SYSTEMS[0]}"
    tree = xr.DataTree.from_dict({place: make_tree()[place].to_dataset()})
    tree.to_netcdf(tmp_path / "superposition.nc")
    with xr.open_datatree(tmp_path / "superposition.nc") as opened:
        assert describe_superposition(opened, comparison) == describe_superposition(tree, comparison)


def test_many_systems_get_a_link_to_the_section(measured):
    assert "#superposition" in measured.attributes("href")


def test_what_is_no_tree_and_what_is_of_other_systems_is_refused_in_one_line(comparison):
    rotation = make_tree()[f"rotation/{SYSTEMS[0]}"].to_dataset()
    wrong = {
        "superposition must be a DataTree from .* got Dataset; read one from its file with xarray": (
            TypeError,
            rotation,
        ),
        "unknown measures bending; known are interference, spectrum": (
            ValueError,
            xr.DataTree.from_dict({"bending/V4": rotation}),
        ),
        "superposition is of IT, and the comparison of .*; pass both of the same study": (
            ValueError,
            xr.DataTree.from_dict({"rotation/IT": rotation}),
        ),
    }
    for message, (error, tree) in wrong.items():
        with pytest.raises(error, match=message) as caught:
            describe_superposition(tree, comparison)
        assert "\n" not in str(caught.value)


def test_what_could_not_be_measured_is_stated_once_for_each_reason(measured):
    stated = {"spectrum of IT: a power law needs <5> components", "synergy of IT; IT · KMeans: 1 unit"}
    assert stated <= set(measured.texts("li"))


def test_the_settings_of_all_measures_are_in_the_methods(measured):
    (paragraph,) = [text for text in measured.texts("p") if text.startswith("Measures of superposition that use the")]
    assert (
        "are by LPIPS-alex with the top 5 stimuli; the baseline of sparseness is median (random seed 3)." in paragraph
    )


def test_names_with_a_slash_are_those_of_the_comparison(comparison):
    """A tree has "_" instead."""
    system = np.where(comparison.system == SYSTEMS[0], "net/layer3", comparison.system)
    renamed = comparison.assign_coords(system=("item", system))
    tree = xr.DataTree.from_dict({"rotation/net_layer3": make_tree()[f"rotation/{SYSTEMS[0]}"].to_dataset()})
    (answer,) = describe_superposition(tree, renamed).answers
    assert answer.sentences[0].startswith("net/layer3: axes")
    assert "net/layer3 (p = 0.05)" in answer.picture.svg


def test_the_matched_baseline_of_a_finder_is_that_of_the_comparison(tested):
    tree = make_tree()
    found = tree[f"interference/{SYSTEMS[0]}/KMeans"].to_dataset()
    tree = xr.DataTree.from_dict(
        {
            f"interference/{SYSTEMS[0]}/{name}": found.assign(rms=rms)
            for name, rms in {"KMeans": 0.2, "Gaussian": 0.15}.items()
        }
    )
    (answer,) = describe_superposition(tree, tested).answers
    assert answer.sentences == [
        f"{SYSTEMS[0]}: the root mean square cosine is 0.20 between 30 directions of KMeans (matched baseline 0.15, "
        "Welch bound 0.10)."
    ]
    assert np.isfinite(answer.picture.width)
