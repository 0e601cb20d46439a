import subprocess
import sys

import pytest

from neurosuper.cli import main


def test_run_prints_what_was_found_and_where_it_lies(study, capsys):
    assert main(["run", str(study)]) == 0
    out = capsys.readouterr().out
    assert "brain: median index by color, best first:" in out
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


def test_an_interruption_says_how_to_go_on(study, capsys, monkeypatch):
    def interrupt(source):
        raise KeyboardInterrupt

    monkeypatch.setattr("neurosuper.study.load_images", interrupt)
    assert main(["run", str(study)]) == 130
    assert "the same command goes on where it stopped" in capsys.readouterr().err


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
