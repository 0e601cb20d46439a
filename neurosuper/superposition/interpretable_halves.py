"""Units split by their interpretability: whether the more and the less interpretable ones differ on other stimuli."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_share, seed_or_new
from neurosuper.comparison import compare
from neurosuper.directions import DirectionFinder, KMeans, Units
from neurosuper.images import check_images
from neurosuper.interpretability import interpretability_index
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.responses import check_averaged, name_some
from neurosuper.superposition.halved_stimuli import halve_stimuli

STIMULI = "stimuli"  # attr of an index: the labels of the stimuli that it was computed from


def split_units(responses: xr.DataArray, index: xr.DataArray, *, share: float = 0.5) -> dict[str, xr.DataArray]:
    """Return the units with a higher and those with a lower index, as two systems.

    Parameters
    ----------
    responses : DataArray (stimulus, unit)
        Averaged over repetitions. With the coord `split`, the stimuli marked "score" are those to score on; otherwise
        all.
    index : DataArray (unit,)
        A number for each unit, from `interpretability_index` for other stimuli than those to score on. Its attr
        `stimuli` lists the labels of these: `index.assign_attrs(stimuli=codes.stimulus.values)`.
    share : float, optional
        Share of the units with the highest index, strictly between 0 and 1; rounded to a number of units.

    Returns
    -------
    dict of str to DataArray (stimulus, unit)
        "more": the share with the highest index, of equal ones those whose labels sort first; "less": the others. Units
        keep their order, and have the coord `selection_index`, their index.

    Raises
    ------
    TypeError
        Not DataArrays.
    ValueError
        An index of other units, with NaN, without the attr `stimuli`, or of stimuli that are to be scored; a share that
        leaves no unit on one side.

    See Also
    --------
    clustered_apart : Splits, clusters and compares the two halves.
    neurosuper.split_stimuli : Splits stimuli.

    Notes
    -----
    Units with a high index on some stimuli are those that were lucky there. In three layers of ResNet-20, with 5,000
    photographs of CIFAR-10, the two halves differed by 0.074, 0.066 and 0.055 on the images that chose them, and by
    −0.009, 0.002 and 0.015 on other images (`benchmarks/superposition_claims.py`).

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> r = xr.DataArray(np.eye(3), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": list("xyz"), "unit": list("abc")})
    >>> index = xr.DataArray([-0.3, -0.5, -0.2], {"unit": list("abc")}, attrs={"stimuli": ["v", "w"]})
    >>> {name: part.unit.values.tolist() for name, part in split_units(r, index, share=0.4).items()}
    {'more': ['c'], 'less': ['a', 'b']}
    """
    check_share("share", share, 0.5)
    responses = check_averaged(responses)
    values = _check_index(responses, index)
    n = len(values)
    n_more = round(share * n)
    if not 0 < n_more < n:
        raise ValueError(f"share={share} of {n} units leaves none on one side; use another share, or more units")
    # The highest index first; of equal ones, the label that sorts first.
    order = np.lexsort((responses.unit.values.astype(str), -values))
    is_more = np.isin(np.arange(n), order[:n_more])
    marked = responses.assign_coords(selection_index=("unit", values))
    return {name: marked.isel(unit=np.flatnonzero(rows)) for name, rows in (("more", is_more), ("less", ~is_more))}


def clustered_apart(
    responses: xr.DataArray,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    finder: DirectionFinder | None = None,
    share: float = 0.5,
    top: int = 5,
    stimulus_groups: str | None = None,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return a comparison of the more and the less interpretable units, each with directions found in them alone.

    On one half of the stimuli, units are split by their index, and directions of each part are found; units and
    directions are scored on the other half.

    Parameters
    ----------
    responses : DataArray (stimulus, unit)
        With the coord `split`, on whose "fit" stimuli units are split and directions found; otherwise a random half.
        Stimuli without an image are left out.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        `LPIPS`, `Features`, `Color`, … or `Precomputed` distances.
    finder : DirectionFinder, optional
        Not changed. None: `KMeans` with as many clusters as the part has units.
    share : float, optional
        Share of the units that are "more" interpretable.
    top : int, optional
        Number of top stimuli.
    stimulus_groups : str, optional
        A stimulus coord of responses or images, such as bursts of frames: no split divides a group, and intervals are
        for other groups.
    random_state : int, Generator, RandomState or None, optional
        Seed of the split and of the order of stimuli with equal codes.

    Returns
    -------
    Dataset (item, metric)
        As from `compare`, with the systems "more" and "less", and the finders "Units", the finder, and its matched
        baseline: for `summarize`, `contrast_systems` (more against less) and `contrast_finders` (directions against
        units in each). The coord `selection_index (item,)` is the
        index of each unit where it was selected (NaN for directions).

    Raises
    ------
    TypeError
        Not a DataArray, a finder or a metric.
    ValueError
        Too few units or stimuli; settings out of range; anything else that `compare` refuses.

    Warns
    -----
    UserWarning
        Units that do not vary over both halves of the stimuli are left out.

    See Also
    --------
    split_units : Splits by an index of your own.
    neurosuper.contrast_systems : Tests the difference between the two parts.

    References
    ----------
    Klindt, Sanborn, Acosta, Poitevin, Miolane 2023, arXiv 2310.11431 (its public scripts).

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, KMeans, load_images, summarize
    >>> from neurosuper.superposition import clustered_apart
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 255, (80, 2, 2, 3), dtype=np.uint8))
    >>> r = xr.DataArray(rng.gamma(1, 5, (80, 8)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": images.stimulus, "unit": list("abcdefgh")})
    >>> table = clustered_apart(r, images, Color())
    >>> sorted(set(table.system.values.tolist())), sorted(set(table.finder.values.tolist()))
    (['less', 'more'], ['CovarianceMatched', 'KMeans', 'Units'])
    """
    finder = KMeans() if finder is None else finder
    images, seed = check_images(images), seed_or_new(random_state)
    fit, score = halve_stimuli(responses, images, "held-out", seed, stimulus_groups)
    index = interpretability_index(fit, images, metric, top=top, random_state=seed)
    index = index.assign_attrs({STIMULI: fit.stimulus.values})
    halves = {"fit": fit, "score": score}
    marked = [half.assign_coords(split=("stimulus", [name] * len(half))) for name, half in halves.items()]
    parts = split_units(xr.concat(marked, "stimulus"), index, share=share)
    settings: dict = {"stimulus_groups": stimulus_groups, "random_state": seed}
    return compare(parts, images, [Units(), finder], [metric], top=top, **settings)


def _check_index(responses: xr.DataArray, index: xr.DataArray) -> np.ndarray:
    """Return the index of the units of responses, in their order, if it is of other stimuli than those to score on."""
    if not isinstance(index, xr.DataArray) or index.dims != ("unit",):
        got = index.dims if isinstance(index, xr.DataArray) else type(index).__name__
        raise TypeError(f"index must be a DataArray (unit,), from interpretability_index, got {got}")
    own, known = index.get_index("unit"), responses.get_index("unit")
    if len(extra := own.symmetric_difference(known)):
        raise ValueError(f"index and responses have different units: only one has {name_some(extra)}; select the same")
    if STIMULI not in index.attrs:
        raise ValueError(
            "index does not name the stimuli that it was computed from, and must not be of those to score on; add them "
            "with index.assign_attrs(stimuli=codes.stimulus.values)"
        )
    scored = responses.stimulus.values
    if "split" in responses.coords:
        scored = scored[(responses.split == "score").values]
    if len(shared := np.intersect1d(np.asarray(index.attrs[STIMULI]).astype(str), scored)):
        raise ValueError(
            f"index was computed from stimuli that are to be scored, {name_some(shared)}; compute it from others, such "
            "as those that split_stimuli marks 'fit'"
        )
    values = index.sel(unit=known).values.astype(float)
    if (missing := np.isnan(values)).any():
        raise ValueError(f"index is NaN for unit {name_some(known[missing])}; leave it out")
    return values
