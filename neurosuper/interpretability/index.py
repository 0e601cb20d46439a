"""The interpretability index (Klindt et al. 2023): how similar the images that drive a unit or direction most are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_one_of, seed_or_new
from neurosuper._joins import join_images, left_out
from neurosuper.images import check_images
from neurosuper.interpretability.corrections import (
    check_correction,
    correct_distances,
    describe_correction,
)
from neurosuper.interpretability.index_flags import flag_all_copies, flag_copies, flag_inactive
from neurosuper.interpretability.ranking import check_codes, top_stimuli
from neurosuper.interpretability.stimulus_weights import Weights, index_of_all, weigh_top
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.metrics.base import check_metric
from neurosuper.metrics.distances import Distances, open_distances
from neurosuper.responses import coords_along, name_some, require_varying

Metrics = ImageMetric | Precomputed | Sequence[ImageMetric | Precomputed]


def interpretability_index(
    codes: xr.DataArray,
    images: xr.DataArray,
    metric: Metrics,
    *,
    top: int | Sequence[int] | Literal["all"] = 5,
    end: Literal["top", "bottom", "both"] = "top",
    weights: Weights = None,
    spread: bool = False,
    correction: Literal["hub"] | None = None,
    covariates: xr.Dataset | None = None,
    random_state: Seed = 0,
) -> xr.DataArray:
    """Return the interpretability index of every unit or direction: how similar its top stimuli are to one another.

    The index is minus the mean distance over the pairs i < j of the top stimuli (for `Label`: their mean agreement).
    Higher is more interpretable. Each image is embedded once, in batches. Large embeddings are kept in a temporary file
    and read back in slabs of features, so that memory stays below about 1 GiB in addition to codes and images, for any
    number of images.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Responses or codes. Stimuli without an image are left out.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed, or sequence of them
        `LPIPS`, `Pixel`, `Color`, `Label`, `Features`, or any object with `embed`. Several, such as single layers of
        `LPIPS` or `Label` of several coords, need different names; each embeds the images separately.
    top : int, sequence of int or "all", optional
        Number M of top stimuli, at least 2; several numbers, in increasing order, are scored in the same pass. "all":
        all stimuli, with `weights`.
    end : {"top", "bottom", "both"}, optional
        Score the stimuli with the largest codes, the smallest, or each of the two separately.
    weights : {"activation", "minmax"}, optional
        Weight a pair by the product of the weights of its two stimuli. "activation": how far a code is above the mean
        code (below it, for the stimuli with the smallest codes), at least 0. "minmax": from 0 for the smallest code to
        1 for the largest (reversed for the smallest ones). None weights all pairs equally, as in the paper.
    spread : bool, optional
        Add the coord `spread`, which shows how much the index depends on single images: its standard error by the
        jackknife over the top stimuli (Efron and Stein 1981). Needs `top` of at least 3.
    correction : {"hub"}, optional
        "hub": score how much nearer the top stimuli are to one another than single images explain (see Notes). Chance
        is then exactly 0, for `Label` too. None scores the distances as in the paper.
    covariates : Dataset (stimulus,), optional
        Numeric properties of every scored image, such as its luminance. Score how much nearer the top stimuli are to
        one another than images with the same properties (see Notes); up to 8,192 images. Without `correction`.
    random_state : int, Generator, RandomState or None, optional
        Seed of the order of stimuli with equal codes (see `top_stimuli`). None: a new one each time.

    Returns
    -------
    DataArray (unit,) or (direction,)
        Name `interpretability`, with the coords of the units or directions. Several numbers of top stimuli add a dim
        `top`; `end="both"` adds a dim `end`; a sequence of metrics adds a last dim `metric`, labelled by their names,
        with the coord `quantity`. For a single metric, attrs contain `metric` and `quantity`. attrs contain
        `correction` ("none", "hub" or "covariates"), and with covariates their names, `covariates`. If stimuli were
        left out because they have no image, `attrs["n_stimuli_left_out"]` counts them. If an item has two copies of
        one photograph among its top stimuli, the coord `has_copies` marks it (see `find_copies`). If an item
        has fewer active stimuli than `top`, the coord `n_active` counts those of every item (see `compare`), and
        `attrs["n_items_inactive"]` such items: their top stimuli are in part drawn at random. With `weights`, attrs
        contain it.

    Raises
    ------
    ValueError
        Codes and images share no stimulus, `top` below 2 or above the number of stimuli, constant codes, or a sequence
        of metrics that is empty or has a name twice. Fewer than 3 images, or more than fit, for a correction;
        covariates that are missing or not finite.

    See Also
    --------
    top_stimuli : The stimuli that are scored.
    psychophysics : Score by a two-alternative task.
    neurosuper.interpretability.index_interval : Confidence interval of the mean index.
    neurosuper.interpretability.chance_level : The index of random images.
    neurosuper.interpretability.frequency_floor : The index of sets that pick the same images as often.
    compare : Scores of several systems, finders and metrics.

    Notes
    -----
    A plain image is near to all others by most metrics, so an item that picks plain images has a high index though its
    images have nothing else in common. With h_i the mean distance of image i to the other n − 1 images that have a code
    and an image, μ the mean of h, and a_i = (h_i − μ)(n − 1)/(n − 2), `correction="hub"` returns minus the mean of
    d_jk − μ − a_j − a_k. What is left of a nuisance is smaller, but not always 0: an item that picks the images of
    least contrast has images that share this. All n images are embedded, not only the top stimuli, which takes most of
    the time if these are few. For squared distances, such as `LPIPS`, this reads the embeddings once more (1.1 × the
    time without correction, for 4,096 directions and 10,000 images of 32 × 32 pixels); for others it takes the
    distances of all pairs (there, `Color` 2.6 ×, `Pixel` 15 ×).

    With `covariates`, the mean distance of two images that are like j and k is subtracted from d_jk: d_jk −
    (PDPᵀ)_jk/(1 − (PPᵀ)_jk), where P gives equal weight to the 30 images that are nearest in the z-scored covariates
    (or to all others, if these are fewer). A constant covariate has no effect.

    With `top="all"` and `weights="minmax"`, minus the cosine distance of `Features` gives MS − 1, where MS, the mean
    cosine of all pairs with these weights, is the MonoSemanticity score (arXiv 2504.02821). For `Label`, the
    index is the weighted probability of the same label. For other squared distances, it is minus twice the weighted
    variance of embeddings, summed over features (with Bessel's correction for weights). Squared distances need no
    single pair: the time is proportional to the number of stimuli. Then all images of stimuli with a code are embedded,
    and codes without a value have weight 0.

    Where equal codes leave open which stimuli are the top ones, one choice is drawn for each item. The mean index over
    many seeds is the average over all choices.

    References
    ----------
    Radovanović, Nanopoulos, Ivanović 2010, J. Mach. Learn. Res. 11, 2487-2531 (hubs).
    Klindt, Sanborn, Acosta, Poitevin, Miolane 2023, arXiv 2310.11431.
    "Sparse autoencoders learn monosemantic features in vision-language models" 2025, arXiv 2504.02821.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, Pixel, load_images
    >>> grey = np.array([0, 2, 253, 255], np.uint8)[:, None, None, None]
    >>> images = load_images(grey * np.ones((1, 4, 4, 3), np.uint8))
    >>> codes = xr.DataArray([[2., 2.], [1., 0.], [0., 1.], [0., 0.]], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": ["dark", "mixed"]})
    >>> interpretability_index(codes, images, Color(), top=2).values.round(1).tolist()
    [-0.0, -1.7]
    >>> interpretability_index(codes, images, [Color(), Pixel()], top=2).sel(metric="pixel").values.round(1).tolist()
    [-0.1, -6.9]
    """
    check_correction(correction, covariates)
    images = check_images(images)
    codes = join_images(check_codes(codes), images)
    require_varying(codes)
    if isinstance(top, str):
        check_one_of("top", top, ("all",))
        return _index_of_all(codes, images, metric, end, weights, spread, correction, covariates)
    most = max([top] if isinstance(top, int | np.integer) else top, default=0)
    chosen = top_or_bottom(codes, most, end, seed_or_new(random_state))
    weighted = None if weights is None else weigh_top(chosen, codes, weights, end)
    index = index_of_top(
        chosen,
        images,
        metric,
        top=top,
        weights=weighted,
        spread=spread,
        correction=correction,
        covariates=covariates,
        among=codes.stimulus.values,
    )
    index = flag_inactive(flag_copies(index, chosen, top), codes, chosen, end)
    return index.assign_attrs(left_out(codes) | ({} if weights is None else {"weights": weights}))


def index_of_top(
    chosen: xr.DataArray,
    images: xr.DataArray,
    metric: Metrics,
    *,
    top: int | Sequence[int] | None = None,
    weights: xr.DataArray | None = None,
    spread: bool = False,
    correction: Literal["hub"] | None = None,
    covariates: xr.Dataset | None = None,
    among: Sequence[str] | np.ndarray | None = None,
) -> xr.DataArray:
    """Return the interpretability index of units or directions with known top stimuli.

    Parameters
    ----------
    chosen : DataArray (rank, unit) or (rank, direction)
        Labels of stimuli, from `top_stimuli`.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed, or sequence of them
        As for `interpretability_index`.
    top : int or sequence of int, optional
        Number of top stimuli to score, at least 2; None: all that are given.
    weights : DataArray (rank, unit) or (rank, direction), optional
        Weight of each top stimulus, not negative; a pair counts by the product of its two weights.
    spread : bool, optional
        Add the coord `spread`, the standard error by the jackknife; see `interpretability_index`.
    correction, covariates : optional
        As for `interpretability_index`.
    among : sequence of str, optional
        Labels of the stimuli that the top stimuli were chosen from: those that a correction is over. None: all images.

    Returns
    -------
    DataArray (unit,) or (direction,)
        As from `interpretability_index`.

    Raises
    ------
    ValueError
        Fewer than two top stimuli, or one without an image; no metric, or two with the same name.

    See Also
    --------
    interpretability_index : From codes.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from neurosuper import Color, load_images
    >>> images = load_images(np.zeros((3, 4, 4, 3), np.uint8))
    >>> chosen = xr.DataArray([["0"], ["2"]], dims=("rank", "unit"), coords={"unit": ["a"]})
    >>> index_of_top(chosen, images, Color()).values.tolist()
    [0.0]
    """
    if isinstance(metric, Sequence) and not isinstance(metric, str):
        _check_names([check_metric(each).name for each in metric])
        score = partial(index_of_top, chosen, images, top=top, weights=weights, spread=spread, among=among)
        return _join([score(each, correction=correction, covariates=covariates) for each in metric])
    check_correction(correction, covariates)
    chosen = chosen.transpose("rank", ...)
    single = top is None or isinstance(top, int | np.integer)
    sizes = _check_sizes(chosen.sizes["rank"] if top is None else top, chosen.sizes["rank"], spread)
    is_raw = correction is None and covariates is None
    places = _places_of(chosen.values.ravel(), images)
    # Without a correction, only top images are embedded.
    embedded = np.unique(places if is_raw else _places_of(images.stimulus.values if among is None else among, images))
    positions = np.searchsorted(embedded, places).reshape(len(chosen), -1).T
    w = (
        np.ones(positions.shape)
        if weights is None
        else weights.transpose(*chosen.dims).values.reshape(len(chosen), -1).T
    )
    with open_distances(images, embedded, metric) as raw:
        distances = correct_distances(raw, images.stimulus.values[embedded], correction, covariates)
        columns = {
            "interpretability": (metric.self_similarity if is_raw else 0.0) - distances.mean(positions, w, sizes)
        }
        if spread:
            columns["spread"] = _jackknife(distances, positions, w, sizes)
    ending, about = describe_correction(correction, covariates)
    attrs = {"metric": metric.name, "quantity": index_label(metric) + ending, "top": sizes[0] if single else sizes}
    index = _label(columns, chosen, sizes).assign_attrs(attrs | about)
    return index.isel(top=0, drop=True) if single else index


def top_or_bottom(codes: xr.DataArray, top: int, end: Literal["top", "bottom", "both"], seed: int = 0) -> xr.DataArray:
    """Return the stimuli `(rank, item)` with the largest or smallest codes, or `(rank, end, item)` of both."""
    if end == "both":
        both = [top_stimuli(codes, top=top, end="top", random_state=seed)]
        both.append(top_stimuli(codes, top=top, end="bottom", random_state=seed))
        if any("is_copy" in each.coords for each in both):
            none = xr.zeros_like(both[0], dtype=bool)
            both = [each.assign_coords(is_copy=each.coords.get("is_copy", none).variable) for each in both]
        return xr.concat(both, xr.Variable("end", ["top", "bottom"]), combine_attrs="drop").transpose("rank", ...)
    if end not in ("top", "bottom"):
        raise ValueError(f"end must be 'top', 'bottom' or 'both', got {end!r}")
    return top_stimuli(codes, top=top, end=end, random_state=seed)


def _index_of_all(
    codes: xr.DataArray,
    images: xr.DataArray,
    metric: Metrics,
    end: Literal["top", "bottom", "both"],
    weights: Weights,
    spread: bool,
    correction: Literal["hub"] | None,
    covariates: xr.Dataset | None,
) -> xr.DataArray:
    """Return the index of all stimuli, by their weights, of one or several metrics."""
    check_one_of("end", end, ("top", "bottom", "both"))
    if isinstance(metric, Sequence) and not isinstance(metric, str):
        _check_names([check_metric(each).name for each in metric])
        return _join(
            [_index_of_all(codes, images, each, end, weights, spread, correction, covariates) for each in metric]
        )
    check_metric(metric)
    ends = ["top", "bottom"] if end == "both" else [end]
    corrected: dict = {"correction": correction, "covariates": covariates}
    columns = index_of_all(codes, images, metric, ends=ends, weights=weights, spread=spread, **corrected)
    item = str(codes.dims[1])
    arrays = {name: xr.DataArray(values, {"end": ends}, ("end", item)) for name, values in columns.items()}
    index = arrays.pop("interpretability").rename("interpretability")
    index = index.assign_coords(coords_along(codes, item) | arrays)
    ending, about = describe_correction(correction, covariates)
    attrs = {"metric": metric.name, "quantity": index_label(metric) + ending, "top": "all", "weights": weights}
    index = flag_all_copies(index, codes).assign_attrs(attrs | about | left_out(codes))
    return index if end == "both" else index.isel(end=0, drop=True)


def _check_names(metrics: list[str]) -> None:
    if not metrics:
        raise ValueError("no metric to score with; pass one, or a list of at least one")
    if twice := sorted({name for name in metrics if metrics.count(name) > 1}):
        raise ValueError(
            f"metrics need different names, got {name_some(twice)} twice; score with one of them at a time"
        )


def _join(indices: list[xr.DataArray]) -> xr.DataArray:
    """Return the index of several metrics as one array, with a last dim `metric`."""
    names, quantities = ([index.attrs[key] for index in indices] for key in ("metric", "quantity"))
    coords: list[str] | Literal["minimal"] = ["spread"] if "spread" in indices[0].coords else "minimal"
    joined = xr.concat(indices, xr.Variable("metric", names), coords=coords, compat="override", join="exact")
    joined.attrs = {name: value for name, value in indices[0].attrs.items() if name not in ("metric", "quantity")}
    return joined.assign_coords(quantity=("metric", quantities)).transpose(..., "metric")


def _check_sizes(top: int | Sequence[int], n_ranks: int, spread: bool) -> list[int]:
    sizes = [top] if isinstance(top, int | np.integer) else list(top)
    least = 3 if spread else 2
    if not sizes or sizes != sorted(set(sizes)):
        raise ValueError(f"`top` must be a number, or different numbers in increasing order, got {top!r}")
    if sizes[0] < least:
        why = "the spread" if spread else "the index"
        raise ValueError(f"{why} needs at least {least} top stimuli, got {sizes[0]}; raise `top`")
    if sizes[-1] > n_ranks:
        raise ValueError(f"{sizes[-1]} top stimuli requested, but only {n_ranks} are given; lower `top`")
    return [int(size) for size in sizes]


def _places_of(labels: Sequence[str] | np.ndarray, images: xr.DataArray) -> np.ndarray:
    """Return the positions of stimuli in the images."""
    labels = np.asarray(labels)
    places: np.ndarray = images.get_index("stimulus").get_indexer(labels)
    if (places < 0).any():
        missing = np.unique(labels[places < 0])
        raise ValueError(f"no image for stimulus {name_some(missing)}; images have {name_some(images.stimulus)}")
    return places


def _label(columns: dict[str, np.ndarray], chosen: xr.DataArray, sizes: list[int]) -> xr.DataArray:
    """Return values `(item, top)` with the dims and coords of the items of `chosen`."""
    items = chosen.isel(rank=0, drop=True).drop_vars(["code", "is_copy"], errors="ignore")
    arrays = {
        name: xr.DataArray(values.reshape(*items.shape, len(sizes)), dims=(*items.dims, "top"))
        for name, values in columns.items()
    }
    index = arrays.pop("interpretability").rename("interpretability")
    return index.assign_coords(dict(items.coords) | {"top": sizes} | arrays)


def _jackknife(distances: Distances, positions: np.ndarray, weights: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Return the jackknife s.e. `(item, size)`: √((M − 1)/M Σ (θᵢ − mean θ)²), θᵢ the index without image i."""
    pairs = weights[:, :, None] * weights[:, None, :] * ~np.eye(positions.shape[1], dtype=bool)
    weighted = pairs * distances.between(positions, positions)
    spread = []
    for n in sizes:
        # Sums over the pairs without image i: the total less twice row i, as matrices are symmetric.
        without = [m[:, :n, :n].sum((1, 2))[:, None] - 2 * m[:, :n, :n].sum(2) for m in (weighted, pairs)]
        left_out = without[0] / without[1]
        spread.append(np.sqrt((n - 1) * left_out.var(1)))
    return np.stack(spread, axis=1)


def index_label(metric: ImageMetric | Precomputed) -> str:
    """Return the label of an axis of the index under a metric: minus a distance, or an agreement."""
    return metric.quantity if metric.self_similarity else f"−{metric.quantity}"
