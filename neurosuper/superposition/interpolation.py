"""Interpolation: the interpretability of directions between two directions, and of those turned elsewhere.

a, b (unit,) directions of unit length at the angle θ; w the unit vector orthogonal to a in their plane; the great
circle from a to b is d(t) = cos(tθ) a + sin(tθ) w, for t from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._joins import join_images, left_out
from neurosuper.comparison.splits import take_groups
from neurosuper.directions.projection import check_directions
from neurosuper.images import check_images
from neurosuper.interpretability.index import index_label
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.responses import check_averaged, coords_along, name_some, require_varying
from neurosuper.superposition.halved_stimuli import undivided
from neurosuper.superposition.index_tables import (
    BLOCK,
    check_top,
    leading_places,
    open_table,
    places_for,
)
from neurosuper.superposition.intervals import CONFIDENCE_LEVEL, intervals_of

OPPOSITE = -1 + 1e-9  # cosine below which two directions define no plane


def between_directions(
    a: xr.DataArray,
    b: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    responses: xr.DataArray,
    *,
    n_steps: int = 7,
    n_pairs: int = 100,
    top: int = 5,
    stimulus_groups: str | None = None,
    n_resamples: int = 500,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return the index of directions between pairs of directions, along great circles.

    Two directions that code two features have directions between them that code neither: the index dips in the middle.
    It does not where both code the same, or where any direction codes as well as any other.

    Parameters
    ----------
    a, b : DataArray (direction, unit)
        The same array twice gives pairs of its directions. Of any length, which is set to 1.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    responses : DataArray (stimulus, unit)
        Prepared as for the fit of the directions (see `normalize`), but of other stimuli, as their own would favour
        the ends. With the coord `split`, only stimuli marked "score" are used.
    n_steps : int, optional
        Number of directions from one to the other, the two included: odd, at least 3.
    n_pairs : int, optional
        Number of pairs, drawn at random; all, if there are no more.
    top : int, optional
        Number of top stimuli, at most half of the stimuli.
    stimulus_groups : str, optional
        A stimulus coord of responses or images, such as bursts of frames: whole groups are halved, and intervals are
        for other groups.
    n_resamples : int, optional
        Number of random halves of the stimuli, for intervals; at least 10.
    random_state : int, Generator, RandomState or None, optional
        Seed of the pairs, the random directions, the halves, and the order of stimuli with equal codes.

    Returns
    -------
    Dataset (pair, step)
        `step` is from 0 (a) to 1 (b).

        - `interpretability (pair, step)`; `interpretability_random`, between random directions at the same angle, and
          `interpretability_turned`, of a as it is turned by the same angle in a random plane: its sensitivity to the
          angle;
        - `dip (pair,)`, the mean index of the two ends minus that in the middle;
        - scalars with `_low` and `_high`, an interval for other stimuli: `mean_dip`; `mean_dip_random`; and
          `mean_dip_turned`, the fall of the index if each end is turned by half the angle in a random plane; and
          `dip_above_turned`, the difference of `mean_dip` and this, with its two-sided `p_value`.

        Coords: `direction_a`, `direction_b` and `angle (pair,)`, in degrees. attrs: `metric`, `quantity`, `n_stimuli`,
        `confidence_level`, and the settings.

    Raises
    ------
    TypeError
        Not DataArrays of real numbers, or not a metric.
    ValueError
        Directions with other units than the responses; no pair; fewer than two units; too few stimuli; settings out of
        range.

    See Also
    --------
    synergy : Combinations of two units.
    neurosuper.project : Codes of any directions.

    Notes
    -----
    Compare `mean_dip` with both controls. `mean_dip_random` shows the curvature of the index along any great circle,
    which should be near 0. `mean_dip_turned` shows how fast the index falls from a direction with a high index to those
    around it. In ResNet-20, with 50,000 photographs of CIFAR-10, the index between two K-means directions was
    −0.210 in the middle and −0.202 at the ends in layer1, −0.209 and −0.188 in layer2, −0.197 and −0.180 in layer3
    (`benchmarks/superposition_claims.py`).

    References
    ----------
    Klindt, Sanborn, Acosta, Poitevin, Miolane 2023, arXiv 2310.11431 (figure 7: selectivity and sensitivity).

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, PCA, load_images
    >>> from neurosuper.superposition import between_directions
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 255, (80, 2, 2, 3), dtype=np.uint8))
    >>> r = xr.DataArray(rng.gamma(1, 5, (80, 4)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": images.stimulus, "unit": list("abcd")})
    >>> D = PCA(3).fit(r[:40]).directions_
    >>> result = between_directions(D, D, images, Color(), r[40:], n_steps=3)
    >>> dict(result.sizes), result.angle.values.round().tolist()
    ({'pair': 3, 'step': 3}, [90.0, 90.0, 90.0])
    """
    if check_count("n_steps", n_steps, least=3) % 2 == 0:
        raise ValueError(f"n_steps must be odd, so that one step is in the middle, got {n_steps}")
    check_count("n_pairs", n_pairs)
    check_count("n_resamples", n_resamples, least=10)
    images, seed = check_images(images), seed_or_new(random_state)
    # In order of labels, so that neither the order of stimuli nor that of units matters for what is drawn.
    joined = take_groups(join_images(check_averaged(responses), images), images, stimulus_groups)
    joined = joined.compute().sortby(["stimulus", "unit"])
    score = joined.isel(stimulus=np.flatnonzero(joined.split == "score")) if "split" in joined.coords else joined
    require_varying(score)
    check_top(top, score.sizes["stimulus"])
    rng = np.random.default_rng(seed)
    first, second, coords = _draw_pairs(a, b, score, n_pairs, rng)
    steps = np.linspace(0, 1, n_steps)
    circles = _circles(first, second, steps, rng)
    leading = leading_places(_codes(score, circles), places_for(top), seed)
    table = open_table(score.stimulus.values, images, metric, [leading])
    variables = _summarize(
        lambda members: table.scores_of_subsets(leading, top, members).reshape(-1, len(circles), len(first), n_steps),
        len(score),
        {"groups": undivided(score, stimulus_groups), "n_resamples": n_resamples, "seed": seed},
    )
    attrs: dict = {"method": "great circles", "metric": metric.name, "quantity": index_label(metric), "top": int(top)}
    attrs |= {"n_stimuli": len(score), "confidence_level": CONFIDENCE_LEVEL, "n_resamples": int(n_resamples)}
    attrs |= {} if stimulus_groups is None else {"stimulus_groups": stimulus_groups}
    return xr.Dataset(variables, coords | {"step": steps}, attrs | left_out(joined) | {"random_state": seed})


