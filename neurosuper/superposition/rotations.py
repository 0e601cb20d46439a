"""Rotations: whether units are more interpretable than axes that are turned away from them.

R (stimulus, unit) z-scored responses; Q (unit, unit) a random rotation; R Qᵃ the codes of axes turned by an amount a.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._joins import join_images, left_out
from neurosuper._progress import progress
from neurosuper.comparison.splits import take_groups
from neurosuper.images import check_images
from neurosuper.inference.null_draws import p_of_draws
from neurosuper.interpretability.index import index_label
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.responses import check_averaged, normalize
from neurosuper.superposition.axes import random_rotation, rotation_powers
from neurosuper.superposition.halved_stimuli import undivided
from neurosuper.superposition.index_tables import check_top, leading_places, open_table, places_for
from neurosuper.superposition.intervals import CONFIDENCE_LEVEL, intervals_of

DIMS = ("amount", "rotation")


def rotation_curve(
    responses: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    amounts: Sequence[float] = (0, 0.25, 0.5, 0.75, 1),
    n_rotations: int = 19,
    top: int = 5,
    stimulus_groups: str | None = None,
    n_resamples: int = 200,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return the mean index of a population's axes as random rotations turn them away from the units.

    If units are interpretable because they are units, the index decreases with the amount; if any axes of the
    population are as good, it does not (the test of axis alignment of Bau et al. 2017, with the index).

    Parameters
    ----------
    responses : DataArray (stimulus, unit)
        At least two units that vary; each is z-scored, or a rotation would mix those of large variance into all
        others. Stimuli without an image are left out.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    amounts : sequence of float, optional
        Parts of the rotation, in increasing order, from 0, the units, to at most 1, axes that are uniform over all
        rotations.
    n_rotations : int, optional
        Number of random rotations, at least 19.
    top : int, optional
        Number of top stimuli, at most half of the stimuli.
    stimulus_groups : str, optional
        A stimulus coord of responses or images, such as bursts of frames: whole groups are halved, and intervals are
        for other groups.
    n_resamples : int, optional
        Number of random halves of the stimuli, for intervals; at least 10.
    random_state : int, Generator, RandomState or None, optional
        Seed of the halves and of the order of stimuli with equal codes; rotation i has the seed `random_state` + i,
        from 0, in `rotate_units`.

    Returns
    -------
    Dataset (amount, rotation)
        - `interpretability (amount, rotation)`, the mean index of the axes; at amount 0, of the units;
        - `difference (amount, rotation)`, the same minus that of the units: all amounts of a rotation are on one path;
        - `mean_difference (amount,)`, the mean over rotations, with `mean_difference_low` and `mean_difference_high`:
          an interval for other stimuli;
        - `p_value (amount,)`, the share of rotations whose index is at least that of the units, which count as one.

        attrs: `metric`, `quantity`, `n_stimuli`, `n_units`, `confidence_level`, and the settings.

    Raises
    ------
    TypeError
        Not a DataArray, or not a metric.
    ValueError
        Responses that break the contract or do not vary; fewer than two units; too few stimuli; settings out of range.

    See Also
    --------
    rotate_units : The responses on rotated axes.
    privileged_axes : Whether two systems share their axes.
    neurosuper.interpretability_index : The index of each unit.

    Notes
    -----
    The test of amount 1 is exact if z-scored responses have the same distribution on all axes, as those of a Gaussian
    population with independent units: then units are one rotation among many. Smaller amounts show the path, and their
    axes are still close to the units: report the p-value of the largest amount.

    Each rotation takes one Schur decomposition of a matrix (unit, unit), about 1 s for 500 units and 60 s for 2,000.

    References
    ----------
    Bau, Zhou, Khosla, Oliva and Torralba 2017, "Network dissection", section 3.2.
    Phipson, Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9, 39 (p-values of random draws).

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, load_images
    >>> from neurosuper.superposition import rotation_curve
    >>> pixels = np.repeat(np.eye(3) * 200, 20, axis=0) + np.random.default_rng(0).integers(0, 50, (60, 3))
    >>> images = load_images(pixels.astype(np.uint8)[:, None, None])  # red, green and blue ones
    >>> r = xr.DataArray(pixels, dims=("stimulus", "unit"), coords={"stimulus": images.stimulus, "unit": list("rgb")})
    >>> curve = rotation_curve(r, images, Color(), amounts=(0, 1), n_resamples=10)
    >>> bool(curve.mean_difference_high[1] < 0)
    True
    """
    turns = _check_amounts(amounts)
    check_count("n_rotations", n_rotations, least=19, why=", which allow p = 0.05")
    check_count("n_resamples", n_resamples, least=10)
    images, seed = check_images(images), seed_or_new(random_state)
    joined = _in_order_of_labels(responses, images, stimulus_groups)
    n, n_units = joined.shape
    check_top(top, n)
    scaled = normalize(joined.astype(float), "zscore")
    n_places = places_for(top)
    units = leading_places([scaled], n_places, seed)
    turned = leading_places(_rotated(scaled, turns[1:], n_rotations, seed), n_places, seed)
    table = open_table(joined.stimulus.values, images, metric, [units, turned])

    def index(members: np.ndarray) -> np.ndarray:
        """Return the mean index (subset, amount, rotation) of subsets of the stimuli."""
        # one set of axes at a time: all items in all subsets would take gigabytes
        of_units, *of_turned = (
            table.scores_of_subsets(axes, top, members).mean(-1)
            for axes in (units, *turned.reshape(-1, n_units, turned.shape[1]))
        )
        by_rotation = np.stack(of_turned, axis=1).reshape(len(members), n_rotations, len(turns) - 1)
        first = np.broadcast_to(of_units[:, None, None], (len(members), n_rotations, 1))
        return np.concatenate([first, by_rotation], axis=2).swapaxes(1, 2)

    found = index(np.ones((1, n), bool))[0]
    intervals = intervals_of(
        lambda members: {"mean_difference": ((own := index(members)) - own[:, :1]).mean(2)},
        n,
        dims=("amount",),
        groups=undivided(joined, stimulus_groups),
        n_resamples=n_resamples,
        seed=seed,
    )
    variables: dict = {"interpretability": (DIMS, found), "difference": (DIMS, found - found[0])} | intervals
    variables["p_value"] = "amount", p_of_draws(found[0, 0], found.T)
    attrs: dict = {"method": "random rotations", "metric": metric.name, "quantity": index_label(metric)}
    attrs |= {"top": int(top), "n_rotations": int(n_rotations), "n_stimuli": n, "n_units": n_units}
    attrs |= {"confidence_level": CONFIDENCE_LEVEL, "n_resamples": int(n_resamples), "random_state": seed}
    attrs |= {} if stimulus_groups is None else {"stimulus_groups": stimulus_groups}
    return xr.Dataset(variables, {"amount": turns}, attrs | left_out(joined))


