"""What the tables of a study file describe is what a user would load, select and compare by hand."""

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import neurosuper as ns
from neurosuper.study import check_study, read_study
from tests.study.minimal import MINIMAL_STUDY

SMALL = MINIMAL_STUDY.replace("finders.Units = {}", "finders.Units = {}\nfinders.KMeans = { n_directions = 3 }")
OTHERS = [f"other{i:02d}" for i in range(30)]
FIT_ON = f'fit_on = {{ path = "other.npy", stimuli = {OTHERS} }}\n'
REPEATED = 'dims = ["unit", "repetition", "stimulus"]'


@pytest.fixture
def others(study, rng):
    """Responses of the same five units to 30 other stimuli."""
    values = rng.gamma(1, 5, (5, 30))
    np.save(study.parent / "other.npy", values)
    return xr.DataArray(values.T, dims=("stimulus", "unit"), coords={"stimulus": OTHERS, "unit": list("01234")})


@pytest.fixture
def repeated(study, rng):
    """Four repetitions; units 1 and 3 do not depend on the stimulus."""
    signal = rng.gamma(1, 5, (5, 1, 40)) * np.array([1, 0, 1, 0, 1])[:, None, None]
    np.save(study.parent / "brain.npy", signal + rng.normal(0, 1, (5, 4, 40)))
    return SMALL.replace('dims = ["unit", "stimulus"]', REPEATED)


def test_directions_are_found_on_other_stimuli_as_by_compare(study, others):
    study.write_text(SMALL + FIT_ON)
    result = ns.run_study(study)
    images = ns.load_images(study.parent / "images")
    brain = ns.load_array(study.parent / "brain.npy", ("unit", "stimulus"), stimuli=images)
    by_hand = ns.compare({"brain": brain}, images, [ns.Units(), ns.KMeans(3)], [ns.Color()], fit_on={"brain": others})
    np.testing.assert_allclose(result.interpretability, by_hand.interpretability, rtol=1e-6)
    assert result.top_stimuli.values.tolist() == by_hand.top_stimuli.values.tolist()
    assert result.shared_stimuli == by_hand.shared_stimuli
    assert "brain on 30" in result.shared_stimuli
    check = check_study(study)
    assert check.systems.loc["brain", ["n_stimuli", "n_fit"]].tolist() == [40, 30]
    assert ns.reproduce(study.parent / "study_output" / "study.nc").same


def test_a_changed_input_of_fit_on_is_found_by_reproduce(study, others):
    study.write_text(SMALL + FIT_ON)
    ns.run_study(study)
    np.save(study.parent / "other.npy", others.values.T**2)
    found = ns.reproduce(study.parent / "study_output" / "study.nc")
    assert not found.same
    assert [reason.partition(":")[0] for reason in found.reasons] == ["input other.npy"]


def test_reliable_units_are_those_of_select_units(study, repeated):
    study.write_text(f"{repeated}select_units = {{ reliability = 0.5 }}\n")
    result = ns.run_study(study)
    units = result.direction[result.finder == "Units"].values.tolist()
    assert units == ["0", "2", "4"]
    images = ns.load_images(study.parent / "images")
    whole = ns.load_array(study.parent / "brain.npy", ("unit", "repetition", "stimulus"), stimuli=images)
    by_hand = ns.average_repetitions(ns.select_units(whole, reliability=0.5))
    table = ns.compare({"brain": by_hand}, images, [ns.Units(), ns.KMeans(3)], [ns.Color()])
    np.testing.assert_allclose(result.interpretability, table.interpretability, rtol=1e-6)
    sentence = "Units of brain: 3 of 5 with reliability >= 0.5 (split-half correlation, Spearman–Brown)."
    assert sentence in result.note
    check = check_study(study)
    assert check.systems.loc["brain", "n_units"] == 3
    assert sentence in str(check)
    assert ns.reproduce(study.parent / "study_output" / "study.nc").same


def test_units_that_are_left_out_need_no_responses_to_other_stimuli(study, repeated, others):
    np.save(study.parent / "other.npy", others.values.T[:, None])
    study.write_text(f"{repeated}select_units = {{ reliability = 0.5 }}\n{FIT_ON}")
    result = ns.run_study(study)
    assert result.direction[result.finder == "Units"].values.tolist() == ["0", "2", "4"]


def test_a_network_is_fitted_on_other_images(study, rng):
    folder = study.parent / "others"
    folder.mkdir()
    for label in OTHERS:
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(folder / f"{label}.png")
    text = f"""{MINIMAL_STUDY.partition("[systems.brain]")[0]}
finders.KMeans.n_directions = 3
[systems.net]
loader = "activations"
model = "network.py:build"
model_args.channels = 6
layers = ["first", "second"]
fit_on.path = "others"
"""
    study.write_text(text)
    result = ns.run_study(study)
    assert result.shared_stimuli.endswith("directions found on other stimuli: net first on 30, net second on 30")
    files = ns.study.references.References(study)
    network = files.fill(read_study(study).systems["net"])["model"]
    images = ns.load_images(study.parent / "images")
    seen, unseen = (ns.activations(network, each, ["second"]) for each in (images, ns.load_images(folder)))
    by_hand = ns.compare(
        {"net second": seen}, images, [ns.Units(), ns.KMeans(3)], [ns.Color()], fit_on={"net second": unseen}
    )
    own = result.isel(item=(result.system == "net second").values)
    np.testing.assert_allclose(own.interpretability, by_hand.interpretability, rtol=1e-5)
    assert check_study(study).systems.n_fit.tolist() == [30, 30]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("select_units = 0.3", r"select_units must be a table such as { reliability = 0.3 }, got 0.3"),
        ("select_units = { reliability = 'high' }", r"select_units must be a table such as .*high"),
        ("select_units = { reliability = 0.3 }", r"\[systems.brain\] select_units: .*repetition"),
        ("select_units = { depth = 1 }", r"\[systems.brain\] select_units: .*depth"),
        ('fit_on = "other.npy"', r"fit_on must be a table such as { path = \"other.npy\" }, got 'other.npy'"),
        ("fit_on = { truth = 'planted.nc' }", r"fit_on has 'truth'; set it in systems.brain, for both"),
        ("fit_on = { path = 'absent.npy' }", "absent.npy"),
        ("fit_on = { path = 'other.npy', stimuli = true }", "has other stimuli than"),
        ("fit_on = { path = 'brain.npy' }", "fit_on of 'brain': directions would be fitted and scored on stimulus"),
        ('fit_on = { path = "a\\tb.npy" }', "systems.brain.fit_on.* contains a control character"),
    ],
)
def test_keys_that_say_nothing_are_refused_by_check_and_run(study, others, line, message):
    study.write_text(f"{SMALL}{line}\n")
    for call in (check_study, ns.run_study):
        with pytest.raises((TypeError, ValueError, FileNotFoundError), match=message):
            call(study)


def test_code_that_only_fit_on_names_needs_trust(study, others, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "network.py"
    study.write_text(f"{SMALL}fit_on = {{ loader = 'activations', model = '{elsewhere}:build' }}\n")
    with pytest.raises(ValueError, match="asks to run"):
        ns.run_study(study)
