"""Axes: whether directions are the units, and what a rotation of the units does.

D (direction, unit) directions with rows of unit length; Q (unit, unit) a rotation; R (stimulus, unit) responses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from numbers import Real

import numpy as np
import xarray as xr
from scipy import linalg, special

from neurosuper._checks import Seed, seed_or_new
from neurosuper.directions.projection import check_directions, project
from neurosuper.responses import check_responses, coords_along
from neurosuper.superposition.geometry import unit_rows

ON_A_UNIT = 0.5  # share of the squared length: more than half can be on one unit only


def axis_alignment(directions: xr.DataArray) -> xr.Dataset:
    """Return how well each direction is aligned with a single unit, and how many units it takes.

    Parameters
    ----------
    directions : DataArray (direction, unit)
        Such as `finder.directions_`; rows of any length but zero.

    Returns
    -------
    Dataset (direction)
        `largest`, the share of a direction's squared length that is on one unit, and `largest_unit`, its label;
        `n_units_needed`, 1/Σd⁴: 1 for a unit, k for a direction with equal weights on k units; `entropy`, −Σ d² ln d²,
        whose exponential is a number of units, too. The scalar `share_on_units` is the share of the directions
        with more than half of their squared length on one unit.

    Raises
    ------
    TypeError
        Not a DataArray of real numbers.
    ValueError
        Directions that break the contract, without weights, or with weights that are not finite.

    See Also
    --------
    rotate_units : Responses whose units are mixed, for comparison.
    rotation_curve : Whether units are more interpretable than rotated axes.
    interference : Whether directions are aligned with each other.
    neurosuper.inference.compare_with_null : Test a mean of these values against random directions.

    Notes
    -----
    For random directions of d units, the mean of 1/`n_units_needed` is 3/(d + 2). Directions that follow the covariance
    are aligned with units of large variance: compare with `Random` and with `CovarianceMatched`.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> D = xr.DataArray([[1., 0., 0., 0.], [.5, .5, -.5, .5]], dims=("direction", "unit"),
    ...                  coords={"direction": ["f", "g"], "unit": list("abcd")})
    >>> axis_alignment(D).n_units_needed.values.tolist()
    [1.0, 4.0]
    """
    directions = check_directions(directions)
    share = unit_rows(directions).astype(float) ** 2
    largest = share.max(axis=1)
    columns = {
        "largest": ("direction", largest),
        "largest_unit": ("direction", directions.unit.values[share.argmax(axis=1)]),
        "n_units_needed": ("direction", 1 / (share**2).sum(axis=1)),
        "entropy": ("direction", special.entr(share).sum(axis=1)),
        "share_on_units": (largest > ON_A_UNIT).mean(),
    }
    attrs = {"method": directions.attrs.get("method", "directions"), "quantity": "squared weight"}
    return xr.Dataset(columns, coords_along(directions, "direction"), attrs)


def rotate_units(responses: xr.DataArray, amount: float, *, random_state: Seed = 0) -> xr.DataArray:
    """Return responses on axes that a random rotation turns away from the units, by any part of its angles.

    If units are interpretable because they are units, the index decreases with the amount; if any axis of the
    population is as good, it does not (the test of axis alignment of Bau et al. 2017).

    Parameters
    ----------
    responses : DataArray (stimulus, unit) or (stimulus, repetition, unit)
        At least two units. A dask array stays lazy. Z-score units first (see `normalize`): a rotation mixes those of
        large variance into all others.
    amount : float
        From 0, the units, to 1, a rotation that is uniform over all rotations.
    random_state : int, Generator, RandomState or None, optional
        Seed of the rotation: with the same seed, all amounts are on one path.

    Returns
    -------
    DataArray (stimulus, direction) or (stimulus, repetition, direction)
        R Qᵃ, with as many directions as units, and the same length of each response vector. attrs: `method`, `amount`,
        `random_state`.

    Raises
    ------
    ValueError
        `amount` outside 0 to 1; fewer than two units; responses that break the contract.

    See Also
    --------
    rotation_curve : The index of rotated axes, against that of the units.
    Random : A rotation as finder.
    axis_alignment : How far directions are from the units.
    privileged_axes : Whether two systems share their axes.

    Notes
    -----
    Q is drawn uniformly from the rotations with determinant 1 (Haar measure). Its real Schur form consists of rotations
    in planes; Qᵃ rotates each of them by a times its angle, between −π and π.

    References
    ----------
    Bau, Zhou, Khosla, Oliva and Torralba 2017, "Network dissection", section 3.2.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray([[3., 4.], [0., 2.]], dims=("stimulus", "unit"),
    ...                  coords={"stimulus": ["x", "y"], "unit": ["a", "b"]})
    >>> rotate_units(r, 0).values.tolist()
    [[3.0, 4.0], [0.0, 2.0]]
    >>> np.linalg.norm(rotate_units(r, 0.5), axis=1).round(6).tolist()
    [5.0, 2.0]
    """
    if not isinstance(amount, Real) or isinstance(amount, bool) or not 0 <= amount <= 1:
        raise ValueError(f"amount must be from 0 (the units) to 1 (a random rotation), got {amount!r}")
    responses = check_responses(responses)
    n_units = responses.sizes["unit"]
    if n_units < 2:
        raise ValueError("a rotation needs at least 2 units, got 1")
    seed = seed_or_new(random_state)
    Q = rotation_power(random_rotation(n_units, np.random.default_rng(seed)), float(amount))
    # Row i of Q is of the unit that is number i in order of labels, so that the order of units does not matter.
    rank = responses.indexes["unit"].argsort().argsort()
    names = np.array([f"rotated {i:0{len(str(n_units - 1))}d}" for i in rank])
    # direction j is column j of Qᵃ
    turned = xr.DataArray(
        Q[np.ix_(rank, rank)].T, {"direction": names, "unit": responses.unit.values}, ("direction", "unit")
    )
    attrs = {"method": "rotate_units", "amount": float(amount), "random_state": seed}
    return project(responses, turned).assign_attrs(attrs)


def random_rotation(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return a rotation of n dimensions, with determinant 1, uniform over all of them (Haar measure)."""
    # Q of the QR decomposition of a Gaussian matrix is uniform if R has a positive diagonal (Mezzadri 2007)
    Q, R = np.linalg.qr(rng.normal(size=(n, n)))
    Q *= np.sign(R.diagonal())
    if np.linalg.slogdet(Q)[0] < 0:
        Q[:, 0] *= -1
    return Q


