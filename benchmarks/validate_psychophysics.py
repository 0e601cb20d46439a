"""Machine psychophysics of items that ignore the images: the accuracy of each design, and its interval."""

from __future__ import annotations

import warnings

import numpy as np
import xarray as xr
from scipy.spatial import distance
from validation_tables import Mean, Run, print_table

import neurosuper as ns

N_STIMULI, N_ITEMS = 400, 20
DESIGNS = {
    "imi": {"design": "imi"},
    "scripts": {"design": "scripts"},
    "mis": {"design": "mis"},
    "paper": {"design": "paper"},
}


def study_design(study: tuple[str, int]) -> list[tuple[float, float, float, float]]:
    """Return mean accuracy, share of intervals that contain ½, and both of items with one preference for plain images.

    One for each quantile of the design.
    """
    name, seed = study
    rng = np.random.default_rng([seed, 12])
    contrast, labels = rng.lognormal(0, 0.5, (N_STIMULI, 1)), [f"s{i:03d}" for i in range(N_STIMULI)]
    table = distance.squareform(distance.pdist(contrast * rng.normal(size=(N_STIMULI, 6))))
    metric = ns.Precomputed(xr.DataArray(table, {"stimulus": labels, "other": labels}, ("stimulus", "other")))
    blank = np.zeros((N_STIMULI, 1, 1, 3), np.uint8)
    images = xr.DataArray(blank, {"stimulus": labels}, ("stimulus", "row", "column", "channel"))
    coords = {"stimulus": labels, "unit": [f"u{i}" for i in range(N_ITEMS)]}
    codes = xr.DataArray(rng.normal(size=(N_STIMULI, N_ITEMS)), coords, ("stimulus", "unit"))
    found = []
    for given in (codes, codes - 2 * np.log(contrast)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answers = ns.psychophysics(given, images, metric, random_state=seed, **DESIGNS[name])
        contains = (answers.accuracy_low <= 0.5) & (answers.accuracy_high >= 0.5)
        found.append((answers.accuracy.mean("unit").values, contains.mean("unit").values))
    (accuracy, contains), (plain, _) = found
    return list(zip(answers["quantile"].values, accuracy, contains, plain, strict=True))


def print_tables(n_studies: int, run: Run = map) -> None:
    """Print the accuracy of each design where chance is ½."""
    rows = {}
    for name in DESIGNS:
        studies = np.array(list(run(study_design, [(name, i) for i in range(n_studies)])))
        for quantile, accuracy, contains, plain in np.moveaxis(studies, 1, 0).transpose(0, 2, 1):
            row = f"“{name}”" + (f", {quantile[0]:.0%} of stimuli left out" if quantile[0] else "")
            rows[row] = [Mean.of(100 * each, 1) for each in (accuracy, contains, plain)]
    print_table(
        "Machine psychophysics of items that ignore the images",
        f"{n_studies} studies of {N_STIMULI} stimuli and {N_ITEMS} items in each row, 20 trials of 9 references. "
        "Chance is 50 %; an interval of 20 independent trials contains it in at least 95 % of items. Last column: "
        "items that all prefer plain images, and nothing else.",
        ("design", "accuracy, %", "intervals with 50 %, %", "accuracy with a preference for plain images, %"),
        rows,
    )
