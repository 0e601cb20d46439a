"""A study with a table `[superposition]` writes, shows and reproduces the measures of its fits."""

import json
import shutil
from functools import partial

import netCDF4
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from PIL import Image

from neurosuper import Color, load_array, load_images, reproduce, run_study
from neurosuper.comparison import fit_systems
from neurosuper.directions import KMeans, Units
from neurosuper.study import check_study, describe_file, read_study, read_superposition, write_report
from neurosuper.study.measures import load_factors
from neurosuper.superposition import disentanglement, measure_superposition
from tests.study.minimal import MINIMAL_STUDY

STUDY = MINIMAL_STUDY.replace(
    "[systems",
    """finders.KMeans = { n_directions = 3 }
[superposition]
measures = ["interference", "spectrum", "sparseness"]
[systems""",
)
FACTORS = """
[factors]
path = "factors.csv"
bins = 3
"""
FILES = ["cache", "registry.json", "report.html", "study.nc"]


@pytest.fixture
def measured(study):
    """A study of five units with three measures."""
    study.write_text(STUDY)
    return study


@pytest.fixture(scope="module")
def run_once(tmp_path_factory):
    """Return the file of such a study that was run, its result, and how often a finder was fitted."""
    folder, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(0)
    (folder / "images").mkdir()
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).save(folder / "images" / f"photo{i:02d}.png")
    np.save(folder / "brain.npy", rng.gamma(1, 5, (5, 40)))
    (folder / "study.toml").write_text(STUDY)
    fitted, fit = [], KMeans.fit

    def counting(self, responses):
        fitted.append(self)
        return fit(self, responses)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KMeans, "fit", counting)
        return folder / "study.toml", run_study(folder / "study.toml"), len(fitted)


@pytest.fixture
def copied(run_once, tmp_path):
    """Return the output folder of a copy of this study."""
    shutil.copytree(run_once[0].parent, tmp_path / "copy")
    return tmp_path / "copy" / "study_output"


def without_measures(study):
    text = study.read_text()
    start = text.index("[superposition]")
    study.write_text(text[:start] + text[text.index("[systems") :])


def factors_of(study, **columns):
    """Write a table of factors of the 40 images."""
    columns = {"thing": ["cat", "dog"] * 20, "size": 7 * np.arange(40) % 40} | columns
    lines = [",".join(["stimulus", *columns])]
    lines += [",".join([f"photo{i:02d}.png", *(str(each[i]) for each in columns.values())]) for i in range(40)]
    (study.parent / "factors.csv").write_text("\n".join(lines))
    study.write_text(study.read_text().replace('"sparseness"]', '"disentanglement"]') + FACTORS)


def test_its_measures_are_those_of_the_public_function_and_nothing_is_fitted_twice(run_once):
    study, result, n_fits = run_once
    folder = study.parent / "study_output"
    assert sorted(path.name for path in folder.iterdir()) == [*FILES, "superposition.nc"]
    images = load_images(study.parent / "images")
    brain = load_array(study.parent / "brain.npy", dims=("unit", "stimulus"), stimuli=images)
    fits = list(fit_systems({"brain": brain}, {"Units": Units(), "KMeans": KMeans(3, random_state=0)}))
    measures = ["interference", "spectrum", "sparseness"]
    expected = measure_superposition({"brain": brain}, fits, images, Color(), measures=measures)
    tree = read_superposition(folder / "superposition.nc")
    assert list(tree.children) == measures
    assert {node.path for node in tree.leaves} == {node.path for node in expected.leaves}
    for node in expected.leaves:
        xr.testing.assert_allclose(tree[node.path].to_dataset(), node.to_dataset())
    assert tree.attrs["provenance"] == result.provenance
    assert list(json.loads(result.provenance)["seconds"])[-1] == "superposition"
    assert n_fits == 1


def test_the_index_of_items_is_that_of_the_scores(run_once):
    study, result, _ = run_once
    tree = read_superposition(study.parent / "study_output" / "superposition.nc")
    for finder in ("Units", "KMeans"):
        own = result.isel(item=(result.finder == finder).values).interpretability.sel(metric="Color")
        assert_allclose(tree[f"sparseness/brain/{finder}"].interpretability, own, atol=1e-5)


def test_an_empty_table_asks_for_all_that_is_possible(measured):
    measured.write_text(measured.read_text().replace("measures = ", "# "))
    np.save(measured.parent / "brain.npy", np.load(measured.parent / "brain.npy")[:3])
    with pytest.warns(UserWarning, match="^left out, spectrum of brain: a power law needs at least 5 components"):
        run_study(measured)
    tree = read_superposition(measured.parent / "study_output" / "superposition.nc")
    assert list(tree.children) == ["interference", "sparseness", "rotation", "synergy"]
    assert tree.attrs["left_out"].startswith("spectrum of brain")