def rotation_power(Q: np.ndarray, power: float) -> np.ndarray:
    """Return a fractional power of a rotation: each plane is turned by this part of its angle."""
    return next(rotation_powers(Q, [power]))


def rotation_powers(Q: np.ndarray, powers: Iterable[float]) -> Iterator[np.ndarray]:
    """Yield fractional powers of a rotation, from one decomposition."""
    # Q = V T Vᵀ, with V orthogonal and blocks of T on the diagonal: 2 × 2 rotations, and single numbers ±1
    T, V = linalg.schur(Q, output="real")
    for power in powers:
        # exactly the identity for a power of 0
        yield np.eye(len(T)) + V @ (_power_of_blocks(T, power) - np.eye(len(T))) @ V.T


def _power_of_blocks(T: np.ndarray, power: float) -> np.ndarray:
    """Return a fractional power of a rotation that is in real Schur form."""
    n = len(T)
    powered, i, reflected = np.eye(n), 0, []
    while i < n:
        if i + 1 < n and T[i + 1, i] != 0:
            _turn(powered, i, i + 1, power * np.arctan2(T[i + 1, i], T[i, i]))
            i += 2
            continue
        if T[i, i] < 0:
            reflected.append(i)
        i += 1
    for first, second in zip(reflected[::2], reflected[1::2], strict=True):  # two −1 are half a turn of their plane
        _turn(powered, first, second, power * np.pi)
    return powered


def _turn(T: np.ndarray, i: int, j: int, angle: float) -> None:
    """Write a rotation of the plane (i, j) into a matrix that is the identity there."""
    T[i, i] = T[j, j] = np.cos(angle)
    T[j, i] = np.sin(angle)
    T[i, j] = -T[j, i]
