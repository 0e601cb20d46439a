"""A study with tables `[populations]` and `[twins]` writes, shows and reproduces comparisons of its systems."""

import json
import shutil
from typing import get_args

import netCDF4
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from PIL import Image

from neurosuper import load_array, load_images, reproduce, run_study
from neurosuper.comparison import compare_populations, fit_systems, twins
from neurosuper.comparison.population_table import KINDS
from neurosuper.directions import KMeans
from neurosuper.report.population_section import QUESTIONS
from neurosuper.study import (
    check_study,
    describe_file,
    read_populations,
    read_study,
    read_twins,
    write_report,
)
from neurosuper.study.analyses import Similarity
from tests.study.minimal import MINIMAL_STUDY

OTHER = MINIMAL_STUDY[MINIMAL_STUDY.index("[systems.brain]") :].replace("brain", "V4-IT")
STUDY = MINIMAL_STUDY.replace(
    "[systems",
    """finders.KMeans = { n_directions = 3 }
[populations]
measures = ["cka", "twins"]
n_rotations = 2
n_permutations = 19
n_resamples = 10
[twins]
n_permutations = 19
n_rotations = 2
[systems""",
)
STUDY += OTHER
N = 48


def write_study(folder, text=STUDY):
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for i in range(N):
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).save(folder / "images" / f"photo{i:02d}.png")
    shared = rng.gamma(1, 5, (5, N))
    np.save(folder / "brain.npy", shared)
    np.save(folder / "V4-IT.npy", shared[::-1] + 0.3 * rng.gamma(1, 5, (5, N)))
    (folder / "study.toml").write_text(text)
    return folder / "study.toml"


@pytest.fixture(scope="module")
def run_once(tmp_path_factory):
    """Return the file of such a study that was run, its result, and how often a finder was fitted."""
    study = write_study(tmp_path_factory.mktemp("study"))
    return study, run_study(study)


@pytest.fixture
def copied(run_once, tmp_path):
    """Return the output folder of a copy of this study."""
    shutil.copytree(run_once[0].parent, tmp_path / "copy")
    return tmp_path / "copy" / "study_output"


def load(folder, name):
    images = load_images(folder / "images")
    return load_array(folder / f"{name}.npy", dims=("unit", "stimulus"), stimuli=images)


def test_populations_are_those_of_the_public_function(run_once):
    study, result = run_once
    found = read_populations(study.parent / "study_output" / "populations.nc")
    systems = {name: load(study.parent, name) for name in ("brain", "V4-IT")}
    expected = compare_populations(
        systems,
        {"KMeans": KMeans(3, random_state=0)},
        measures=["cka", "twins"],
        n_rotations=2,
        n_permutations=19,
        n_resamples=10,
    )
    xr.testing.assert_allclose(found, expected)
    assert found.attrs["provenance"] == result.provenance
    assert list(json.loads(result.provenance)["seconds"])[-2:] == ["populations", "twins"]


def test_twins_are_those_of_units_and_of_the_codes_that_were_scored(run_once):
    study, result = run_once
    tree = read_twins(study.parent / "study_output" / "twins.nc")
    assert [node.path for node in tree.leaves] == ["/brain | V4-IT/units", "/brain | V4-IT/KMeans"]
    assert tree.attrs["provenance"] == result.provenance
    assert tree.attrs["left_out"] == ""
    systems = {name: load(study.parent, name) for name in ("brain", "V4-IT")}
    fits = {fit.system: fit for fit in fit_systems(systems, [KMeans(3, random_state=0)], baselines=False)}
    codes = [fits[name].fitted.transform(each) for name, each in systems.items()]
    is_scored = np.isin(codes[0].stimulus.values, fits["brain"].scored)
    first = codes[0].assign_coords(split=("stimulus", np.where(is_scored, "score", "fit")))
    expected = twins(first, codes[1], n_permutations=19, n_rotations=2)
    found = tree["brain | V4-IT/KMeans"].to_dataset()
    for name in ("partner", "r", "p_adjusted", "rotated"):
        xr.testing.assert_allclose(found[name], expected[name])
    assert (found.attrs["system_a"], found.attrs["items"]) == ("brain", "KMeans")
    assert tree["brain | V4-IT/units"].partner.values.tolist() == ["4", "3", "2", "1", "0"]  # as planted


