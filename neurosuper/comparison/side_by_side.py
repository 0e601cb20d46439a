"""Units against directions, brain against network: every item scored by every metric, in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xarray as xr

from neurosuper._checks import Seed, seed_or_new
from neurosuper._joins import LEFT_OUT, left_out
from neurosuper.comparison.fitting import check_mapping, describe_match, describe_shared, fit_systems, join_system
from neurosuper.comparison.matched_finders import By
from neurosuper.comparison.scoring import Metrics, name_metrics, score_fits
from neurosuper.comparison.splits import ScoreOn, take_groups
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
    fit_on: Mapping[str, xr.DataArray] | None = None,
    baselines: bool = True,
    stimulus_groups: str | None = None,
    drop_constant_units: bool = True,
    match: By | None = None,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return the interpretability of every unit and direction of every system, by every metric.

    Directions are fitted by `fit_systems` and scored by `score_fits`, which can also be called one after the other.

    Parameters
    ----------
    systems : mapping of name to DataArray (stimulus, unit)
        Responses of brains and networks. They need not have seen the same images.
    images : DataArray (stimulus, row, column, channel)
        All the images; stimuli of a system without an image are left out.
    finders : sequence or mapping of name to finder
        Left untouched: each system gets a fresh copy. In a sequence, a finder is named by its class.
    metrics : sequence or mapping of name to metric
        `LPIPS`, `Pixel`, `Color`, `Label`, `Features`, `Precomputed` distances, or any object with `embed`.
    top : int, optional
        Number of top stimuli of an item.
    score_on : {"held-out", "all"}, optional
        "held-out": directions are fitted on one half of the stimuli of each system and scored on the other (by the
        coord `split`, where a system has it); a stimulus that systems share is in the same half in all of them. "all":
        both on all stimuli, as in Klindt et al. 2023.
    fit_on : mapping of name to DataArray (stimulus, unit), optional
        For systems whose directions are to be found on other stimuli, which need no images: the responses of the same
        units (matched by label) to these. Directions are fitted on all of them, and scored on all stimuli of the
        system; no stimulus may be in both. The other systems are divided as `score_on` says.
    baselines : bool, optional
        Add a baseline for every finder that is none itself (as `Units`, `Random`, `Exemplars` and `CovarianceMatched`
        are): a `CovarianceMatched` that prepares responses as the finder does, one for all finders of the same
        preparation (see Notes). A `CovarianceMatched` among the finders is used where it matches. False adds none, and
        matches none.
    stimulus_groups : str, optional
        A stimulus coord of all systems, or of images, of stimuli that are not independent: clusters, categories, bursts
        of frames. Whole groups are to fit on or to score on, half of them each, and whole groups are halved, so that
        the intervals of contrasts are for other groups. At least 4 to score on.
    drop_constant_units : bool, optional
        Leave out units that give the same response to all stimuli to fit on, or to all those to score on, such as
        silent units of a network: they have no top stimuli. A warning counts them. False: they are an error.
    match : {"variance", "sparseness"}, optional
        Give each finder, in each system, the number of directions with which it explains as much variance of other
        stimuli as the first finder does (with the number it has), or is as sparse: chosen on the stimuli to fit on, by
        `match_finders`. `Units` and `CovarianceMatched` keep theirs. None: the numbers that finders have.
    random_state : int, Generator, RandomState or None, optional
        Seed of the split into a half to fit on and a half to score on, and of the order of stimuli with equal codes
        (see `top_stimuli`). Finders have their own.

    Returns
    -------
    Dataset (item, metric)
        An item is one unit or direction, with the coords `system`, `finder` and `direction`, `baseline` (the name of
        the matched baseline of the finder; "" if it has none), and the unit coords (of a direction: the value that all
        units share, or an empty one). Variables:

        - `interpretability (item, metric)`, the index, and `top_stimuli (item, rank)`, labels, strongest first;
        - `chance_level (item, metric)`, the mean index of all sets of `top` of the stimuli that the item's system was
          scored on: minus the mean distance over all pairs, exactly; `chance_level_sd`, the standard deviation over all
          these sets (with more than 8,192 images, that of 200 random ones); and `chance_level_low` and
          `chance_level_high`, between which are 95 % of 200 random sets;
        - `difference_of_halves (item, metric, draw)`, between the index on two random halves of the stimuli, the same
          500 splits for all items, `mean_of_halves (item, metric)`, the mean index on all these halves, and `influence
          (item, metric, rank)`, the change of the index without each top stimulus, from which `contrast_finders`
          estimates the variance over stimuli; NaN where a half has fewer stimuli than `top`. They take 2 KB per item
          and metric. Each system has half of its own stimuli in each half, whichever the other systems have;
        - `corrected (item, metric)`, the hub-corrected index over the stimuli that the item's system was scored on,
          with chance at 0 (see `interpretability_index`), with `corrected_difference_of_halves` and
          `corrected_influence`, and `corrected_chance_low`, `corrected_chance_high` and `corrected_chance_sd`;
        - `index_reliability (item, metric)`, the correlation over active items of the index between two random halves
          of the stimuli, averaged over the same splits (as from `interpretability.index_reliability` for its largest
          size; that of the index on all stimuli is about 2r/(1 + r)), and `corrected_reliability (item, metric)`, that
          of the corrected index: the same for all items of a system and finder; NaN with fewer than 4 active items, or
          where a half has fewer stimuli than `top` or the same index for all items;
        - `frequency_floor (item, metric)`, the index of a set that would pick the same images as often as the active
          items do, but at random: the same for all items of a system and finder, NaN if none is active (see
          `interpretability.frequency_floor`);
        - `n_active (item,)`, the number of active stimuli among those scored: with a code above the one that more than
          half of them share, such as 0 of a sparse code (all, if there is no such code). The top stimuli of an
          item with fewer than `top`, which is called inactive, are in part drawn at random; contrasts leave it out;
        - `n_stimuli (item,)`, the number of stimuli that its system was scored on, copies of one photograph counted
          once;
        - `n_stimulus_groups (item,)` and `top_groups (item, rank)`, only with `stimulus_groups`: the number of groups
          that its system was scored on, and the number of the group of each top stimulus;
        - `has_copies (item,)`, only if an item has two copies of one photograph among its top stimuli (see
          `find_copies`).

        attrs: `top`, `confidence_level` of the chance level, `n_resamples`, `score_on`, `random_state`,
        `shared_stimuli` (a description of how many stimuli the systems share, and of `fit_on`), `stimulus_groups`, if
        there are any;
        `n_constant`, if directions were left out because they are constant on the stimuli to score on (their number for
        each system and finder, systems first; a warning names them), `n_units_left_out` (a number for each system), if
        units were left out because they do not vary, and, if stimuli had no image, `n_stimuli_left_out` of each system;
        `match` and `matched`, with a match (as JSON: for each system and finder, the number of directions and the share
        of variance, or sparseness, with that); `provenance`, as JSON: the class of each finder and its settings that
        are not defaults, what the index by each metric measures, and the versions of packages.

        Variables and coords have a `long_name`, and numbers `units` ("1": the index is in the unit of the metric's
        distance, which `quantity` describes). `drop_dims(["draw", "rank"]).to_dataframe()` is the table without halves
        and top stimuli.

    Raises
    ------
    TypeError
        Systems are not a mapping, a name is not a str, or an object is not a finder or a metric.
    ValueError
        No system, finder or metric; names that are not unique; no image in common; units of zero variance, if they are
        not to be dropped, or a system of such units only; a finder all of whose directions are constant on the stimuli
        to score on, or with the name of a baseline that would be added; more `top` than stimuli to score on; too few
        groups, or a system without their coord.

    See Also
    --------
    contrast_finders, contrast_systems : Tests of differences in the comparison.
    neurosuper.summarize : The mean index of each system and finder, with intervals.
    neurosuper.headline : What the tests say, in a few sentences.
    neurosuper.comparison.fit_systems, neurosuper.comparison.score_fits : The two halves of this function.
    neurosuper.plot.plot_distributions : Figure of a comparison.

    Notes
    -----
    The mean response alone scores above units, and so does every direction near it. Without `center`, the centres of
    `KMeans` are such directions (in two sessions of V4, at a mean cosine of 0.97 with the mean response); with it, they
    follow the axes of large variance. That directions score above units, or above random ones (`Random`), is therefore
    no evidence for features that they found: random draws with the same mean and covariance as the responses do so too.
    `contrast_finders` tests every finder against units and against such draws, its matched baseline: Gaussian vectors,
    as many as there are units (at most 1,000), with the finder's `normalize`, `center` (as `ICA` always has) and
    `whiten`, and the seed, device and dtype of the first finder that prepares responses so. The baseline is called
    "CovarianceMatched", or, with several preparations, "CovarianceMatched (center, normalize)" and so on.

    The baseline is for about as many directions as units. The centres of a few large clusters average noise, and are
    nearer to the mean response than single draws: in simulations of 32 noisy units with one shared drive and nothing
    else, 32 centres scored above their baseline (p below 0.05) in 0 of 30 studies, but 4 centres in 14.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, KMeans, Units, load_images
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8))
    >>> brain = xr.DataArray(rng.gamma(1, 5, (40, 6)), dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": list("abcdef")})
    >>> table = compare({"V4": brain}, images, [Units(), KMeans(4)], [Color()], score_on="all")
    >>> table.groupby("finder").count().interpretability[:, 0].to_series().to_dict()
    {'CovarianceMatched': 6, 'KMeans': 4, 'Units': 6}
    """
    check_mapping(systems)
    images = check_images(images)
    systems = {
        name: take_groups(join_system(name, responses, images.stimulus), images, stimulus_groups)
        for name, responses in systems.items()
    }
    seed, metrics = seed_or_new(random_state), name_metrics(metrics)  # checked before the fits, which may take hours
    settings: dict = {"baselines": baselines, "stimulus_groups": stimulus_groups, "random_state": seed}
    settings |= {"drop_constant_units": drop_constant_units, "fit_on": fit_on, "match": match}
    fits = list(fit_systems(systems, finders, top=top, score_on=score_on, **settings))
    lost = [left_out(responses).get(LEFT_OUT, 0) for responses in systems.values()]
    return score_fits(fits, images, metrics).assign_attrs(
        score_on=score_on,
        random_state=seed,
        shared_stimuli=describe_shared(systems, fit_on),
        **({LEFT_OUT: lost} if any(lost) else {}),
        **({} if match is None else {"match": match, "matched": describe_match(fits)}),
    )
