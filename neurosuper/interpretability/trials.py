"""Trials of the two-alternative task: the images to show, chosen by the codes of a unit or direction.

Stimuli are in the order of their codes, the largest first; a place is a position in this order. Ranks count from the
top for the stimuli of the top, and from the bottom for those of the bottom.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._content import photographs_of
from neurosuper.interpretability.ranking import check_codes
from neurosuper.interpretability.ties import TieOrder, rank_stimuli
from neurosuper.responses import coords_along, name_some, require_varying

DesignName = Literal["imi", "scripts", "mis", "paper"]
Query = Literal["extreme", "least-extreme"]
ENDS = ["top", "bottom"]
NONE = -1  # the position of no stimulus


def make_trials(
    codes: xr.DataArray,
    *,
    design: DesignName = "imi",
    n_references: int = 9,
    n_trials: int = 20,
    query: Query | None = None,
    quantiles: Sequence[float] | None = None,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return the images of each trial of the two-alternative task.

    A trial shows reference images from the top and from the bottom of the codes of a unit or direction, and one query
    from each; the question is which query belongs to the top. A trial shows no image twice.

    Parameters
    ----------
    codes : DataArray (stimulus, unit) or (stimulus, direction)
        Stimuli with equal codes are ranked at random by `random_state`, as by `top_stimuli`.
    design : {"imi", "scripts", "mis", "paper"}, optional
        "imi": the stimuli of the top, and those of the bottom, are divided into bins of `n_trials` consecutive ranks; a
        trial shows one stimulus of each bin, drawn without replacement; the query is from the most extreme bin
        (Zimmermann et al. 2023).
        "scripts": the same, but only queries are drawn; references stay in the order of ranks (code of Klindt et al.
        2023).
        "mis": each trial draws again from all these ranks; the query is the least extreme of its draw (Zimmermann et
        al. 2024).
        "paper": references are the top stimuli alone, the same in all trials; queries are the stimuli that follow, and
        those of the bottom (Klindt et al. 2023, eq. 2–3).
    n_references : int, optional
        Number of reference images from the top, and from the bottom.
    n_trials : int, optional
        Number of trials of each quantile; fewer if there are too few stimuli.
    query : {"extreme", "least-extreme"}, optional
        Whether a query is more extreme than the references of its side, or less. None: as in the design.
    quantiles : sequence of float, optional
        From 0 to below 0.5. This share of the stimuli is left out at the top and at the bottom ("paper": as queries),
        which makes the task harder. None: 0 and 0.25 with "scripts", otherwise 0.
    random_state : int, Generator, RandomState or None, optional
        Seed of the draws.

    Returns
    -------
    Dataset
        Labels of stimuli, `queries (unit, quantile, trial, end)` and `references (unit, quantile, trial, reference_end,
        reference)`, and `n_trials (quantile,)`, after which labels are empty. attrs: `design`, `random_state`,
        and, if codes have the coord `content` and trials show copies of one photograph, `n_trials_with_copies`, their
        number, which also gives a warning.

    Raises
    ------
    ValueError
        Too few stimuli for a single trial, NaN or constant codes, unknown settings.

    See Also
    --------
    answer_trials : Answers of an image metric to these trials.
    neurosuper.psychophysics : Makes trials and answers them.

    References
    ----------
    Zimmermann, Klein, Brendel 2023, arXiv 2307.05471; Klindt et al. 2023, arXiv 2310.11431; Zimmermann, Klindt, Brendel
    2024, "Measuring mechanistic interpretability at scale without humans".

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> codes = xr.DataArray(np.arange(12.)[:, None], dims=("stimulus", "unit"),
    ...                      coords={"stimulus": list("abcdefghijkl"), "unit": ["u"]})
    >>> made = make_trials(codes, n_references=1, n_trials=1)
    >>> made.queries.values.ravel().tolist(), made.references.values.ravel().tolist()
    (['l', 'a'], ['k', 'b'])
    """
    codes, seed = check_codes(codes), seed_or_new(random_state)
    chosen = choose_trials(codes, design, n_references, n_trials, query, quantiles, seed)
    labels = np.append(codes.stimulus.values.astype(str), "")  # NONE = −1 selects the last, the empty label
    item = codes.dims[1]
    dims, ends = (item, "quantile", "trial"), ENDS[: chosen.reference.shape[3]]
    return xr.Dataset(
        {
            "queries": ((*dims, "end"), labels[chosen.query]),
            "references": ((*dims, "reference_end", "reference"), labels[chosen.reference]),
            "n_trials": ("quantile", chosen.n_trials),
        },
        coords={"quantile": chosen.quantiles, "end": ENDS, "reference_end": ends} | coords_along(codes, str(item)),
        attrs={"design": design, "random_state": seed} | warn_of_copies_in_trials(codes, chosen),
    )