def test_names_of_measures_are_those_of_the_comparison():
    assert set(get_args(Similarity)) == set(KINDS)
    assert {name.removesuffix(" back") for name in KINDS} == set(QUESTIONS)


def test_only_pairs_and_finders_that_were_asked_for_are_compared(run_once, tmp_path):
    text = STUDY.replace("[populations]", '[populations]\npairs = [["V4-IT", "brain"]]\nfinders = []')
    text = text.replace("[twins]", '[twins]\npairs = [["V4-IT", "brain"]]\nfinders = []\nmatch = "one-to-one"')
    output = tmp_path / "results"
    study = write_study(tmp_path, text)
    run_study(study, output)
    found, tree = read_populations(output / "populations.nc"), read_twins(output / "twins.nc")
    assert (found.pair.values.tolist(), found["items"].values.tolist()) == (["V4-IT | brain"], ["units", "rotation"])
    assert [node.path for node in tree.leaves] == ["/V4-IT | brain/units"]
    assert tree["V4-IT | brain/units"].attrs["match"] == "one-to-one"


def test_repetitions_give_ceilings_unless_some_are_missing(copied):
    study, rng = copied.parent / "study.toml", np.random.default_rng(1)
    for name in ("brain", "V4-IT"):
        once = np.load(copied.parent / f"{name}.npy")[..., None]
        repeated = once + rng.normal(size=(5, N, 4))
        repeated[:, 0, -1] = np.nan if name == "brain" else repeated[:, 0, -1]
        np.save(copied.parent / f"{name}.npy", repeated)
    text = study.read_text().replace('["unit", "stimulus"]', '["unit", "stimulus", "repetition"]')
    text = text.replace("[twins]", '[twins]\npairs = [["V4-IT", "brain"], ["brain", "V4-IT"]]\nfinders = ["KMeans"]')
    study.write_text(text[: text.index("[populations]")] + text[text.index("[twins]") :])
    run_study(study)
    tree = read_twins(copied / "twins.nc")
    assert tree.attrs["left_out"] == "ceilings of brain: repetitions are missing for some stimuli"
    for node in ("units", "KMeans"):
        found = tree[f"V4-IT | brain/{node}"]
        assert ((found.ceiling > 0.5) & (found.ceiling <= 1)).all()
        assert_allclose(found.r_ceiled, found.r / found.ceiling)


def test_scores_and_report_are_kept_if_systems_share_too_few_stimuli(copied):
    study = copied.parent / "study.toml"
    for name, part in (("brain", slice(0, 26)), ("V4-IT", slice(22, N))):
        (copied.parent / name).mkdir()
        for image in sorted((copied.parent / "images").iterdir())[part]:
            shutil.copy(image, copied.parent / name)
        np.save(copied.parent / f"{name}.npy", np.load(copied.parent / f"{name}.npy")[:, part])
    first, brain, other = study.read_text().split("[systems")
    brain, other = (each.replace('"images"', f'"{name}"') for each, name in ((brain, "brain"), (other, "V4-IT")))
    study.write_text("[systems".join([first.replace("[twins]", "[twins]\nfinders = []"), brain, other]))
    with (
        pytest.warns(UserWarning, match=r"^left out, twins of brain \| V4-IT by units: 4 common stimuli are too few"),
        pytest.raises(ValueError, match="4 stimuli are common to all systems .of brain 26, V4-IT 26.") as caught,
    ):
        run_study(study)
    assert caught.value.__notes__ == [
        "(no pair of systems has twins: twins of brain | V4-IT by units: 4 common stimuli are too few; use at least "
        "20)",
        f"(all else is complete, in {copied / 'study.nc'})",
    ]
    assert sorted(path.name for path in copied.iterdir()) == ["cache", "registry.json", "report.html", "study.nc"]


def test_the_report_is_made_again_from_all_files(copied):
    page = (copied / "report.html").read_text()
    (copied / "report.html").unlink()
    assert write_report(copied / "study.nc").read_text() == page
    assert 'id="populations"' in page
    assert 'id="twins"' in page
    for name in ("populations", "twins"):
        with netCDF4.Dataset(copied / f"{name}.nc", "a") as file:
            provenance, file.provenance = file.provenance, "{}"
        with pytest.raises(ValueError, match=rf"{name}\.nc is of another run than study\.nc; move it away, or run"):
            write_report(copied / "study.nc")
        with netCDF4.Dataset(copied / f"{name}.nc", "a") as file:
            file.provenance = provenance


