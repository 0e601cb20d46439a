"""A complete analysis without data of your own: a simulated recording and a small network, from files to a report."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import xarray as xr

from neurosuper._checks import one_line
from neurosuper._optional import require
from neurosuper.demo.simulate import image_features, plant_directions, record, save_photographs, sort_photographs
from neurosuper.export import tidy, write_nwb
from neurosuper.images import load_images
from neurosuper.metrics.lpips import Net, fetch_trunk, hub_file
from neurosuper.study import read_directions, run_study

__all__ = ["run_demo"]

TIMEOUT = 3.0  # seconds that a server has to respond, so that a machine without a connection does not wait


def run_demo(output: str | Path, lpips_weights: str | Path | None = None, *, offline: bool = False) -> xr.Dataset:
    """Return the results of the demo study, after writing its inputs and running it.

    Writes into `output`: photographs (`images/`, in a folder for each planted feature), the simulated recording
    (`population.nwb`), its planted directions (`planted.nc`), and the study (`study.toml`), which then runs like any
    other study and gives `study.nc`, `superposition.nc` and `report.html`. The scores are also written as a table
    (`scores.csv`), and the directions of K-means next to the spikes (`results.nwb`).

    Parameters
    ----------
    output : path
        Folder for all files; it is created if it does not exist.
    lpips_weights : path, optional
        Weights of LPIPS's AlexNet trunk (.pth or .npz). None: the weights in torch's hub folder; if there are none,
        those of SqueezeNet are fetched (5 MB), unless `offline`. LPIPS is left out, and the report says why, if they
        cannot be fetched or the extra `lpips` is not installed.
    offline : bool, optional
        Open no connection.

    Returns
    -------
    Dataset (item, metric)
        See `run_study`.

    See Also
    --------
    run_study : Run a study file of your own.
    neurosuper.demo.brains.write_brains : Write small datasets in the layout of published ones.

    Examples
    --------
    >>> results = run_demo("demo")  # doctest: +SKIP
    """
    folder = Path(output).resolve()
    shutil.rmtree(folder / "images", ignore_errors=True)
    save_photographs(folder / "images")
    features = image_features(load_images(folder / "images"))
    sort_photographs(folder / "images", features)
    planted = plant_directions(features)
    planted.to_netcdf(folder / "planted.nc")
    record(features, planted, folder / "population.nwb")
    (folder / "study.toml").write_text(_study_text(lpips_weights, offline), encoding="utf-8")
    results = run_study(folder / "study.toml", folder)
    tidy(results).to_csv(folder / "scores.csv", index=False)
    shutil.copyfile(folder / "population.nwb", folder / "results.nwb")
    write_nwb(folder / "results.nwb", read_directions(folder / "study.nc", "Simulated population", "KMeans"))
    return results


def _study_text(lpips_weights: str | Path | None, offline: bool) -> str:
    """Return the text of the study file, with LPIPS if it is available."""
    text = resources.files("neurosuper.demo").joinpath("demo.toml").read_text(encoding="utf-8")
    try:
        net, weights = _find_lpips(lpips_weights, offline)
    except (ImportError, FileNotFoundError) as error:
        return text.replace("LPIPS_NOTE", f"LPIPS was left out: {one_line(error)}.")
    text = text.replace("LPIPS_NOTE", f"LPIPS was added ({net}, {weights.name}).")
    return f"{text}\n[metrics.LPIPS]\nnet = \"{net}\"\nweights = '{weights.resolve()}'\n"


def _find_lpips(given: str | Path | None, offline: bool) -> tuple[Net, Path]:
    """Return a trunk and its weights: those that are given, or on this disk, or else the smallest, fetched."""
    for package in ("torchvision", "lpips"):
        require(package, "lpips")
    if given is not None:
        return "alex", Path(given)
    for net in ("alex", "squeeze"):
        if hub_file(net).is_file():
            return net, hub_file(net)
    if offline:
        raise FileNotFoundError("its weights are not on this disk, and offline=True forbids to fetch them")
    try:
        return "squeeze", fetch_trunk("squeeze", timeout=TIMEOUT)
    except FileNotFoundError as error:
        remedy = "neurosuper demo --lpips-weights FILE reads AlexNet's"
        raise FileNotFoundError(f"its weights are not on this disk and cannot be fetched; {remedy}") from error
