"""The sizes of the systems of a study, from its recordings, and from what networks answer to a few images."""

from __future__ import annotations

from typing import Any

import pandas as pd
import xarray as xr

from neurosuper._joins import LEFT_OUT
from neurosuper.responses import constant_items
from neurosuper.study.build import load_fit_on_images, refuse_equal_names
from neurosuper.study.file import Study
from neurosuper.study.references import References
from neurosuper.study.timings import time_load
from neurosuper.study.write import describe_selected

__all__ = ["measure_systems"]

N_PILOT_IMAGES = 24  # shown to networks


def measure_systems(
    study: Study, images: xr.DataArray, files: References
) -> tuple[pd.DataFrame, list[str], xr.DataArray | None]:
    """Return the sizes of all systems, how units were selected, and the largest recording (None if all are networks).

    Networks see a few images; `seconds` is the time that they will take for the others.
    """
    rows: dict[str, dict[str, Any]] = {}
    largest: xr.DataArray | None = None
    selected: list[str] = []
    for name, table in study.systems.items():
        alone = study.model_copy(update={"systems": {name: table}})
        if table.get("loader") == "activations":
            rows |= _measure_network(name, alone, images, files)
            continue
        systems = time_load(alone, images, files)[1]
        selected += describe_selected(systems)
        for system in systems:
            responses = system.responses
            n_constant = len(constant_items(responses))
            n_stimuli, n_units = responses.sizes["stimulus"], responses.sizes["unit"]
            rows[system.name] = {
                "n_stimuli": n_stimuli,
                "n_left_out": int(responses.attrs.get(LEFT_OUT, 0)),
                "n_fit": _count_fit(study, n_stimuli, system.fit_on),
                "n_units": n_units - n_constant,
                "n_constant": n_constant,
                "seconds": 0.0,
            }
            if largest is None or responses.size > largest.size:
                largest = responses
    refuse_equal_names(list(rows))
    return pd.DataFrame.from_dict(rows, orient="index").astype({"n_constant": "Int64"}), selected, largest


def _measure_network(name: str, alone: Study, images: xr.DataArray, files: References) -> dict[str, dict[str, Any]]:
    """Return the sizes of the systems of a network, which sees a few images, and the seconds for all others."""
    table = alone.systems[name]
    few, n_images = min(N_PILOT_IMAGES, images.sizes["stimulus"]), images.sizes["stimulus"]
    others = load_fit_on_images(alone, table, files) if "fit_on" in table else None
    pilot = alone.model_copy(update={"systems": {name: {key: table[key] for key in table if key != "fit_on"}}})
    first, _ = time_load(pilot, images[: few // 4], files)
    seconds, systems = time_load(pilot, images[:few], files)
    per_image = max(seconds - first, 0) / (few - few // 4)
    n_rest = n_images - few + (0 if others is None else others.sizes["stimulus"])
    return {
        system.name: {
            "n_stimuli": n_images,
            "n_left_out": 0,
            "n_fit": _count_fit(alone, n_images, others),
            "n_units": system.responses.sizes["unit"],
            "n_constant": pd.NA,
            "seconds": per_image * n_rest / len(systems),
        }
        for system in systems
    }


def _count_fit(study: Study, n_stimuli: int, fit_on: xr.DataArray | None) -> int:
    """Return the number of stimuli that directions are found on."""
    if fit_on is not None:
        return int(fit_on.sizes["stimulus"])
    return n_stimuli if study.score_on == "all" else n_stimuli // 2