class Trials(NamedTuple):
    """Positions of stimuli: `query (item, quantile, trial, end)`, `reference (item, quantile, trial, end, image)`."""

    query: np.ndarray
    reference: np.ndarray
    n_trials: list[int]  # of each quantile; after them positions are `NONE`
    quantiles: list[float]


class _Shape(NamedTuple):
    """The size of a task: numbers of stimuli, of those left out at each side, of references and of trials."""

    n_stimuli: int
    n_left_out: int
    n_references: int
    n_trials: int
    extreme: bool  # whether queries are more extreme than references


class Design(NamedTuple):
    """A published design: the functions that fill trials and that return their largest number, and its defaults."""

    fill: Callable[[_Shape, np.random.Generator], tuple[np.ndarray, np.ndarray]]
    most: Callable[[_Shape], int]
    query: Query
    quantiles: tuple[float, ...]
    observer: dict[str, Any]  # settings of `answer_trials`


def choose_trials(
    codes: xr.DataArray,
    design: DesignName,
    n_references: int,
    n_trials: int,
    query: Query | None,
    quantiles: Sequence[float] | None,
    seed: int,
) -> Trials:
    """Return the positions of the stimuli of each trial (see `make_trials`)."""
    _check_settings(design, n_references, n_trials, query, quantiles)
    published = DESIGNS[design]
    quantiles = list(published.quantiles if quantiles is None else quantiles)
    n_stimuli, rng = codes.sizes["stimulus"], np.random.default_rng(seed)
    extreme = (query or published.query) == "extreme"
    shapes = [_Shape(n_stimuli, int(np.ceil((n_stimuli - 1) * q)), n_references, n_trials, extreme) for q in quantiles]
    shapes = [shape._replace(n_trials=max(0, min(n_trials, published.most(shape)))) for shape in shapes]
    if not any(shape.n_trials for shape in shapes):
        raise ValueError(_too_few(design, shapes[0]))
    order = _order(codes, seed)
    filled = [published.fill(shape, rng) if shape.n_trials else None for shape in shapes]
    possible = [shape.n_trials for shape in shapes]
    queries, shown = (_stack(order, filled, part, max(possible)) for part in (0, 1))
    return Trials(queries, shown, possible, quantiles)


def warn_of_copies_in_trials(codes: xr.DataArray, trials: Trials) -> dict[str, int]:
    """Warn if trials show a photograph under two labels, and return the attr with the number of such trials."""
    photographs = photographs_of(codes)
    if photographs[-1] == len(photographs) - 1:  # no copies
        return {}
    query = trials.query
    positions = np.concatenate([query, trials.reference.reshape(*query.shape[:3], -1)], axis=-1)
    shown = np.append(photographs, NONE)[positions]
    order = np.argsort(shown, axis=-1, kind="stable")
    positions, shown = (np.take_along_axis(values, order, axis=-1) for values in (positions, shown))
    twice = (np.diff(shown, axis=-1) == 0) & (np.diff(positions, axis=-1) != 0)
    if not (n_trials := int(twice.any(axis=-1).sum())):
        return {}
    warnings.warn(
        f"{n_trials} trials show copies of one photograph, such as a query that is also a reference, and are easier "
        "than they should be; average copies with neurosuper.copies.average_copies(responses, images)",
        stacklevel=3,
    )
    return {"n_trials_with_copies": n_trials}


def _stack(order: np.ndarray, filled: list, part: int, n_trials: int) -> np.ndarray:
    """Return the positions `(item, quantile, trial, …)` of the stimuli at the places filled for each quantile."""
    some = next(places[part] for places in filled if places is not None)
    positions = np.full((order.shape[1], len(filled), n_trials, *some.shape[1:]), NONE, np.int32)
    for i, places in enumerate(filled):
        if places is not None:
            positions[:, i, : len(places[part])] = np.moveaxis(order[places[part]], -1, 0)
    return positions


def _order(codes: xr.DataArray, seed: int) -> np.ndarray:
    """Return the positions `(place, item)` of stimuli, the largest code first; the seed ranks equal codes."""
    require_varying(codes)
    values = codes.values
    if np.isnan(values).any():
        missing = codes.stimulus.values[np.isnan(values).any(1)]
        raise ValueError(f"no code for stimulus {name_some(missing)}; trials rank all stimuli, so drop these")
    return rank_stimuli(values, TieOrder(codes.stimulus.values, codes[codes.dims[1]].values, seed)).T


def _places_of_ranks(ranks: np.ndarray, n_stimuli: int) -> np.ndarray:
    """Return the places of ranks `(end, …)`: rank r of the bottom is at place n − 1 − r."""
    return np.stack([ranks[0], n_stimuli - 1 - ranks[1]])


