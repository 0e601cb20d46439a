"""What a study cannot write is refused before the first fit; what it found is kept when a later step fails."""

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from filelock import FileLock

from neurosuper import KMeans, run_study
from neurosuper.comparison import fit_systems
from neurosuper.report.page import FORMAT_VERSION
from neurosuper.study.write import lock_folder, publish, try_writing, write_numbers

NFC, NFD = (unicodedata.normalize(form, "Zürich") for form in ("NFC", "NFD"))


FILES = ["cache", "registry.json", "report.html", "study.nc"]  # in the output folder, after a run


@pytest.fixture
def small(study):
    """The study without its network."""
    text = study.read_text()
    study.write_text(text[: text.index("[systems.net]")] + text[text.index("[finders.Units]") :])
    return study


@pytest.fixture
def never_fitted(monkeypatch):
    def fit(*_args, **_kwargs):
        raise AssertionError("fitted before the names were tried")

    monkeypatch.setattr("neurosuper.study.run.fit_systems", fit)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[systems.brain]",
            '[systems."IT "]',
            r"netCDF cannot store the system 'IT ' \(.*illegal.*\); choose another name",
        ),
        ("[systems.brain]", r'[systems."two\nlines"]', r"the system 'two\\nlines'"),
        ("[systems.brain]", r'[systems."cut\u0000off"]', r"system 'cut\\x00off' contains a NUL character"),
        ("[systems.brain]", '[systems."-IT"]', "the system '-IT'"),
        ("[systems.brain]", f'[systems."{"long " * 60}IT"]', "the system 'long .* at most 256 bytes"),
        ('[finders."KMeans 4"]', '[finders."*K*"]', r"the finder '\*K\*'"),
        ('"A small study"', r'"A small\u0000 study"', "title .* contains a NUL"),
    ],
)
def test_names_that_netcdf_refuses_are_refused_before_the_first_fit(old, new, message, small, never_fitted):
    assert old in small.read_text()
    small.write_text(small.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        run_study(small)
    assert "\n" not in str(caught.value)
    assert not list(small.parent.glob("study_output/*.*"))


def test_names_that_only_units_need_are_written(small):
    text = small.read_text().replace("[systems.brain]", '[systems."<IT>"]')
    small.write_text(text.replace('[finders."KMeans 4"]\nfinder = "KMeans"\nn_directions = 4\n', ""))
    assert run_study(small).system.values[0] == "<IT>"


@pytest.mark.parametrize("name", ["IT 🧠", "a&b;c", "$\\frac{", "IT (left)", "été"])
def test_other_names_are_written_and_read_back(name, tmp_path):
    try_writing(tmp_path, [name.replace("$", "x")], {name.replace("$", "x"): None}, {"title": [name]})
    assert not list(tmp_path.iterdir())


def test_texts_of_any_kind_are_compressed_and_read_back(tmp_path):
    texts = np.array([[NFC, "", "IT 🧠"], ["a | b", " x ", "long " * 50]] * 500)
    result = xr.Dataset(
        {"top_stimuli": (("item", "rank"), texts), "interpretability": ("item", np.linspace(-1, 0, 1000))},
        {"baseline": ("item", np.full(1000, "")), "metric": ("metric", ["color"]), "fixed": ((), "one")},
        {"format_version": FORMAT_VERSION},
    )
    write_numbers(tmp_path / "ours.nc", result, {})
    result.to_netcdf(tmp_path / "plain.nc")
    with xr.open_dataset(tmp_path / "ours.nc") as stored:
        xr.testing.assert_identical(stored.load(), result)
    assert (tmp_path / "ours.nc").stat().st_size < 0.5 * (tmp_path / "plain.nc").stat().st_size


@pytest.mark.parametrize("pair", [(NFC, NFD), ("net a/b", "net a_b")])
def test_two_names_that_would_share_a_group_are_refused(pair, tmp_path):
    with pytest.raises(ValueError, match="would be stored under one name in study.nc; rename one"):
        try_writing(tmp_path, ["PCA"], dict.fromkeys(pair), {})
    with pytest.raises(ValueError, match="the finders .* would be stored under one name"):
        try_writing(tmp_path, pair, {"IT": None}, {})
    try_writing(tmp_path, ["PCA", "pca"], dict.fromkeys(["it", "IT", "PCA"]), {})


def make_responses(**coords):
    labels = {"stimulus": ["a", "b"], "unit": ["u", "v"]}
    return xr.DataArray(np.eye(2), dims=("stimulus", "unit"), coords=labels | coords)


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        (make_responses(unit=["u", "v\udcff"]), r"unit of the system 'IT': 'v\\udcff' is not Unicode"),
        (make_responses(area=("unit", np.array(["V1", "\ud800"]))), "area of the system 'IT': .* not Unicode"),
        (make_responses(**{"x/y": ("unit", [1, 2])}), "the unit coords .*x/y.* of the system 'IT' cannot be written"),
    ],
)
def test_coords_that_netcdf_cannot_store_are_refused(responses, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        try_writing(tmp_path, ["PCA"], {"IT": responses}, {})
    assert not list(tmp_path.iterdir())


def test_coords_of_objects_are_written_as_text(small, monkeypatch):
    """A table with a missing area has such coords."""
    areas = np.array(["V1", None, np.nan, "V4", "IT"], object)

    def with_areas(systems, *args, **settings):
        return fit_systems(
            {name: own.assign_coords(area=("unit", areas)) for name, own in systems.items()}, *args, **settings
        )

    monkeypatch.setattr("neurosuper.study.run.fit_systems", with_areas)
    numbers = run_study(small).encoding["source"]
    with xr.open_dataarray(numbers, group="directions/brain/KMeans 4/seed 0") as directions:
        assert directions.area.values.tolist() == ["V1", "", "", "V4", "IT"]


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems allow no such names")
def test_an_image_whose_name_is_not_utf8_is_refused_before_the_first_fit(small, never_fitted):
    photo = small.parent / "images" / "photo03.png"
    os.rename(photo, os.fsencode(photo.with_name("caf")) + b"\xe9.png")
    with pytest.raises(ValueError, match=r"image 'caf\\udce9' is not Unicode, so it cannot be written; rename it"):
        run_study(small)


def test_planted_directions_that_lack_units_are_refused_before_the_first_fit(small, never_fitted):
    truth = small.parent / "planted.nc"
    planted = xr.load_dataarray(truth)
    truth.unlink()
    planted[:, :-1].to_netcdf(truth)
    with pytest.raises(ValueError, match="truth of 'brain' lacks unit '4'; it must have all its units"):
        run_study(small)


def test_what_a_study_writes_states_the_version_of_its_layout(small):
    numbers = run_study(small).encoding["source"]
    assert xr.load_dataset(numbers).format_version == FORMAT_VERSION


def test_a_report_that_fails_costs_no_number(small, monkeypatch):
    expected = run_study(small)
    folder = small.parent / "study_output"

    def fail(*_args, **_settings):
        raise KeyError("figure")

    monkeypatch.setattr("neurosuper.study.run.make_report", fail)
    with pytest.raises(
        RuntimeError, match=r"there is no report \(KeyError: 'figure'\); all numbers are in .*study\.nc"
    ):
        run_study(small)
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["cache", "registry.json", "study.nc"], "no page of another run"
    xr.testing.assert_identical(xr.load_dataset(folder / "study.nc").drop_attrs(), expected.drop_attrs())


def test_where_the_folder_is_full_all_is_kept_elsewhere_and_the_last_results_stay(small, monkeypatch, tmp_path):
    run_study(small)
    folder, elsewhere = small.parent / "study_output", tmp_path / "elsewhere"
    elsewhere.mkdir()
    before = {name: (folder / name).read_bytes() for name in ("study.nc", "report.html")}
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    write = xr.Dataset.to_netcdf

    def full(self, path, *args, **kwargs):
        if "interpretability" in self and Path(path).is_relative_to(folder):
            raise OSError(28, "No space left on device")
        return write(self, path, *args, **kwargs)

    monkeypatch.setattr(xr.Dataset, "to_netcdf", full)
    with pytest.raises(OSError, match="cannot write to .*study_output: No space left on device.* all results are in"):
        run_study(small)
    assert {name: (folder / name).read_bytes() for name in before} == before
    (kept,) = elsewhere.glob("neurosuper-*")
    assert sorted(path.name for path in kept.iterdir()) == ["report.html", "study.nc"]
    monkeypatch.setattr(
        xr.Dataset, "to_netcdf", lambda *_args, **_kwargs: full(xr.Dataset({"interpretability": 0}), folder)
    )
    with pytest.raises(OSError, match="No space left on device"):
        publish(folder, {"study.nc": lambda path: xr.Dataset().to_netcdf(path)}, lambda: "")


def test_files_of_numbers_are_replaced_together_or_not_at_all(tmp_path):
    def full(_path):
        raise OSError("No space left on device")

    names = ["study.nc", "superposition.nc", "report.html"]
    for name in names:
        (tmp_path / name).write_text("earlier")
    write = {name: lambda path: path.write_text("new") for name in names[:2]}
    with pytest.raises(OSError, match="No space left on device"):
        publish(tmp_path, write | {"superposition.nc": full}, lambda: "page")
    assert [(tmp_path / name).read_text() for name in names] == ["earlier"] * 3
    publish(tmp_path, write, lambda: "page")
    assert [(tmp_path / name).read_text() for name in names] == ["new", "new", "page"]
    publish(tmp_path, {"study.nc": write["study.nc"]}, lambda: "page")
    assert not (tmp_path / "superposition.nc").exists()


def test_directions_found_before_a_failure_are_kept_until_a_run_succeeds(small, monkeypatch):
    fit, fits = KMeans.fit, []

    def fail_in_the_second_seed(self, responses):
        fits.append(self.random_state)
        if self.random_state == 1:
            raise MemoryError
        return fit(self, responses)

    monkeypatch.setattr(KMeans, "fit", fail_in_the_second_seed)
    with pytest.raises(MemoryError) as caught:
        run_study(small)
    unfinished = small.parent / "study_output" / "unfinished.nc"
    assert caught.value.__notes__ == [f"(the directions found before are in {unfinished})"]
    with xr.open_dataarray(unfinished, group="directions/brain/KMeans 4/seed 0") as directions:
        assert directions.sizes == {"direction": 4, "unit": 5}
    assert xr.load_dataset(unfinished).format_version == FORMAT_VERSION
    monkeypatch.setattr(KMeans, "fit", fit)
    run_study(small)
    assert sorted(path.name for path in unfinished.parent.iterdir()) == FILES


def test_a_second_run_warns_that_it_waits(tmp_path):
    (tmp_path / "cache").mkdir()
    with (
        FileLock(tmp_path / "cache" / "study.lock"),
        pytest.raises(UserWarning, match="another run writes to .*; waiting until it ends"),
        lock_folder(tmp_path),
    ):
        pass
    with lock_folder(tmp_path), FileLock(tmp_path / "other.lock"):
        pass


def test_what_killed_runs_left_is_removed(tmp_path):
    part = "a.npz.another-machine.1.0f.part"
    for path in (tmp_path / ".writing-1" / "study.nc", tmp_path / "cache" / part, tmp_path / "cache" / "a.npz"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with lock_folder(tmp_path):
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.npz", "cache", "study.lock"]


KILLS = """
import os, pathlib, signal, sys, warnings
warnings.simplefilter("ignore")
from neurosuper import run_study

study, moments = sys.argv[1], int(sys.argv[2])
for moment in range(moments):
    pid = os.fork()
    if pid == 0:
        calls = []

        def dies(function):
            def call(path, *args, **kwargs):
                calls.extend([path] * (path.name in ("study.nc", "report.html")))
                if len(calls) > moment:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(path, *args, **kwargs)
            return call

        pathlib.Path.replace, pathlib.Path.unlink = dies(pathlib.Path.replace), dies(pathlib.Path.unlink)
        run_study(study, f"{study}_{moment}")
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_at_any_moment_leaves_no_page_with_numbers_of_another_run(small):
    """Killed before it deletes the page of an earlier run, moves its numbers, and moves its page; then run again."""
    small.write_text(small.read_text().replace("seeds = [0, 1]", "seeds = [0]"))
    expected, moments = run_study(small), 3
    folders = [Path(f"{small}_{moment}") for moment in range(moments)]
    for folder in folders:
        folder.mkdir()
        (folder / "study.nc").write_text("numbers of an earlier run")
        (folder / "report.html").write_text("report of an earlier run")
    subprocess.run([sys.executable, "-c", KILLS, str(small), str(moments)], check=True)
    seen = []
    for folder in folders:
        earlier = (folder / "study.nc").read_bytes() == b"numbers of an earlier run"
        seen.append((earlier, (folder / "report.html").exists()))
    assert seen == [(True, True), (True, False), (False, False)]
    result = run_study(small, folders[2])
    xr.testing.assert_identical(result.drop_attrs(), expected.drop_attrs())
    assert sorted(path.name for path in folders[2].iterdir()) == FILES


def test_values_of_environment_variables_are_not_stored(small, monkeypatch):
    secret = small.parent / "patient-0042"
    secret.mkdir()
    (small.parent / "brain.npy").rename(secret / "brain.npy")
    monkeypatch.setenv("PLACE", secret.name)
    small.write_text(small.read_text().replace('"brain.npy"', '"$PLACE/brain.npy"'))
    folder = Path(run_study(small).encoding["source"]).parent
    for path in (folder / "study.nc", folder / "report.html"):
        assert secret.name.encode() not in path.read_bytes()
    assert "$PLACE/brain.npy" in (folder / "report.html").read_text()