def test_repetitions_serve_the_spectrum(copied):
    study, rng = copied.parent / "study.toml", np.random.default_rng(1)
    once = np.load(copied.parent / "brain.npy")[..., None]
    np.save(copied.parent / "brain.npy", once + 0.1 * rng.normal(size=(5, 40, 3)))
    text = study.read_text().replace('["unit", "stimulus"]', '["unit", "stimulus", "repetition"]')
    study.write_text(text.replace('["interference", "spectrum", "sparseness"]', '["spectrum"]'))
    run_study(study)
    assert read_superposition(copied / "superposition.nc")["spectrum/brain"].attrs["method"] == "cvpca"


def test_a_run_without_the_table_has_the_same_scores_and_leaves_no_measures_of_an_earlier_run(run_once, copied):
    without_measures(copied.parent / "study.toml")
    without = run_study(copied.parent / "study.toml")
    assert sorted(path.name for path in copied.iterdir()) == FILES
    xr.testing.assert_identical(without.drop_attrs(), run_once[1].drop_attrs())
    assert json.loads(without.registry)["n_settings"] == 1


def test_scores_and_report_are_kept_if_a_measure_fails(measured):
    np.save(measured.parent / "brain.npy", np.load(measured.parent / "brain.npy")[:3])
    with pytest.raises(ValueError, match="^spectrum of brain: a power law needs at least 5") as caught:
        run_study(measured)
    assert caught.value.__notes__ == [f"(all else is complete, in {measured.parent / 'study_output' / 'study.nc'})"]
    assert sorted(path.name for path in (measured.parent / "study_output").iterdir()) == FILES


def test_the_report_is_made_again_from_both_files(copied):
    folder = copied
    page = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    assert write_report(folder / "study.nc").read_text() == page
    with netCDF4.Dataset(folder / "superposition.nc", "a") as file:
        file.provenance = file.provenance.replace("brain", "Brain")
    with pytest.raises(ValueError, match=r"superposition\.nc is of another run than study\.nc; move it away, or run"):
        write_report(folder / "study.nc")
    shutil.copy(folder / "study.nc", folder / "other.nc")
    with pytest.raises(ValueError, match=r"other\.nc is not a superposition\.nc, as neurosuper run writes it"):
        read_superposition(folder / "other.nc")


def test_measures_are_reproduced_and_a_number_that_differs_is_found(copied):
    folder = copied
    found = reproduce(folder / "study.nc")
    assert found.same, found
    assert found.reasons == []
    with netCDF4.Dataset(folder / "superposition.nc", "a") as file:
        file["sparseness/brain/KMeans"]["sparseness"][1] += 0.1
        file["spectrum/brain"]["alpha"][...] = 0
    found = reproduce(folder / "study.nc").differences.set_index("variable")
    assert found.index.tolist() == ["spectrum alpha", "sparseness sparseness"]
    assert found.loc["sparseness sparseness", ["system", "finder", "n_different"]].tolist() == ["brain", "KMeans", 1]
    assert_allclose(found.largest_difference["sparseness sparseness"], 0.1)
    (folder / "superposition.nc").unlink()
    without = reproduce(folder / "study.nc")
    assert without.same
    assert "no superposition.nc next to study.nc, so superposition was not measured again" in str(without)


def test_factors_of_a_table_are_read_by_label_and_their_disentanglement_measured(measured, monkeypatch):
    fast = partial(disentanglement, n_permutations=0, n_resamples=0)
    monkeypatch.setattr("neurosuper.superposition.all_measures.disentanglement", fast)
    factors_of(measured)
    result = run_study(measured)
    tree = read_superposition(measured.parent / "study_output" / "superposition.nc")
    assert list(tree["disentanglement/brain"].children) == ["Units", "KMeans", "CovarianceMatched"]
    assert tree["disentanglement/brain/Units"].factor.values.tolist() == ["thing", "size"]
    assert "factors.csv" in json.loads(result.provenance)["files"]


def test_a_check_names_the_measures_and_estimates_their_time(run_once):
    study, _, _ = run_once
    check = check_study(study)
    assert "Superposition: interference, spectrum, sparseness; images by Color" in str(check)
    assert list(check.seconds) == ["images", "systems", "fits", "metrics", "superposition", "report"]
    assert 0 < check.seconds["superposition"] < 60
    assert "superposition" in check.last_run


def test_inspect_lists_the_results_and_how_to_load_them(copied):
    text = describe_file(copied / "superposition.nc")
    assert "superposition.nc: measures of superposition; images by color" in text
    assert "  sparseness/brain/KMeans\n" in text
    assert "Left out" not in text
    assert text.endswith(f"  neurosuper.study.read_superposition({str(copied / 'superposition.nc')!r})")