def _fill_bins(shape: _Shape, rng: np.random.Generator, shuffle: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return places of queries `(trial, end)` and references `(trial, end, reference)`, one stimulus per bin."""
    n_bins, at = 1 + shape.n_references, 0 if shape.extreme else shape.n_references
    ranks = shape.n_left_out + np.arange(n_bins * shape.n_trials).reshape(n_bins, shape.n_trials)
    bins = np.stack([ranks, ranks])  # (end, bin, trial)
    drawn = rng.permuted(bins, axis=2)
    places = _places_of_ranks(
        drawn if shuffle else np.where(np.arange(n_bins)[:, None] == at, drawn, bins), shape.n_stimuli
    )
    return places[:, at].T, np.moveaxis(np.delete(places, at, axis=1), 2, 0)


def _fill_draws(shape: _Shape, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return places as `_fill_bins` does, drawn for each trial from the ranks of all bins."""
    n_drawn, at = 1 + shape.n_references, 0 if shape.extreme else shape.n_references
    n_ranks = min(shape.n_trials * n_drawn, shape.n_stimuli // 2 - shape.n_left_out)
    ranks = np.tile(shape.n_left_out + np.arange(n_ranks), (2, shape.n_trials, 1))
    drawn = np.sort(rng.permuted(ranks, axis=2)[:, :, :n_drawn], axis=2)
    places = np.moveaxis(_places_of_ranks(drawn, shape.n_stimuli), 0, 1)  # (trial, end, image)
    return places[:, :, at], np.delete(places, at, axis=2)


def _fill_following(shape: _Shape, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return places of queries, and of the references, which are the top stimuli in all trials."""
    first = np.array([_first_query(shape), shape.n_left_out])
    ranks = rng.permuted(first[:, None] + np.arange(shape.n_trials), axis=1)
    shared = np.broadcast_to(np.arange(shape.n_references), (shape.n_trials, 1, shape.n_references))
    return _places_of_ranks(ranks, shape.n_stimuli).T, shared


def _first_query(shape: _Shape) -> int:
    return max(shape.n_left_out, shape.n_references)


def _most_bins(shape: _Shape) -> int:
    return (shape.n_stimuli - 2 * shape.n_left_out) // (2 + 2 * shape.n_references)


def _most_draws(shape: _Shape) -> int:
    return shape.n_trials if _most_bins(shape) else 0


def _most_following(shape: _Shape) -> int:
    return (shape.n_stimuli - _first_query(shape) - shape.n_left_out) // 2


DESIGNS = {
    "imi": Design(
        lambda shape, rng: _fill_bins(shape, rng, shuffle=True),
        _most_bins,
        "extreme",
        (0.0,),
        {"pool": "mean", "zscore": True, "slope": 1.0},
    ),
    "scripts": Design(
        lambda shape, rng: _fill_bins(shape, rng, shuffle=False),
        _most_bins,
        "extreme",
        (0.0, 0.25),
        {"pool": "mean", "zscore": True, "slope": 1.0},
    ),
    "mis": Design(_fill_draws, _most_draws, "least-extreme", (0.0,), {"pool": "mean", "zscore": False, "slope": 0.16}),
    "paper": Design(
        _fill_following, _most_following, "least-extreme", (0.0,), {"pool": "max", "zscore": False, "slope": 1.0}
    ),
}


def _check_settings(
    design: str, n_references: int, n_trials: int, query: str | None, quantiles: Sequence[float] | None
) -> None:
    if design not in DESIGNS:
        raise ValueError(f"design must be one of {', '.join(map(repr, DESIGNS))}, got {design!r}")
    check_count("n_references", n_references)
    check_count("n_trials", n_trials)
    if query not in (None, "extreme", "least-extreme"):
        raise ValueError(f"query must be 'extreme', 'least-extreme' or None, got {query!r}")
    if design == "paper" and query == "extreme":
        raise ValueError(
            "in design 'paper' references are the top stimuli, so queries are less extreme; leave out query"
        )
    if quantiles is not None and (not len(quantiles) or not all(0 <= q < 0.5 for q in quantiles)):
        raise ValueError(f"quantiles must be numbers from 0 to below 0.5, at least one, got {quantiles!r}")


def _too_few(name: str, shape: _Shape) -> str:
    needed = 2 + shape.n_references * (1 if name == "paper" else 2)
    return (
        f"{shape.n_stimuli} stimuli, {shape.n_left_out} of them left out at each side, are too few for one trial of "
        f"design {name!r} with {shape.n_references} references, which needs {needed} of the rest; lower "
        "n_references, or quantiles"
    )
