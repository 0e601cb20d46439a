"""Each command prints what it found; any error is one line and status 2."""

import datetime
import io
import logging
import os
import subprocess
import sys

import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image
from pynwb import NWBHDF5IO, NWBFile

from neurosuper.cli import main


def test_run_prints_the_headline_and_the_paths_of_the_outputs(study, capsys):
    assert main(["run", str(study)]) == 0
    out = capsys.readouterr().out
    assert " by color (hub-corrected): " in out
    assert "Differences of the mean index over the items of seed " in out
    assert f"report:  {study.parent / 'study_output' / 'report.html'}" in out
    assert f"numbers: {study.parent / 'study_output' / 'study.nc'}" in out


def test_output_folder_can_be_given(study, tmp_path, capsys):
    assert main(["run", str(study), "--output", str(tmp_path / "here")]) == 0
    assert (tmp_path / "here" / "report.html").exists()


def test_an_error_is_one_line_without_traceback(study, capsys):
    (study.parent / "brain.npy").write_bytes(b"not numpy")
    assert main(["run", str(study)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("neurosuper: ")
    assert "brain.npy" in error


def test_an_interruption_says_what_is_kept(study, capsys, monkeypatch):
    def interrupt(*_args, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("neurosuper.study.build.load_images", interrupt)
    assert main(["run", str(study)]) == 130
    assert capsys.readouterr().err.endswith(
        "neurosuper: interrupted; activations (and embeddings with cache_embeddings, fits with a checkpoint) are kept; "
        "the rest starts again if you run the same command\n"
    )
    monkeypatch.setattr("neurosuper.datasets.fetch", interrupt)
    assert main(["fetch", "nsd"]) == 130
    assert "the same command continues where it stopped" in capsys.readouterr().err
    monkeypatch.setattr("neurosuper.datasets.cite", interrupt)
    assert main(["cite", "nsd"]) == 130
    assert capsys.readouterr().err == "neurosuper: interrupted\n"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["demo", "--help"], ["--version"]])
def test_help_needs_no_heavy_import(arguments):
    code = f"""
import sys
from neurosuper.cli import main
try:
    main({arguments!r})
finally:
    assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "neurosuper" in done.stdout


class Stop(BaseException):
    """An error of user code that `except Exception` does not catch."""


@pytest.fixture
def failing(monkeypatch):
    """Make every study raise an error."""

    def fail(error):
        def run(*_args, **_settings):
            raise error

        monkeypatch.setattr("neurosuper.study.run_study", run)
        return ["run", "study.toml"]

    return fail


@pytest.mark.parametrize(
    "error",
    [
        KeyError("conv1"),
        AssertionError(),
        AssertionError("224 rows\nare needed"),
        AttributeError("no weights"),
        MemoryError(),
        RecursionError("maximum depth"),
        UserWarning("a warning that is an error"),
        StopIteration(),
        SystemExit("no GPU"),
        SystemExit(),
        Stop("enough"),
        ValueError(),
        BrokenPipeError("of a worker"),
    ],
)
def test_any_error_becomes_one_line_and_status_2(error, failing, capsys):
    assert main(failing(error)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("neurosuper: ")
    assert " ".join(str(error).split()).strip("'") in line
    assert (type(error).__name__ in line) or str(error)


def test_notes_and_unprintable_characters_stay_in_the_line(failing, capsys):
    error = ValueError("red \x1b[31m\nname\u202e")
    error.add_note("(the directions are\nkept)")
    assert main(failing(error)) == 2
    assert capsys.readouterr().err == "neurosuper: red \\x1b[31m name\\u202e (the directions are kept)\n"


def test_traceback_shows_where_an_error_came_from(failing, capsys):
    with pytest.raises(KeyError, match="conv1"):
        main(["--traceback", *failing(KeyError("conv1"))])
    assert main(["--traceback", *failing(SystemExit(3))]) == 2
    assert "in run" in capsys.readouterr().err


def test_closing_the_output_early_is_no_error():
    command = f"{sys.executable} -m neurosuper.cli info nsd"
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_terminal_without_unicode_is_written_to(monkeypatch, failing):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr("neurosuper.datasets.info", lambda dataset: "4 × 5 − 1")
    assert main(["info", "nsd"]) == 0
    assert stream.buffer.getvalue() == b"4 \\xd7 5 \\u2212 1\n"


def test_options_may_be_given_before_or_after_the_command(study, capsys):
    for arguments in (["-q", "run", str(study)], ["run", "-q", str(study)]):
        assert main(arguments) == 0
        assert capsys.readouterr().err == ""
    with pytest.raises(SystemExit):
        main(["run", str(study), "-q", "-v"])


def test_a_run_says_what_it_will_do_and_how_long_that_took_last(study, capsys):
    assert main(["run", str(study)]) == 0
    first = capsys.readouterr()
    assert "3 systems: brain (40 stimuli × 5 units), net first (40 stimuli × 6 units)" in first.err
    assert "3 finders: Units, KMeans 4, CovarianceMatched; 2 seeds: 0, 1; so at most 18 fits" in first.err
    assert "no earlier run in this folder" in first.err
    assert "stimuli ×" not in first.out  # results only
    assert "activations of Sequential (first, second) to 40 images" in first.err
    assert "items by color on" in first.err
    assert "seed 1: brain by KMeans 4" not in first.err
    assert main(["run", str(study), "-v"]) == 0
    second = capsys.readouterr()
    assert " s before its report (images " in second.err
    assert "seed 1: brain by KMeans 4" in second.err


def test_logging_and_environment_are_as_before_after_a_command(study, monkeypatch):
    logger = logging.getLogger("neurosuper")
    before = logger.level, list(logger.handlers), dict(os.environ)
    assert main(["-v", "cite", "nsd"]) == 0
    assert main(["run", "-q", str(study.with_name("absent.toml"))]) == 2
    assert (logger.level, list(logger.handlers), dict(os.environ)) == before


@pytest.mark.parametrize(("option", "shown"), [([], None), (["-q"], "1"), (["-v"], "0")])
def test_verbosity_decides_on_progress_bars(option, shown, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    seen = []
    monkeypatch.setattr("neurosuper.datasets.info", lambda dataset: seen.append(os.environ.get("TQDM_DISABLE")))
    assert main(["info", "nsd", *option]) == 0
    assert seen == [shown]


def test_the_report_is_written_again_from_the_numbers(study, capsys, monkeypatch):
    assert main(["run", str(study), "-q"]) == 0
    page = study.parent / "study_output" / "report.html"
    written = page.read_text()
    page.unlink()
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["report", str(page.with_name("study.nc")), "--open"]) == 0
    assert page.read_text() == written
    assert opened == [page.as_uri()]
    assert capsys.readouterr().out.endswith(f"report:  {page}\n")


def test_a_report_of_images_that_were_moved_needs_their_place(study, capsys):
    assert main(["run", str(study), "-q"]) == 0
    numbers = study.parent / "study_output" / "study.nc"
    (study.parent / "images").rename(study.parent / "moved")
    assert main(["report", str(numbers)]) == 2
    assert "give images= (--images), where the images of study.nc are now" in capsys.readouterr().err
    assert main(["report", str(numbers), "--images", str(study.parent / "moved")]) == 0


def test_a_file_that_is_no_result_has_no_report(tmp_path, capsys):
    xr.Dataset({"a": 1}).to_netcdf(tmp_path / "other.nc")
    assert main(["report", str(tmp_path / "other.nc")]) == 2
    assert "other.nc is not a study.nc" in capsys.readouterr().err


def test_inspect_shows_what_each_kind_of_file_contains(study, capsys):
    assert main(["run", str(study), "-q"]) == 0
    capsys.readouterr()
    folder = study.parent
    np.savez(folder / "two.npz", rates=np.zeros((3, 4)), times=np.zeros(5))
    for name, expected in {
        "brain.npy": "brain.npy: 1 array",
        "two.npz": "dims=('unit', 'stimulus'), stimuli=[str(i) for i in range(4)], variable='rates')",
        "planted.nc": "(direction, unit)",
        "images": "40 images, labelled 'photo00', 'photo01'",
        "study_output/study.nc": "results of the study 'A small study', written 20",
    }.items():
        assert main(["inspect", str(folder / name)]) == 0
        assert expected in capsys.readouterr().out
    assert main(["inspect", str(folder / "nowhere")]) == 2
    (folder / "cut.npz").write_bytes((folder / "two.npz").read_bytes()[:50])
    assert main(["inspect", str(folder / "cut.npz")]) == 2
    error = capsys.readouterr().err.splitlines()
    assert "no file or folder" in error[0]
    assert "cut.npz" in error[1]


@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        ((5, 40), ("unit", "stimulus")),
        ((5, 40, 3), ("unit", "stimulus", "repetition")),
        ((5, 3, 40), ("unit", "repetition", "stimulus")),
        ((2, 5, 40), ("repetition", "unit", "stimulus")),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_the_call_that_inspect_shows_loads_a_matrix_with_or_without_repetitions(shape, dims, suffix, tmp_path, capsys):
    values = np.random.default_rng(0).gamma(1, 5, shape)
    path = tmp_path / f"responses{suffix}"  # a proposal of more formats: tests/loaders/test_file_contents.py
    if suffix == ".npy":
        np.save(path, values)
    else:
        np.savez(path, onsets=np.arange(40.0), rates=values)
    assert main(["inspect", str(path)]) == 0
    found: dict = {}
    exec("\n".join(line.strip() for line in capsys.readouterr().out.splitlines()[-2:]), found)
    loaded = found["responses"]
    assert loaded.stimulus.values.tolist() == [str(i) for i in range(40)]
    np.testing.assert_allclose(loaded.transpose(*dims).values, values, rtol=1e-6)


def test_inspecting_results_shows_items_and_headline(study, capsys):
    assert main(["run", str(study), "-q"]) == 0
    headline = capsys.readouterr().out.splitlines()[1]
    assert main(["inspect", str(study.parent / "study_output" / "study.nc")]) == 0
    out = capsys.readouterr().out
    assert headline in out
    assert "Metrics: color, Pixel" in out


def test_inspect_takes_a_companion_of_an_nwb_file_only(tmp_path, monkeypatch, capsys):
    found = "neurosuper.study.contents.inspect_nwb"
    monkeypatch.setattr(found, lambda path, *, companion: f"{path.name} with {companion.name}")
    for name in ("a.nwb", "a.npy"):
        (tmp_path / name).touch()
    companion = ["--companion", str(tmp_path / "b.nwb")]
    assert main(["inspect", str(tmp_path / "a.nwb"), *companion]) == 0
    assert capsys.readouterr().out == "a.nwb with b.nwb\n"
    assert main(["inspect", str(tmp_path / "a.npy"), *companion]) == 2
    assert capsys.readouterr().err == "neurosuper: a companion is for an NWB file, and a.npy is none; leave it out\n"


@pytest.mark.parametrize(("same", "status"), [(True, 0), (False, 1)])
def test_reproduce_prints_what_was_found_and_its_status_tells_whether_numbers_differ(same, status, monkeypatch, capsys):
    class Found(str):
        __slots__ = ("same",)

    def reproduce(path, *, folder, trust):
        found = Found(f"{path} in {folder}, trusted {trust}")
        found.same = same
        return found

    monkeypatch.setattr("neurosuper.study.reproduce", reproduce, raising=False)
    assert main(["reproduce", "study.nc", "--folder", "here", "--trust"]) == status
    assert capsys.readouterr().out == "study.nc in here, trusted True\n"


def test_a_study_goes_from_data_to_a_report_that_is_reproduced_and_a_changed_value_is_found(
    study, tmp_path, monkeypatch, capsys
):
    """The five commands in turn, on the files that the ones before have written."""
    monkeypatch.setattr("neurosuper.study.template.hub_file", lambda net: tmp_path / "absent.pth")  # LPIPS takes long
    file, numbers = study.parent / "mine.toml", study.parent / "mine_output" / "study.nc"
    new = ["new", str(study.parent / "brain.npy"), "--images", str(study.parent / "images"), "--output", str(file)]
    assert main(new) == 0
    assert f"neurosuper check {file}\n  neurosuper run {file}" in capsys.readouterr().out
    assert main(["check", str(file), "-q"]) == 0
    out = capsys.readouterr().out
    assert "mine.toml can be run." in out
    assert "Estimate for this machine: about" in out
    assert not numbers.exists()
    assert main(["run", str(file), "-q"]) == 0
    assert f"numbers: {numbers}" in capsys.readouterr().out
    page = numbers.with_name("report.html")
    written = page.read_text()
    assert "<title>Units and directions of brain</title>" in written
    page.unlink()
    assert main(["report", str(numbers)]) == 0
    assert page.read_text() == written
    capsys.readouterr()
    assert main(["reproduce", str(numbers), "-q"]) == 0
    out = capsys.readouterr().out
    assert f"{numbers} is reproduced: " in out
    assert "Changed since" not in out
    with netCDF4.Dataset(numbers, "a") as results:
        of_kmeans = results["finder"][:].tolist().index("KMeans")
        results["interpretability"][of_kmeans, 0] += 0.5
    assert main(["reproduce", str(numbers), "-q"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"{numbers} is not reproduced: 1 of " in lines[0]
    (row,) = [line.split() for line in lines if line.split()[:1] == ["interpretability"]]
    assert row[1:4] == ["Color", "brain", "KMeans"]
    assert float(row[6]) == pytest.approx(0.5, rel=1e-5)


def test_scores_are_exported_as_a_flat_table(study, capsys):
    assert main(["run", str(study), "-q"]) == 0
    numbers = study.parent / "study_output" / "study.nc"
    assert main(["export", str(numbers), str(study.parent / "scores.csv")]) == 0
    table = pd.read_csv(study.parent / "scores.csv")
    with xr.open_dataset(numbers) as result:
        np.testing.assert_allclose(table.interpretability, result.interpretability.values.ravel())
    assert main(["export", str(numbers), str(study.parent / "scores.csv")]) == 2
    assert "scores.csv exists already; name another file" in capsys.readouterr().err
    assert main(["export", str(numbers), str(study.parent / "scores.xlsx")]) == 2
    assert "ends in .csv, .parquet or .nwb" in capsys.readouterr().err


def test_directions_of_a_finder_are_exported_into_the_recording(study, monkeypatch, capsys):
    assert main(["run", str(study), "-q"]) == 0
    numbers, target = study.parent / "study_output" / "study.nc", study.parent / "session.nwb"
    written = []
    monkeypatch.setattr("neurosuper.export.write_nwb", lambda *given, **settings: written.append((given, settings)))
    command = ["export", str(numbers), str(target)]
    assert main(command) == 2
    assert main([*command, "--system", "brain", "--finder", "ICA"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert "give system and finder" in error[0]
    assert "no directions of 'ICA' in 'brain'" in error[1]
    assert "'KMeans 4' in 'brain'" in error[1]
    assert main([*command, "--system", "brain", "--finder", "KMeans 4"]) == 0
    (((path, directions), settings),) = written
    assert (path, settings["module"]) == (target, "neurosuper KMeans 4")
    with xr.open_dataarray(numbers, group="directions/brain/KMeans 4/seed 0") as expected:
        xr.testing.assert_identical(directions, expected)
    scores = settings["comparison"]
    assert scores.sizes["item"] == 4 + 5
    assert set(scores.system.values) == {"brain"}
    assert set(scores.seed.values) == {0}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_name_every_command(shell, capsys):
    pytest.importorskip("shtab")
    assert main(["completions", shell]) == 0
    script = capsys.readouterr().out
    for command in ("new", "check", "run", "report", "inspect", "reproduce", "export", "fetch"):
        assert command in script


def test_completions_without_shtab_say_how_to_install_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completions", "bash"]) == 2
    assert "pip install 'neurosuper[completions]'" in capsys.readouterr().err


def test_a_recording_is_inspected_made_a_study_and_checked(tmp_path, capsys, rng):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(30):
        Image.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8)).save(photos / f"photo{i:02d}.png")
    nwb = NWBFile("planted", "session", datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC))
    nwb.add_trial_column("image", "file")
    for trial, i in enumerate(rng.permutation(np.repeat(np.arange(30), 3))):
        nwb.add_trial(start_time=float(trial), stop_time=trial + 0.4, image=f"photo{i:02d}")
    for _unit in range(6):
        nwb.add_unit(spike_times=np.sort(rng.uniform(0, 90, 2000)))
    with NWBHDF5IO(tmp_path / "session.nwb", "w") as file:
        file.write(nwb)
    study = tmp_path / "study.toml"
    assert main(["inspect", str(tmp_path / "session.nwb")]) == 0
    assert main(["new", str(tmp_path / "session.nwb"), "--images", str(photos), "--output", str(study)]) == 0
    assert f"neurosuper run {study}" in capsys.readouterr().out
    assert main(["check", str(study), "-q"]) == 0
    assert "study.toml can be run." in capsys.readouterr().out
    assert main(["new", str(tmp_path / "session.nwb"), "--images", str(photos), "--output", str(study)]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.slow
def test_from_a_real_recording_to_a_report(real_data, tmp_path, capsys):
    source, images = real_data / "v4" / "responses_avg_210325.npy", real_data / "v4" / "images_210325.zip"
    study = tmp_path / "study.toml"
    assert main(["new", str(source), "--images", str(images), "--output", str(study)]) == 0
    assert main(["check", str(study), "-q"]) == 0
    assert "responses_avg_210325 640 0 320 50 0" in " ".join(capsys.readouterr().out.split())
    assert main(["run", str(study), "-q"]) == 0
    assert main(["report", str(tmp_path / "study_output" / "study.nc"), "--images", str(images)]) == 0