def _in_order_of_labels(responses: xr.DataArray, images: xr.DataArray, stimulus_groups: str | None) -> xr.DataArray:
    """Return the responses to `images` in order of labels, so that the orders of stimuli and units change no draw."""
    joined = take_groups(join_images(check_averaged(responses), images), images, stimulus_groups)
    if joined.sizes["unit"] < 2:
        raise ValueError(f"a rotation needs at least 2 units, got {joined.sizes['unit']}")
    return joined.compute().sortby(["stimulus", "unit"])


def _check_amounts(amounts: Sequence[float]) -> np.ndarray:
    values = np.asarray(amounts)
    if values.ndim != 1 or len(values) < 2 or values.dtype.kind not in "iuf":
        raise ValueError(f"amounts must be at least 2 numbers, such as (0, 0.5, 1), got {amounts!r}")
    if values[0] != 0 or not values[-1] <= 1 or not (np.diff(values) > 0).all():
        raise ValueError(f"amounts must increase from 0 (the units) to at most 1 (a random rotation), got {amounts!r}")
    return values.astype(float)


def _rotated(responses: xr.DataArray, amounts: np.ndarray, n_rotations: int, seed: int) -> Iterator[xr.DataArray]:
    """Yield codes (stimulus, direction) of each rotation at each amount."""
    R, n_units = responses.values, responses.sizes["unit"]
    coords = {"stimulus": responses.stimulus, "direction": np.arange(n_units).astype(str)}
    for i in progress(range(n_rotations), desc="rotations", unit="rotation", leave=False):
        Q = random_rotation(n_units, np.random.default_rng((seed + i) % 2**64))
        for turn in rotation_powers(Q, amounts):
            yield xr.DataArray(R @ turn, coords, ("stimulus", "direction"))