def _draw_pairs(
    a: xr.DataArray, b: xr.DataArray, responses: xr.DataArray, n_pairs: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, dict]:
    """Return the directions (pair, unit) of both ends of each pair, of unit length, and the coords of pairs."""
    A, B = (_unit_rows(each, responses) for each in (a, b))
    cosine = np.clip(A.values @ B.values.T, -1, 1)
    allowed = cosine > OPPOSITE
    i, j = np.nonzero(np.triu(allowed, 1) if A.equals(B) else allowed)
    if not len(i):
        raise ValueError(
            "no pair of directions to interpolate between: there is only one, or all are opposite; pass two arrays of "
            "directions, or one with several"
        )
    drawn = np.sort(rng.permutation(len(i))[:n_pairs])
    i, j = i[drawn], j[drawn]
    names = A.direction.values[i], B.direction.values[j]
    coords = {"pair": np.array([f"{one} – {other}" for one, other in zip(*names, strict=True)])}
    angle = ("pair", np.degrees(np.arccos(cosine[i, j])), {"units": "degrees"})
    ends = {"direction_a": ("pair", names[0]), "direction_b": ("pair", names[1])}
    return A.values[i], B.values[j], coords | ends | {"angle": angle}


def _unit_rows(directions: xr.DataArray, responses: xr.DataArray) -> xr.DataArray:
    """Return directions of unit length, sorted by label, with the units of the responses."""
    directions, known = check_directions(directions), responses.indexes["unit"]
    if len(extra := directions.indexes["unit"].symmetric_difference(known)):
        raise ValueError(
            f"directions and responses have different units: only one has {name_some(extra)}; select the same of both"
        )
    if len(known) < 2:
        raise ValueError("directions of 1 unit have none between them; record at least 2 units")
    rows = directions.sel(unit=known).astype(float).sortby("direction")
    return rows / np.sqrt((rows**2).sum("unit"))


