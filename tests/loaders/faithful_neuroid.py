"""Assemblies as written by brainio's `write_netcdf`: MultiIndexes reset, one variable "data", all compressed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

DIMS = ("neuroid", "presentation", "time_bin")


def neuroids(n_v4: int, n_it: int) -> dict[str, list]:
    """Return the properties of each neuroid in MajajHong2015, IT first."""
    return {
        "neuroid_id": [f"Chabo_L_M_5_{i}" for i in range(n_it)] + [f"Tito_L_P_8_{i}" for i in range(n_v4)],
        "arr": ["M"] * n_it + ["P"] * n_v4,
        "col": list(range(n_it + n_v4)),
        "hemisphere": ["L"] * (n_it + n_v4),
        "animal": ["Chabo"] * n_it + ["Tito"] * n_v4,
        "x": np.linspace(-1.8, 1.8, n_it + n_v4).tolist(),
        "region": ["IT"] * n_it + ["V4"] * n_v4,
    }


def write_assembly(
    path: Path,
    values: np.ndarray,
    presentation: Mapping[str, Sequence],
    neuroid: Mapping[str, Sequence],
    bins: Sequence[tuple[int, int]] = ((70, 170),),
    *,
    dims: Sequence[str] = DIMS,
    name: str = "data",
    squeeze: bool = False,
    attrs: Mapping[str, str] | None = None,
) -> Path:
    """Write values (neuroid, presentation, time bin) and the properties of each, bins in ms."""
    properties = {"neuroid": neuroid, "presentation": presentation}
    properties["time_bin"] = {"time_bin_start": [start for start, _ in bins], "time_bin_end": [end for _, end in bins]}
    assembly = xr.DataArray(
        values,
        dims=DIMS,
        coords={name: (dim, list(column)) for dim, columns in properties.items() for name, column in columns.items()},
        attrs=attrs or {"stimulus_set_identifier": "dicarlo.hvm-public", "identifier": "dicarlo.MajajHong2015.public"},
    )
    assembly = assembly.set_index({dim: list(columns) for dim, columns in properties.items() if len(columns) > 1})
    assembly = assembly.reset_index([dim for dim in DIMS if dim in assembly.indexes]).transpose(*dims)
    data = (assembly.squeeze("time_bin") if squeeze else assembly).to_dataset(name=name)
    data.to_netcdf(path, encoding={key: {"zlib": True, "complevel": 1} for key in data.variables})
    return path


def factors(n: int) -> dict[str, list]:
    """Return the columns of the stimulus set of MajajHong2015 that say what an image shows, of n images.

    Position (ty, tz), size (s) and pose (rxy, rxz, ryz) of the object, its background, and how much these vary.
    """
    rng = np.random.default_rng(3)
    numbers = {name: rng.uniform(-1, 1, n).round(6).tolist() for name in ("s", "ty", "tz", "rxy", "rxz", "ryz")}
    return numbers | {
        "background_id": [f"ecd{i % 4}0a" for i in range(n)],
        "variation": [3 * (i % 3) for i in range(n)],
        "size": [256.0] * n,
    }


def write_stimulus_set(
    path: Path, stimuli: Sequence[str], categories: Sequence[str], more: Mapping[str, Sequence] | None = None
) -> Path:
    """Write the table of stimuli of an assembly: ids are hashes, files are named by their content."""
    table = {
        "id": range(1, len(stimuli) + 1),
        "stimulus_id": stimuli,
        "category_name": categories,
        "filename": [f"astra_rx+00.{i:03d}_{label}_256x256.png" for i, label in enumerate(stimuli)],
        **(more or {}),
    }
    pd.DataFrame(table).to_csv(path, index=False)
    return path