def test_a_run_says_which_measures_it_will_compute(measured, caplog):
    with caplog.at_level("INFO", "neurosuper"):
        run_study(measured)
    assert "superposition: interference, spectrum, sparseness; images by Color" in caplog.messages
    assert any(message.startswith("superposition: done after") for message in caplog.messages)


class _Files:
    """Resolve paths in a folder."""

    def __init__(self, folder):
        self.input_path = folder.joinpath


def factors(study):
    """Return the factors of a study of one system, with coords."""
    images = load_images(study.parent / "images").assign_coords(pose=("stimulus", np.arange(40)))
    brain = load_array(study.parent / "brain.npy", dims=("unit", "stimulus"), stimuli=images)
    brain = brain.assign_coords(burst=("stimulus", np.repeat([1, 2], 20)))

    class System:
        responses = brain[5:]

    return load_factors(read_study(study), [System], images, _Files(study.parent))


def test_factors_come_from_a_table_from_images_or_from_systems_as_labels_or_numbers(measured):
    factors_of(measured)
    kinds = 'kinds = { size = "label", burst = "number" }\nnames = ["thing", "size", "pose", "burst"]\n'
    measured.write_text(measured.read_text() + kinds)
    found = factors(measured)
    assert {name: column.dtype.kind for name, column in found.items()} == {
        "thing": "U",
        "size": "U",
        "pose": "f",
        "burst": "f",
    }
    assert found.stimulus.values.tolist() == [f"photo{i:02d}" for i in range(5, 40)]
    assert found["size"].values.tolist() == [str(7 * i % 40) for i in range(5, 40)]
    assert found.thing.values[0] == "dog"
    assert found.pose.values[0] == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('names = ["thing", "hue"]', r"^\[factors\] no factor 'hue'; there are burst, .*pose, size, thing$"),
        ('names = ["thing", "stimulus"]', r"^\[factors\] no factor 'stimulus'; there are"),
        ('kinds = { thing = "number" }', r"^\[factors\] thing is not a number for all stimuli: Unable to parse"),
    ],
)
def test_a_factor_that_is_wrong_is_named(change, message, measured):
    factors_of(measured)
    measured.write_text(f"{measured.read_text()}{change}\n")
    with pytest.raises(ValueError, match=message) as caught:
        factors(measured)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stimulus,thing", "image,thing", "has no column 'stimulus', the labels of the images; it has image, thing"),
        ("photo07.png", "photo08.png", r"has stimulus 'photo08' twice; keep one line for each"),
        ("photo07.png", "photo99.png", r"^\[factors\] thing is missing for stimulus 'photo07'; add it, or leave the"),
        ("photo07.png,dog", "photo07.png,", r"^\[factors\] thing is missing for stimulus 'photo07'"),
    ],
)
def test_a_table_of_factors_that_is_wrong_is_named(old, new, message, measured):
    factors_of(measured)
    table = measured.parent / "factors.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        factors(measured)
    table.unlink()
    with pytest.raises(FileNotFoundError, match=r"^\[factors\] no table .*factors\.csv; check the path$"):
        factors(measured)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"sparseness"]', '"sparsity"]', "superposition.measures.2: Input should be 'interference'"),
        ('"sparseness"]', '"spectrum"]', "superposition.measures: Value error, each may be named once"),
        ('"sparseness"]', '"disentanglement"]', r"has 'disentanglement', which needs a table \[factors\]; add one"),
        ('"sparseness"]', '"sparseness"]\nmetric = "LPIPS"', "superposition.metric is 'LPIPS'; the study has Color"),
        ('"sparseness"]', '"sparseness"]\nmax_units = 1', "superposition.max_units: Input should be greater"),
        ('"sparseness"]', '"sparseness"]\npairs = 1', "superposition.pairs: Extra inputs are not permitted"),
        ('"sparseness"]', '"sparseness"]\n[factors]\n', "factors: Value error, give names of stimulus coords"),
        ('"sparseness"]', '"sparseness"]\n[factors]\nnames = ["a"]', "factors.names: List should have at least 2"),
        (
            '"sparseness"]',
            '"sparseness"]\n[factors]\nnames = ["a", "b"]\nkinds = { c = "label" }',
            "kinds has 'c', which is not among names: a, b",
        ),
        ("[superposition]", '[factors]\nnames = ["a", "b"]\n[finders.Random]', "measures"),
    ],
)
def test_a_mistake_in_the_tables_is_found_when_the_file_is_read(old, new, message, measured):
    measured.write_text(measured.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        read_study(measured)
    assert "\n" not in str(caught.value)
