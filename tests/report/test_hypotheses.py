"""The report separates what was stated before scores existed from all else that was tried."""

import json
import re
from html import unescape

import numpy as np
import pytest

from neurosuper.comparison import contrast_hypotheses
from neurosuper.report import make_report

pytestmark = pytest.mark.usefixtures("no_figures")

TRIED = {"n_runs": 3, "n_settings": 2, "n_tests": 1}


@pytest.fixture
def stated(comparison):
    finders = list(dict.fromkeys(comparison.finder.values.tolist()))
    names = {"system": comparison.system.values[0], "finder": finders[1], "against": finders[0]}
    names |= {"metric": comparison.metric.values[0], "correction": "none", "alternative": "greater"}
    return names | {"time": "2026-01-02T03:04:05+00:00", "before_scores": True}


def section(read, comparison, images, hypotheses):
    """Return the paragraphs and sentences of the section, in order."""
    registry = json.dumps(TRIED | {"hypotheses": hypotheses})
    page = read(make_report(comparison.assign_attrs(registry=registry), images).html).html
    inner = re.search(r'<section id="hypotheses">(.*?)</section>', page, re.DOTALL)[1]
    return [unescape(text) for text in re.findall(r"<(?:p|li)>(.*?)</(?:p|li)>", inner)]


def test_hypotheses_stated_before_scores_are_tested_in_a_section_of_their_own(comparison, images, read, stated):
    heading, sentence, tally = section(read, comparison, images, [stated])
    assert heading.startswith("Written to the registry before this folder had scores (2026-01-02 03:04 UTC).")
    assert sentence == contrast_hypotheses(comparison, [stated]).sentence.item()
    assert tally.startswith("Tried in this folder: 3 runs with scores, 2 combinations of settings and data, 1 contrast")


def test_a_hypothesis_that_cannot_be_tested_is_stated_as_such(comparison, images, read, stated):
    first = (comparison.system == stated["system"]) & (comparison.finder == stated["finder"])
    lone = comparison.isel(item=~first.values | (np.cumsum(first.values) == 1))
    _, sentence, _ = section(read, lone, images, [stated])
    assert "not tested, as" in sentence


def test_those_stated_later_are_called_exploratory(comparison, images, read, stated):
    heading, _, tally = section(read, comparison, images, [stated | {"before_scores": False}])
    assert "and therefore exploratory" in heading
    assert tally.startswith("No hypothesis was stated before scores existed")


def test_without_hypotheses_every_contrast_is_called_exploratory(comparison, images, read):
    (tally,) = section(read, comparison, images, [])
    assert "every contrast in this report is exploratory" in tally


def test_contrasts_of_raw_and_corrected_index_are_said_to_be_both_counted(comparison, images, read, stated):
    both = comparison.assign(corrected=comparison.interpretability + 1, frequency_floor=0 * comparison.interpretability)
    assert (
        "1 contrast of finders and of systems, of the raw and of the corrected index, in all"
        in (section(read, both, images, [stated])[-1])
    )
    assert "corrected index" not in section(read, comparison, images, [stated])[-1]


def test_of_a_part_of_a_study_other_hypotheses_are_listed_as_not_in_it(comparison, images, read, stated):
    """Also if none is in it; p of the others is then not that of the whole study, and it says so."""
    other = stated | {"system": comparison.system.values[-1], "correction": "none"}
    part = comparison.isel(item=(comparison.system == stated["system"]).values)
    heading, tested, listed, _ = section(read, part, images, [other, stated])
    assert "p is adjusted over the hypotheses in this part alone: quote the report of the whole study" in heading
    assert tested == contrast_hypotheses(part, [stated]).sentence.item()
    assert listed == 'net "fire8": KMeans above Units by LPIPS-alex, not corrected: not in this part of the study.'
    heading, listed, _ = section(read, part, images, [other])
    assert "in this part alone" not in heading
    assert listed.endswith("not in this part of the study.")
