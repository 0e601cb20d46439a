"""Results of all measures of superposition, as their functions return them, with drawn values."""

import numpy as np
import xarray as xr


def make_superposition_results(second="layer3") -> dict[str, dict[str, xr.Dataset]]:
    """Results with the variables that the functions of `superposition` return, whose values are drawn."""
    made: dict[str, dict[str, xr.Dataset]] = {name: {} for name in ("interference", "sparseness", "disentanglement")}
    rng = np.random.default_rng(0)
    for system in ("V4", second):
        for finder in ("Units", "KMeans"):
            name = f"{system} · {finder}"
            made["sparseness"][name] = xr.Dataset(
                {key: ("item", rng.uniform(-0.8, -0.2, 50)) for key in ("sparseness", "interpretability")},
                attrs={"quantity": "−LPIPS distance"},
            )
            ends = zip(("", "_low", "_high", "_null"), (0.3, 0.2, 0.4, 0.1), strict=True)
            scores = {f"{key}{end}": value for end, value in ends for key in ("mig", "infom")}
            made["disentanglement"][name] = xr.Dataset(scores)
        squares = {"interference": ("direction", rng.uniform(0.5, 2, 30)), "rms": 0.2, "welch": 0.1}
        made["interference"][f"{system} · KMeans"] = xr.Dataset(squares, attrs={"method": "KMeans"})
    return made | {name: {s: make(rng) for s in ("V4", second)} for name, make in OF_SYSTEMS.items()}


def make_spectrum(rng) -> xr.Dataset:
    """A power law of exponent 1.016, exactly."""
    n = np.arange(1, 41)
    scalars = {"alpha": 1.016, "alpha_low": 0.93, "alpha_high": 1.1, "alpha_critical": 1.5}
    scalars |= {"participation_ratio": 12.3, "participation_ratio_low": 11.1, "participation_ratio_high": 13.5}
    attrs = {"fit": [3, 30], "method": "pca"}
    return xr.Dataset({"variance": ("component", 3 * n**-1.016)} | scalars, {"component": n}, attrs)


def make_rotation(rng) -> xr.Dataset:
    amount = np.array([0, 0.5, 1])
    difference = -amount[:, None] * rng.uniform(0, 0.1, (3, 19))
    mean = difference.mean(1)
    widths = {"": 0, "_low": -0.01, "_high": 0.01}
    ends = {f"mean_difference{end}": ("amount", mean + width) for end, width in widths.items()}
    variables = {"difference": (("amount", "rotation"), difference), "p_value": ("amount", [1, 0.1, 0.05])}
    return xr.Dataset(variables | ends, {"amount": amount})


def make_synergy(rng) -> xr.Dataset:
    pairs = {name: ("pair", rng.normal(-0.05, 0.05, 300)) for name in ("synergy", "synergy_found")}
    best = {"synergy_of_best": -0.02, "synergy_of_best_low": -0.03, "synergy_of_best_high": -0.01}
    means = {"found_of_best": 0.06, "mean_synergy": -0.05, "share_above_null": 0.304}
    shares = {"share_above": 0.312, "share_above_low": 0.28, "share_above_high": 0.344}
    return xr.Dataset(pairs | best | means | shares, attrs={"against": "best"})


OF_SYSTEMS = {"spectrum": make_spectrum, "rotation": make_rotation, "synergy": make_synergy}