def _circles(a: np.ndarray, b: np.ndarray, steps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return directions (circle, pair, step, unit): from a to b, between random ones, and a and b turned elsewhere."""
    angle = np.arccos(np.clip((a * b).sum(1), -1, 1))
    random = _normalize(rng.normal(size=a.shape))
    planes = ((a, b), *((start, rng.normal(size=a.shape)) for start in (random, a, b)))
    return np.stack([_turn(start, toward, angle, steps) for start, toward in planes])


def _turn(start: np.ndarray, toward: np.ndarray, angle: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return d(t) = cos(tθ) a + sin(tθ) w (pair, step, unit), with w in the plane of `start` and `toward`."""
    w = _normalize(toward - (toward * start).sum(1, keepdims=True) * start)
    turned = angle[:, None, None] * steps[:, None]
    return np.cos(turned) * start[:, None] + np.sin(turned) * w[:, None]


def _normalize(rows: np.ndarray) -> np.ndarray:
    """Return rows of unit length; rows of zeros stay zero, as those between equal directions."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def _codes(responses: xr.DataArray, circles: np.ndarray) -> Iterator[xr.DataArray]:
    """Yield the codes of all directions, some at a time."""
    R, D = responses.values.astype(float), circles.reshape(-1, circles.shape[-1])
    stimuli = coords_along(responses, "stimulus")
    for start in range(0, len(D), BLOCK):
        labels = np.arange(start, min(start + BLOCK, len(D))).astype(str)
        codes = R @ D[start : start + BLOCK].T
        yield xr.DataArray(codes, stimuli | {"direction": labels}, ("stimulus", "direction"))


def _summarize(index: Callable[[np.ndarray], np.ndarray], n_stimuli: int, settings: dict) -> dict[str, tuple]:
    """Return the variables of the result, from `index(members)` (subset, circle, pair, step)."""
    found, random, turned, _ = index(np.ones((1, n_stimuli), bool))[0]
    columns = {"": found, "_random": random, "_turned": turned}
    variables = {f"interpretability{kind}": (("pair", "step"), values) for kind, values in columns.items()}

    def statistics(members: np.ndarray) -> dict[str, np.ndarray]:
        found, random, *of_ends = index(members).swapaxes(0, 1)
        dip = _dip(found).mean(-1)
        # Each end against itself turned by half the angle, as far away as the middle is.
        middle = found.shape[-1] // 2
        fall = np.mean([(of_end[..., 0] - of_end[..., middle]).mean(-1) for of_end in of_ends], axis=0)
        dips = {"mean_dip": dip, "mean_dip_random": _dip(random).mean(-1), "mean_dip_turned": fall}
        return dips | {"dip_above_turned": dip - fall}

    intervals = intervals_of(statistics, n_stimuli, tested="dip_above_turned", **settings)
    return variables | {"dip": ("pair", _dip(found))} | intervals


def _dip(index: np.ndarray) -> np.ndarray:
    """Return the mean index of the two ends minus that in the middle (…, pair), of index (…, pair, step)."""
    return (index[..., 0] + index[..., -1]) / 2 - index[..., index.shape[-1] // 2]
