"""The differences that the documentation claims for macaque V4, computed again: raw, corrected, against each baseline.

    NEUROSUPER_TEST_DATA=… python benchmarks/v4_claims.py

Sessions 201025 and 210325 of Cowley et al. 2023; LPIPS with AlexNet, top 5 photographs, ten splits: directions are
found on one half of the photographs and scored on the other. The photographs of 210325 are grey. Each row is the mean
difference over splits, its standard error (the mean over splits: these share photographs) and twice the median p
(Meinshausen, Meier and Bühlmann 2009). `audit` is what an independent audit of these recordings found with code of its
own, and `apart` the distance between the two in standard errors.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import xarray as xr
from sklearn.base import clone

import neurosuper as ns

TOP, SPLITS = 5, range(10)
SESSIONS = {
    "201025": ("responses_avg_201025.npy", ("unit", "stimulus")),
    "210325": ("responses_raw_210325.npy", ("unit", "stimulus", "repetition")),
}
FINDERS = {
    "Units": ns.Units(),
    "Random": ns.Random(),
    "Exemplars": ns.Exemplars(normalize=True),
    "CovarianceMatched": ns.CovarianceMatched(normalize=True),
    "KMeans": ns.KMeans(),
    "KMeans(center=True)": ns.KMeans(center=True),
    "CovarianceMatched(center=True)": ns.CovarianceMatched(normalize=True, center=True),
}
AUDIT: dict[tuple[str, str, str | None], tuple[float, float] | None] = {  # the audit's difference in each session
    ("KMeans", "Units", None): (0.045, 0.036),
    ("KMeans", "Units", "hub"): (0.017, 0.001),
    ("KMeans", "Random", "hub"): (-0.006, 0.003),
    ("KMeans", "Exemplars", None): (-0.005, 0.002),
    ("KMeans", "CovarianceMatched", None): (0.000, 0.006),
    ("KMeans", "Exemplars", "hub"): None,
    ("KMeans", "CovarianceMatched", "hub"): None,
    ("KMeans(center=True)", "Units", "hub"): (0.059, 0.021),
    ("KMeans(center=True)", "Random", "hub"): (0.037, 0.024),
    ("KMeans(center=True)", "CovarianceMatched(center=True)", "hub"): (0.011, 0.009),
}


def codes_of_splits(responses: xr.DataArray) -> list[dict[str, xr.DataArray]]:
    """Return the codes of every finder on the half of the photographs that it was not fitted on, for each split."""
    found = []
    for seed in SPLITS:
        marked = ns.split_stimuli(responses, random_state=seed)
        fit, score = (marked.sel(stimulus=(marked.split == part).values) for part in ("fit", "score"))
        found.append(
            {name: clone(f).set_params(random_state=seed).fit(fit).transform(score) for name, f in FINDERS.items()}
        )
    return found


def rows_of(data: Path, session: str, place: int) -> None:
    """Print the rows of a session."""
    file, dims = SESSIONS[session]
    images = ns.load_images(data / "v4" / f"images_{session}.zip")
    responses = ns.load_array(data / "v4" / file, dims=dims, stimuli=images, measured_in="spike count")
    if "repetition" in dims:
        responses = ns.average_repetitions(responses)
    lpips = ns.LPIPS("alex", weights=data / "nets" / "alexnet_features_fp16.npz")
    distances = ns.Precomputed(ns.metrics.pairwise_distances(images, lpips))
    splits = codes_of_splits(responses)
    for (finder, against, correction), audit in AUDIT.items():
        tests = [
            ns.interpretability.index_difference(
                codes[finder], codes[against], images, distances, top=TOP, correction=correction
            )
            for codes in splits
        ]
        difference, error = (
            float(np.mean([test[name] for test in tests])) for name in ("difference", "standard_error")
        )
        p = min(1, 2 * float(np.median([test.p_value for test in tests])))
        cells = (session, finder, against, correction or "raw", f"{difference:+.3f} ± {error:.3f}", f"{p:.3g}")
        known = "– | –" if audit is None else f"{audit[place]:+.3f} | {abs(difference - audit[place]) / error:.1f}"
        print(f"| {' | '.join(cells)} | {known} |", flush=True)


def main() -> None:
    """Print the table."""
    if "NEUROSUPER_TEST_DATA" not in os.environ:
        sys.exit("set NEUROSUPER_TEST_DATA to the folder that contains the recordings (v4/) and networks (nets/)")
    print("| session | finder | against | index | difference ± s.e. | 2 × median p | audit | apart, s.e. |")
    print("|---|---|---|---|---|---|---|---|")
    for place, session in enumerate(SESSIONS):
        rows_of(Path(os.environ["NEUROSUPER_TEST_DATA"]), session, place)


if __name__ == "__main__":
    main()
