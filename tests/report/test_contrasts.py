"""The tests of a report are grouped by what was tested against, and say to what they generalise."""

from neurosuper import contrast_finders, contrast_systems
from neurosuper.report import render_report


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
