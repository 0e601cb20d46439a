"""A complete analysis offline: a simulated recording and a small network, from files to a report."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import xarray as xr

from neurosuper.demo.simulate import image_features, plant_directions, record, save_photographs
from neurosuper.images import load_images
from neurosuper.metrics.lpips import hub_file
from neurosuper.study import run_study

__all__ = ["run_demo"]


def run_demo(output: str | Path, lpips_weights: str | Path | None = None) -> xr.Dataset:
    """Return the results of the demo study, after writing its inputs and running it.

    Writes into `output`: photographs (`images/`), the simulated recording (`population.nwb`), its planted directions
    (`planted.nc`), and the study (`study.toml`), which then runs like any other study and gives `study.nc` and
    `report.html`.

    Parameters
    ----------
    output : path
        Folder for all files; it is created if it does not exist.
    lpips_weights : path, optional
        Weights of LPIPS's AlexNet trunk (.pth or .npz). By default the weights in torch's cache; if there are none,
        LPIPS is left out, and the report says so.

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
    save_photographs(folder / "images")
    features = image_features(load_images(folder / "images"))
    planted = plant_directions(features)
    planted.to_netcdf(folder / "planted.nc")
    record(features, planted, folder / "population.nwb")
    (folder / "study.toml").write_text(_study_text(lpips_weights), encoding="utf-8")
    return run_study(folder / "study.toml", folder)


def _study_text(lpips_weights: str | Path | None) -> str:
    """Return the text of the study file, with LPIPS if its weights are on disk."""
    text = resources.files("neurosuper.demo").joinpath("demo.toml").read_text(encoding="utf-8")
    weights = Path(lpips_weights) if lpips_weights is not None else hub_file("alex")
    if lpips_weights is None and not weights.is_file():
        return text.replace("LPIPS_NOTE", f"LPIPS was left out: its weights are not on this disk ({weights.name}).")
    text = text.replace("LPIPS_NOTE", f"LPIPS was added: its weights are on this disk ({weights.name}).")
    return f"{text}\n[metrics.LPIPS]\nnet = \"alex\"\nweights = '{weights.resolve()}'\n"