def test_other_files_are_refused(copied):
    for read, name in ((read_populations, "populations"), (read_twins, "twins")):
        with pytest.raises(ValueError, match=rf"study\.nc is not a {name}\.nc, as neurosuper run writes it"):
            read(copied / "study.nc")
        with pytest.raises(FileNotFoundError):
            read(copied / "nothing.nc")


def test_a_rerun_compares_the_files_that_are_there(copied):
    for name, group, variable in (("populations", "", "estimate"), ("twins", "brain | V4-IT/units", "r")):
        with netCDF4.Dataset(copied / f"{name}.nc", "a") as file:
            (file[group] if group else file)[variable][0] += 0.5
    found = reproduce(copied / "study.nc")
    assert found.differences.variable.tolist() == ["populations estimate", "twins r"]
    assert found.differences[["system", "finder"]].values.tolist() == [["", ""], ["brain | V4-IT", "units"]]
    (copied / "populations.nc").unlink()
    (copied / "twins.nc").unlink()
    without = reproduce(copied / "study.nc")
    assert without.same
    assert without.reasons == [
        "there is no populations.nc next to study.nc, so populations were not compared again",
        "there is no twins.nc next to study.nc, so twins were not found again",
    ]


def test_a_check_names_and_estimates_both(run_once):
    check = check_study(run_once[0])
    text = str(check)
    assert "\nPopulations: cka, twins; of units, rotations, KMeans; all pairs of systems\n" in text
    assert "\nTwins: best, of units, KMeans; all pairs of systems\n" in text
    assert list(check.seconds)[-3:] == ["populations", "twins", "report"]
    assert 0 < check.seconds["twins"] < 60
    assert 0 < check.seconds["populations"] < 60


def test_what_the_files_contain_is_described(copied):
    text = describe_file(copied / "twins.nc")
    assert "twins.nc: twins; match best, removed: common" in text
    assert "  brain | V4-IT/KMeans" in text
    assert text.endswith(f"  neurosuper.study.read_twins({str(copied / 'twins.nc')!r})")
    text = describe_file(copied / "populations.nc")
    assert "populations.nc: similarity of populations; cka, twins" in text
    assert text.endswith(f"  neurosuper.study.read_populations({str(copied / 'populations.nc')!r})")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[twins]", '[twins]\npairs = [["brain", "IT"]]', "twins.pairs has 'IT'; the systems are 'brain', 'V4-IT'"),
        ("[populations]", '[populations]\npairs = [["IT", "brain"]]', "populations.pairs has 'IT'; the systems are"),
        (OTHER, "", r"\[populations\] compares systems, and the study has only 'brain'; add one, or remove it"),
    ],
)
def test_names_of_systems_are_checked_before_the_first_fit(tmp_path, monkeypatch, old, new, message):
    monkeypatch.setattr(KMeans, "fit", None)
    study = write_study(tmp_path, STUDY.replace(old, new))
    for function in (run_study, check_study):
        with pytest.raises(ValueError, match=message):
            function(study)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[twins]", '[twins]\nfinders = ["NMF"]', "twins.finders has 'NMF'; the study has Units, KMeans"),
        ("[twins]", '[twins]\nfinders = ["Units"]', "twins.finders has 'Units': units are always compared; remove it"),
        (
            "[twins]",
            '[twins]\npairs = [["a", "a"]]',
            "twins.pairs: Value error, a pair is of two systems, got 'a'",
        ),
        ("[twins]", '[twins]\nmatch = "partial"', "twins: Value error, mass, such as 0.5, is for match = 'partial'"),
        ("[twins]", "[twins]\nn_items = 3", "twins.n_items: Extra inputs are not permitted"),
        ('["cka", "twins"]', '["cka", "cka"]', "populations.measures: Value error, each may be named once"),
        ('["cka", "twins"]', '["CKA"]', "populations.measures.0: Input should be 'cka'"),
    ],
)
def test_tables_are_checked_when_they_are_read(tmp_path, old, new, message):
    (tmp_path / "study.toml").write_text(STUDY.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_study(tmp_path / "study.toml")
