"""Hypotheses are written down before scores exist, and what was tried in a folder is counted."""

import json

import pytest

from neurosuper import run_study
from neurosuper.study import read_study
from neurosuper.study.file import Hypothesis
from tests.study.minimal import MINIMAL_STUDY

STATED = """
[[hypotheses]]
system = "brain"
finder = "KMeans"
metric = "Color"
"""


@pytest.fixture
def small_study(study):
    """The study of a recording alone, with K-means."""
    study.write_text(MINIMAL_STUDY.replace("finders.Units = {}", "finders.Units = {}\nfinders.KMeans.n_directions = 3"))
    return study


def state(study, text=STATED):
    study.write_text(study.read_text() + text)


def registry(study):
    return json.loads((study.parent / "study_output" / "registry.json").read_text())


def test_hypotheses_are_in_the_registry_before_scores_exist(small_study, monkeypatch):
    state(small_study)

    def fails(*_):
        assert [event["event"] for event in registry(small_study)] == ["hypotheses"]
        raise ValueError("no scores")

    with monkeypatch.context() as patched:
        patched.setattr("neurosuper.study.run._score", fails)
        with pytest.raises(ValueError, match="no scores"):
            run_study(small_study)
    (stated,) = registry(small_study)[0]["hypotheses"]
    assert (stated["finder"], stated["top"], stated["alternative"]) == ("KMeans", 5, "greater")
    found = json.loads(run_study(small_study).registry)
    assert [event["event"] for event in registry(small_study)] == ["hypotheses", "scores"]
    assert found["hypotheses"] == [stated | {"time": registry(small_study)[0]["time"], "before_scores": True}]


def test_a_hypothesis_added_after_scores_exist_is_marked(small_study):
    run_study(small_study)
    state(small_study)
    assert not json.loads(run_study(small_study).registry)["hypotheses"][0]["before_scores"]
    assert not json.loads(run_study(small_study).registry)["hypotheses"][0]["before_scores"]


def test_scores_of_a_folder_without_a_registry_came_before(small_study):
    run_study(small_study)
    (small_study.parent / "study_output" / "registry.json").unlink()
    state(small_study)
    assert not json.loads(run_study(small_study).registry)["hypotheses"][0]["before_scores"]


@pytest.mark.parametrize("change", [("n_directions = 3", "n_directions = 2"), ("title", "top = 3\ntitle")])
def test_after_a_change_of_settings_a_hypothesis_is_another(small_study, change):
    state(small_study)
    assert json.loads(run_study(small_study).registry)["hypotheses"][0]["before_scores"]
    small_study.write_text(small_study.read_text().replace(*change))
    assert not json.loads(run_study(small_study).registry)["hypotheses"][0]["before_scores"]


def test_a_title_changes_no_hypothesis(small_study):
    state(small_study)
    run_study(small_study)
    small_study.write_text(small_study.read_text().replace("A small study", "Another title"))
    assert json.loads(run_study(small_study).registry)["hypotheses"][0]["before_scores"]


def test_everything_that_was_tried_is_counted(small_study):
    """Two finders against units, and one against its baseline; each raw and corrected."""
    first = json.loads(run_study(small_study).registry)
    assert (first["n_runs"], first["n_settings"], first["n_tests"]) == (1, 1, 6)
    again = json.loads(run_study(small_study).registry)
    assert (again["n_runs"], again["n_settings"], again["n_tests"]) == (2, 1, 6)
    small_study.write_text(small_study.read_text().replace("metrics.Color", "metrics.Pixel = {}\nmetrics.Color"))
    other = json.loads(run_study(small_study).registry)
    assert (other["n_runs"], other["n_settings"], other["n_tests"]) == (3, 2, 6 + 12)


def test_hypotheses_that_are_not_among_the_contrasts_are_counted_too(small_study):
    state(
        small_study, STATED + 'against = "CovarianceMatched"' + STATED.replace("KMeans", "Units") + 'against = "KMeans"'
    )
    found = json.loads(run_study(small_study).registry)
    assert found["n_tests"] == 6 + 1
    assert [stated["against"] for stated in found["hypotheses"]] == ["CovarianceMatched", "KMeans"]
    page = (small_study.parent / "study_output" / "report.html").read_text()
    assert "brain: KMeans above CovarianceMatched by Color, hub-corrected:" in page


def test_an_edited_registry_is_refused(small_study):
    run_study(small_study)
    path = small_study.parent / "study_output" / "registry.json"
    for text in (path.read_text().replace('"n_tests": 6', '"n_tests": 0'), "[{}]", "{", "3"):
        path.write_text(text)
        with pytest.raises(ValueError, match="registry.json was edited or is damaged"):
            run_study(small_study)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("KMeans", "PCA", "a hypothesis has the finder 'PCA'; the study has Units, KMeans"),
        ("Color", "LPIPS", "a hypothesis has the metric 'LPIPS'; the study has Color"),
        ("KMeans", "Units", "a hypothesis tests 'Units' against itself"),
    ],
)
def test_names_that_the_study_does_not_have_are_refused_when_it_is_read(small_study, old, new, message):
    state(small_study, STATED.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_study(small_study)


def test_a_baseline_that_the_study_does_not_have_is_refused_before_the_first_fit(small_study):
    state(small_study, STATED + 'against = "CovarianceMatched (center)"')
    with pytest.raises(
        ValueError, match=r"the against 'CovarianceMatched \(center\)'; the study has Units, KMeans, Cov"
    ):
        run_study(small_study)
    small_study.write_text(small_study.read_text().replace("title", "baselines = false\ntitle"))
    with pytest.raises(ValueError, match=r"the against 'CovarianceMatched \(center\)'; the study has Units, KMeans$"):
        read_study(small_study)


def test_other_mistakes_are_refused(small_study):
    state(small_study, STATED + STATED)
    with pytest.raises(ValueError, match="a hypothesis is stated twice"):
        read_study(small_study)
    small_study.write_text(small_study.read_text().replace(STATED + STATED, STATED.replace('"brain"', '"V1"')))
    with pytest.raises(ValueError, match="a hypothesis has the system 'V1'; the study has brain"):
        run_study(small_study)
    assert not (small_study.parent / "study_output" / "registry.json").exists()
    with pytest.raises(ValueError, match="alternative"):
        Hypothesis(system="brain", finder="KMeans", metric="Color", alternative="more")
