"""Units against directions, brain against network: every item scored by every metric, in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xarray as xr

from neurosuper._joins import LEFT_OUT, left_out
from neurosuper.comparison.fitting import ScoreOn, describe_shared, fit_systems, meet_images
from neurosuper.comparison.scoring import Metrics, name_metrics, score_fits
from neurosuper.directions import DirectionFinder
from neurosuper.images import check_images


def compare(
    systems: Mapping[str, xr.DataArray],
    images: xr.DataArray,
    finders: Sequence[DirectionFinder] | Mapping[str, DirectionFinder],
    metrics: Metrics,
    *,
    top: int = 5,
    score_on: ScoreOn = "held-out",
    random_state: int | None = 0,
) -> xr.Dataset:
    """Find directions in every system, and score every unit and direction by every metric.

    Parameters
    ----------
    systems : mapping of name to DataArray (stimulus, unit)
        Brain and network. They need not have seen the same images.
    images : DataArray (stimulus, row, column, channel)
        All the images; stimuli of a system that have none are left out.
    finders : sequence or mapping of name to finder
        Left untouched: each system gets a fresh copy. In a sequence, a finder is named by its class.
    metrics : sequence or mapping of name to metric
        `LPIPS`, `Pixel`, `Color`, `Label`, `Features`, `Precomputed` distances, or any object with `embed`.
    top : int, optional
        Number of top stimuli of an item.
    score_on : {"held-out", "all"}, optional
        "held-out": directions are fitted on one half of the stimuli and scored on the other (by the coord `split`,
        where a system has it). "all": both on all stimuli, as in Klindt et al. 2023.
    random_state : int, optional
        Of the halves. Finders have their own.

    Returns
    -------
    Dataset (item, metric)
        An item is one unit or direction: coords `system`, `finder`, `direction`, and the unit coords (of a direction:
        the value that all units share, else empty). Variables `interpretability (item, metric)` and `top_stimuli
        (item)`, labels joined by " | ". What chance gives: `chance_level (item, metric)`, the mean index of 200 random
        sets of as many of the stimuli that the item's system was scored on, and `chance_level_low` and
        `chance_level_high`, between which 95 % of these sets lie. What other stimuli would give: `index_of_halves
        (item, metric, draw, half)`, on random halves of the stimuli, the same for all items, from which
        `contrast_finders` tells how sure differences are; NaN where a half has fewer stimuli than `top`. `attrs` say
        how many stimuli the systems share, and, where any were left out for want of an image, how many of each system:
        `n_stimuli_left_out`. Where an item has two copies of one photograph among its top stimuli, `has_copies (item)`
        marks it (see `find_copies`). `drop_dims("draw").to_dataframe()` is the table without halves.

    Raises
    ------
    ValueError
        No system, finder or metric; names that are not unique; no image in common; units of zero variance; more `top`
        than stimuli to score on.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, KMeans, Units, load_images
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8))
    >>> brain = xr.DataArray(rng.gamma(1, 5, (40, 6)), dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": list("abcdef")})
    >>> table = compare({"V4": brain}, images, [Units(), KMeans(4)], [Color()], score_on="all")
    >>> dict(table.interpretability.sizes)
    {'item': 10, 'metric': 1}
    """
    if not isinstance(systems, Mapping):
        raise TypeError(f"systems must be a mapping {{name: responses, …}}, got {type(systems).__name__}")
    images = check_images(images)
    systems = {name: meet_images(name, responses, images.stimulus) for name, responses in systems.items()}
    metrics = name_metrics(metrics)  # before hours of fits
    fits = list(fit_systems(systems, finders, top, score_on, random_state))
    lost = [left_out(responses).get(LEFT_OUT, 0) for responses in systems.values()]
    return score_fits(fits, images, metrics).assign_attrs(
        score_on=score_on,
        random_state=-1 if random_state is None else random_state,
        shared_stimuli=describe_shared(systems),
        **({LEFT_OUT: lost} if any(lost) else {}),
    )
