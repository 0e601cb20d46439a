"""Comparisons of systems in pairs, with the variables that the functions of `comparison` return and drawn values."""

from itertools import combinations

import numpy as np
import xarray as xr

MEASURES = ("cka", "rsa", "twins")


def make_populations(systems, *, measures=MEASURES, items=("units", "rotation", "KMeans")) -> xr.Dataset:
    """As from `compare_populations`, of all pairs of some systems."""
    rng, pairs = np.random.default_rng(0), list(combinations(systems, 2))
    dims, shape = ("pair", "items", "measure"), (len(pairs), len(items), len(measures))
    variables = {}
    for name in ("estimate", "gain", "gain_over_matched"):
        value = rng.uniform(0.05, 0.6, shape)
        variables |= {f"{name}{end}": (dims, value + width) for end, width in (("", 0), ("_low", -0.1), ("_high", 0.1))}
    variables |= {name: (dims, rng.uniform(0, 0.1, shape)) for name in ("p_value", "p_adjusted")}
    first, second = zip(*pairs, strict=True)
    return xr.Dataset(
        variables,
        {
            "pair": [f"{a} | {b}" for a, b in pairs],
            "system_a": ("pair", list(first)),
            "system_b": ("pair", list(second)),
            "items": list(items),
            "measure": list(measures),
            "quantity": ("measure", [f"quantity of {each}" for each in measures]),
        },
        {"n_fit": 60, "n_stimuli": 60, "n_permutations": 199},
    )


def make_twins(items, partners, *, ceiling=True, rotated=(0.1, 0.2), p_rotated=0.05) -> xr.Dataset:
    """As from `twins`; r_matched falls from item to item, and r of the others."""
    n = len(items)
    r_matched, r = np.linspace(0.9, 0.4, n), np.linspace(0.5, 0.7, n)
    variables = {"partner": ("item_a", list(partners)), "r": ("item_a", r), "r_matched": ("item_a", r_matched)}
    variables |= {"r_low": ("item_a", r - 0.1), "r_high": ("item_a", r + 0.1)}
    variables |= {"p_adjusted": ("item_a", np.full(n, 0.01)), "median_r": 0.6}
    variables |= {"ceiling": ("item_a", np.full(n, 0.8))} if ceiling else {}
    variables |= {"rotated": ("rotation", np.array(rotated)), "p_rotated": p_rotated} if len(rotated) else {}
    attrs = {"match": "best", "remove": "common", "n_fit": 20, "n_stimuli": 20}
    return xr.Dataset(variables, {"item_a": list(items)}, attrs | {"n_permutations": 99, "n_rotations": len(rotated)})
