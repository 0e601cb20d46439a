"""A toy world: sparse features in superposition, on known directions, so that measures have values to be derived.

R (stimulus, unit) responses, F (stimulus, feature) features, D (direction, unit) directions: R = F D + noise.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_count, seed_or_new


def superposed(
    n_features: int = 40,
    n_units: int = 20,
    n_stimuli: int = 1000,
    *,
    active: float = 0.05,
    noise: float = 0.0,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return responses of units that encode sparse features on random directions, with the features and directions.

    Parameters
    ----------
    n_features, n_units, n_stimuli : int, optional
        With more features than units, the features are in superposition.
    active : float, optional
        Probability that a stimulus has a feature, above 0 and at most 1, independently of its other features.
    noise : float, optional
        Standard deviation of the normal noise of each response, at least 0.
    random_state : int, Generator, RandomState or None, optional
        Seed.

    Returns
    -------
    Dataset
        `response (stimulus, unit)` = `features` @ `directions` + noise. `features (stimulus, feature)`: 0, or, with
        probability `active`, drawn from the exponential distribution of mean 1. `directions (direction, unit)`, one for
        each feature, with its label: uniform on the sphere, of unit length. `category (stimulus)` is the label of the
        strongest feature, or "none". attrs: the settings.

    Raises
    ------
    ValueError
        Settings out of range.

    See Also
    --------
    neurosuper.directions.recovery : Compare directions that were found with these.

    Notes
    -----
    What the measures of `neurosuper.superposition` give, for K features of d units that are active with probability a,
    each with the mean a, the second moment 2a, the variance v = 2a − a² and the fourth cumulant c; S² is the variance
    of the noise. Values are means over directions, features, or worlds.

    =========================  ===================================================================================
    measure                    value
    =========================  ===================================================================================
    `interference`             squared cosine 1/d, interference (K − 1)/d, frame potential (d + K − 1)/K, `cofiring` 1
    `axis_alignment`           1/`n_units_needed` is 3/(d + 2)
    `spectrum`                 eigenvalues of v Dᵀ D + S² (by cvPCA without S²); without noise, participation ratio
                               Kd/(d + K − 1)
    `sparseness`               of features: 1 − a/2 (Treves-Rolls), "active" a; of units, and of `rotate_units` with W
                               for D: "kurtosis" c Σw⁴/(v Σw²)²
    `soft_matching`            of the population with a copy that has other noise: v|w|²/(v|w|² + S²), for the weights
                               w of each unit; `privileged_axes`: the same, 1 relative to the noise ceiling
    `sparsify`                 half of many weights keep 0.93 of the squared length
    `weight_interference`      of weights D: the square is that of `interference`
    `count_features`           K with enough stimuli; 0 of Gaussian responses
    =========================  ===================================================================================

    Of features themselves as units, and images whose distance is 0 if they have the same `category`, otherwise 1, for
    small a: the index of a feature is 0, and that of the sum of two −½, as two of its top stimuli have the same feature
    with probability ½. So `synergy` is −½, and the dip of `between_directions` ½; `rotation_curve` starts at 0 and
    falls; a direction of `sparsity_curve` needs one unit; and the two halves of `clustered_apart` do not differ.

    Examples
    --------
    >>> world = superposed(n_features=8, n_units=4, n_stimuli=100)
    >>> dict(world.sizes)["feature"], dict(world.sizes)["unit"]
    (8, 4)
    """
    for name, value in {"n_features": n_features, "n_units": n_units, "n_stimuli": n_stimuli}.items():
        check_count(name, value)
    if not 0 < active <= 1:
        raise ValueError(f"active must be above 0 and at most 1, such as 0.05; got {active!r}")
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise must be a standard deviation of at least 0, got {noise!r}")
    seed = seed_or_new(random_state)
    rng = np.random.default_rng(seed)
    D = rng.normal(size=(n_features, n_units))
    D /= np.linalg.norm(D, axis=1, keepdims=True)
    F = rng.exponential(size=(n_stimuli, n_features)) * (rng.random((n_stimuli, n_features)) < active)
    R = F @ D + noise * rng.normal(size=(n_stimuli, n_units))
    names = _labels("feature", n_features)
    coords = {
        "stimulus": _labels("stimulus", n_stimuli),
        "unit": _labels("unit", n_units),
        "feature": names,
        "direction": names,
        "category": ("stimulus", np.where(F.any(1), names[F.argmax(1)], "none")),
    }
    variables = {
        "response": (("stimulus", "unit"), R),
        "features": (("stimulus", "feature"), F),
        "directions": (("direction", "unit"), D),
    }
    return xr.Dataset(variables, coords, {"active": float(active), "noise": float(noise), "random_state": seed})


def _labels(kind: str, n: int) -> np.ndarray:
    """Return labels of equal width, which sort in order, such as `unit 00` and `unit 01`."""
    return np.array([f"{kind} {i:0{len(str(n - 1))}d}" for i in range(n)])
