"""Tutorials: each is a notebook without outputs, paired with a script, and runs from top to bottom."""

import shutil
from pathlib import Path

import jupytext
import nbclient
import nbformat
import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("[0-9]*.ipynb"))
tutorials = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def test_there_are_tutorials():
    assert TUTORIALS


@tutorials
def test_notebook_and_script_have_the_same_cells(path):
    notebook, script = (jupytext.read(file) for file in (path, path.with_suffix(".py")))
    cells = [[(cell.cell_type, cell.source) for cell in pair.cells] for pair in (notebook, script)]
    assert cells[0] == cells[1], f"run: jupytext --sync {path.name}"
    assert not any(cell.get("outputs") for cell in notebook.cells), f"run: jupytext --to ipynb {path.stem}.py"


@pytest.mark.slow
@tutorials
def test_tutorial_runs(path, real_data, tmp_path, monkeypatch):
    """Its claims are assertions: it fails if one is no longer true. It runs in a copy, without earlier results."""
    folder = shutil.copytree(path.parent, tmp_path / "tutorials", ignore=shutil.ignore_patterns("*_output"))
    monkeypatch.setenv("NEUROSUPER_TEST_DATA", str(real_data))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(folder)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert any("image/png" in output.get("data", {}) for cell in code for output in cell.outputs), "no figure shows"
