"""Each command prints what it found; any error is one line and status 2."""

import ast
import io
import subprocess
import sys
from pathlib import Path

import pytest

import neurosuper
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


def test_an_interruption_shows_how_to_continue(study, capsys, monkeypatch):
    def interrupt(source):
        raise KeyboardInterrupt

    monkeypatch.setattr("neurosuper.study.build.load_images", interrupt)
    assert main(["run", str(study)]) == 130
    assert "run the same command again to continue where it stopped" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["demo", "--help"], ["--version"]])
def test_help_needs_no_heavy_import(arguments):
    code = f"""
import sys
import neurosuper
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


def test_every_progress_bar_respects_tqdm_disable():
    """`disable=…` would override the environment variable."""
    sources = Path(neurosuper.__file__).parent.rglob("*.py")
    calls = [
        (path.name, keyword.arg)
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "tqdm"
        for keyword in node.keywords
    ]
    assert len(calls) > 10
    assert not [call for call in calls if call[1] == "disable"]
