"""All measures of superposition of some systems, in one tree, from fits that exist."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_count, one_line, seed_or_new
from neurosuper._progress import progress
from neurosuper.comparison import Fit, fit_systems
from neurosuper.comparison.fitting import check_mapping, join_system
from neurosuper.directions import DirectionFinder, Units
from neurosuper.images import check_images
from neurosuper.interpretability import interpretability_index
from neurosuper.metrics import ImageMetric, Precomputed, pairwise_distances
from neurosuper.repetitions import average_repetitions
from neurosuper.responses import coords_along
from neurosuper.superposition.factor_measures import disentanglement
from neurosuper.superposition.geometry import interference
from neurosuper.superposition.rotations import rotation_curve
from neurosuper.superposition.sparse_codes import sparseness
from neurosuper.superposition.spectra import spectrum
from neurosuper.superposition.synergies import synergy

Measure = Literal["interference", "spectrum", "sparseness", "rotation", "synergy", "disentanglement"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
OF_SYSTEMS = ("spectrum", "rotation", "synergy")  # the others are of each finder
MOST_IMAGES = 8192  # whose distances are computed once for all measures: 268 MB, and five times that for checks
POWER_LAW = 11, 500  # first and last component, as of Stringer et al.
FEW_COMPONENTS = 30  # with fewer, too few are left from component 11
Finders = Sequence[DirectionFinder] | Mapping[str, DirectionFinder] | Sequence[Fit]


class _Task(NamedTuple):
    """One node of the tree: its measure, system and finder ("" if it is of the system), and how to compute it."""

    measure: str
    system: str
    finder: str
    compute: Callable[[], xr.Dataset]

    @property
    def name(self) -> str:
        """Names of the system and the finder, as in figures."""
        return f"{self.system} · {self.finder}" if self.finder else self.system

    @property
    def path(self) -> str:
        """Place in the tree."""
        names = (name.replace("/", "_") for name in (self.system, self.finder) if name)
        return "/".join(["", self.measure, *names])


class _System(NamedTuple):
    """Responses of a system, the same averaged over repetitions, and fits of it."""

    name: str
    responses: xr.DataArray
    averaged: xr.DataArray
    fits: list[Fit]


class _Settings(NamedTuple):
    """What all tasks share."""

    images: xr.DataArray
    metric: ImageMetric | Precomputed
    factors: xr.Dataset | Sequence[str] | None
    top: int
    baseline: float | Literal["min", "median"]
    max_units: int
    n_rotations: int
    stimulus_dim: float | None
    bins: int
    stimulus_groups: str | None
    seed: int


def measure_superposition(
    systems: Mapping[str, xr.DataArray],
    finders: Finders,
    images: xr.DataArray,
    metric: ImageMetric | Precomputed,
    *,
    measures: Literal["all"] | Sequence[Measure] = "all",
    factors: xr.Dataset | Sequence[str] | None = None,
    top: int = 5,
    baseline: float | Literal["min", "median"] = "median",
    max_units: int = 256,
    n_rotations: int = 19,
    stimulus_dim: float | None = None,
    bins: int = 20,
    stimulus_groups: str | None = None,
    random_state: Seed = 0,
) -> xr.DataTree:
    """Return measures of superposition of several systems and finders, in one tree.

    Parameters
    ----------
    systems : mapping of name to DataArray (stimulus, unit) or (stimulus, repetition, unit)
        Responses. Repetitions serve the spectrum, and are averaged for all else. Stimuli without an image are left
        out.
    finders : sequence or mapping of name to finder, or sequence of Fit
        Fits that exist, from `neurosuper.comparison.fit_systems`, are used as they are. Finders are fitted on half of
        the stimuli, with their matched baselines. `Units` among them gives the values of units.
    images : DataArray (stimulus, row, column, channel)
        See `load_images`.
    metric : ImageMetric or Precomputed
        Of `sparseness`, `rotation` and `synergy`.
    measures : "all" or sequence of str, optional
        Names, as listed under Returns. Of "all", a measure that is not possible for a system or finder, such as a power
        law of three units, is left out with a warning; of a sequence, it is an error.
    factors : Dataset (stimulus,) or sequence of str, optional
        Labels or numbers of the stimuli, or the names of stimulus coords of the systems or of the images, for
        "disentanglement", which is not measured without.
    top : int, optional
        Number of top stimuli.
    baseline : float, "min" or "median", optional
        Of `sparseness`: one for all items, so that their values can be compared.
    max_units : int, optional
        Number of units of a system for `synergy` of all pairs, and for `rotation`, at least 2. Of more, a random sample
        is drawn, with a warning.
    n_rotations : int, optional
        Of `rotation`, at least 19.
    stimulus_dim : float, optional
        Dimension of the stimuli, for the critical exponent of `spectrum`.
    bins : int, optional
        Of codes and of factors that are numbers, for `disentanglement`, which needs five held-out stimuli for each.
    stimulus_groups : str, optional
        A stimulus coord of all systems, of stimuli that are not independent, such as bursts: whole groups are halved,
        for the intervals of spectrum, rotation and synergy, and for fits.
    random_state : int, Generator, RandomState or None, optional
        Seed of all measures, of finders that are fitted, and of their split of the stimuli.

    Returns
    -------
    DataTree
        A node for each result, as the function of the measure returns it:

        - `/interference/<system>/<finder>`: `interference`, of all finders but `Units`;
        - `/spectrum/<system>`: `spectrum`, cross-validated if all stimuli were repeated, with a power law from
          component 11, or from 1 if there are fewer than 30;
        - `/sparseness/<system>/<finder>`: a Dataset of the `sparseness` of each item at one baseline, and of its
          `interpretability`, both of held-out stimuli;
        - `/rotation/<system>`: `rotation_curve`;
        - `/synergy/<system>`: `synergy`, scored on held-out stimuli;
        - `/disentanglement/<system>/<finder>`: `disentanglement`, of held-out stimuli.

        Held-out stimuli are those that the fit did not use (all, of fits that score all). A "/" in a name becomes "_".
        attrs of the root: `method`, `metric`, the settings, and `left_out`, a line for each result that was not
        possible.

    Raises
    ------
    TypeError
        Not a mapping of systems, not finders, or not a metric.
    ValueError
        A measure of another name, or twice; "disentanglement" without factors; fits of another system, or of two seeds;
        factors that no stimulus has; settings out of range; a measure that was asked for by name, and is not possible.

    Warns
    -----
    UserWarning
        Results that are left out; systems with more than `max_units` units.

    See Also
    --------
    neurosuper.run_study : The same for a study file with a table `[superposition]`.
    interference, spectrum, sparseness, rotation_curve, synergy, disentanglement : The measures.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import Color, KMeans, Units, load_images
    >>> from neurosuper.superposition import measure_superposition
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 255, (80, 2, 2, 3), dtype=np.uint8))
    >>> r = xr.DataArray(rng.gamma(1, 5, (80, 8)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": images.stimulus, "unit": list("abcdefgh")})
    >>> tree = measure_superposition({"V4": r}, [Units(), KMeans(4)], images, Color(),
    ...                              measures=["interference", "sparseness"])
    >>> [node.path for node in tree.leaves]  # doctest: +NORMALIZE_WHITESPACE
    ['/interference/V4/KMeans', '/interference/V4/CovarianceMatched', '/sparseness/V4/Units', '/sparseness/V4/KMeans',
     '/sparseness/V4/CovarianceMatched']
    """
    chosen = check_measures(measures, factors is not None)
    check_count("max_units", max_units, least=2)
    images, seed = check_images(images), seed_or_new(random_state)
    opened = _open_systems(systems, finders, images, top=top, stimulus_groups=stimulus_groups, random_state=seed)
    table = _distances(images, opened, metric, chosen)
    settings = _Settings(
        images, table, factors, top, baseline, max_units, n_rotations, stimulus_dim, bins, stimulus_groups, seed
    )
    tasks = [task for task in _tasks(opened, settings) if task.measure in chosen]
    nodes, left_out = _compute(tasks, must=measures != "all")
    attrs = {"method": "measure_superposition", "metric": metric.name, "measures": ", ".join(chosen), "top": int(top)}
    attrs |= {"baseline": baseline, "max_units": int(max_units), "n_rotations": int(n_rotations)}
    attrs |= {} if factors is None else {"bins": int(bins)}
    attrs |= {} if stimulus_dim is None else {"stimulus_dim": float(stimulus_dim)}
    root = xr.Dataset(attrs=attrs | {"left_out": "\n".join(left_out), "random_state": seed})
    return make_tree(root, nodes)


def make_tree(root: xr.Dataset, nodes: Mapping[str, xr.Dataset]) -> xr.DataTree:
    """Return results by their places as a tree, with the measures in order."""
    # Else xarray would have results of systems before those of finders, which are deeper.
    found = [f"/{name}" for name in MEASURES if any(path.startswith(f"/{name}/") for path in nodes)]
    return xr.DataTree.from_dict({"/": root} | dict.fromkeys(found, xr.Dataset()) | dict(nodes))


def check_measures(measures: Literal["all"] | Sequence[str], has_factors: bool) -> list[Measure]:
    """Return the names of the measures that are asked for, in order; "all" is those that need no factors if none are.

    Raises
    ------
    ValueError
        Other names, or "disentanglement" without factors.
    """
    if measures == "all":
        return [name for name in MEASURES if has_factors or name != "disentanglement"]
    names = [measures] if isinstance(measures, str) else list(measures)
    if unknown := [name for name in names if name not in MEASURES]:
        raise ValueError(f"measures must be 'all' or some of {', '.join(MEASURES)}; got {unknown[0]!r}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"measures must name at least one, each once; got {names}")
    if "disentanglement" in names and not has_factors:
        raise ValueError("disentanglement needs factors of the stimuli, such as factors=['category']; give some")
    return [name for name in MEASURES if name in names]


def _open_systems(
    systems: Mapping[str, xr.DataArray], finders: Finders, images: xr.DataArray, **settings: Any
) -> list[_System]:
    """Return the systems on the stimuli that have an image, in memory, with fits that exist or are made."""
    check_mapping(systems)
    joined, averaged = {}, {}
    for name, responses in systems.items():
        mean = average_repetitions(responses) if isinstance(responses, xr.DataArray) else responses
        averaged[name] = join_system(name, mean, images.stimulus).compute()
        joined[name] = responses.sel(stimulus=averaged[name].stimulus.values).compute()
    fits = _open_fits(averaged, finders, **settings)
    return [_System(name, joined[name], averaged[name], [f for f in fits if f.system == name]) for name in systems]


def _open_fits(systems: Mapping[str, xr.DataArray], finders: Finders, **settings: Any) -> list[Fit]:
    """Return fits as they are, or those of finders."""
    fits = [each for each in finders if isinstance(each, Fit)] if not isinstance(finders, Mapping) else []
    if not fits or len(fits) < len(finders):
        return list(fit_systems(systems, cast(Any, finders), **settings))
    names = [(fit.system, fit.finder) for fit in fits]
    if unknown := sorted({system for system, _ in names} - set(systems)):
        raise ValueError(f"fits are of the system {unknown[0]!r}, which is not among the systems {', '.join(systems)}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"there are two fits of {twice[0][0]!r} by {twice[0][1]!r}; pass those of one seed")
    return fits


def _distances(
    images: xr.DataArray, systems: list[_System], metric: ImageMetric | Precomputed, measures: list[Measure]
) -> ImageMetric | Precomputed:
    """Return the distances of all images that were shown, so that each is embedded once; or the metric, of too many."""
    shown = np.unique(np.concatenate([system.averaged.stimulus.values for system in systems]))
    is_needed = not {"sparseness", "rotation", "synergy"}.isdisjoint(measures)
    # Of agreement, which is 1 minus a distance, the distances would have another index.
    if isinstance(metric, Precomputed) or metric.self_similarity or len(shown) > MOST_IMAGES or not is_needed:
        return metric
    return Precomputed(pairwise_distances(images.sel(stimulus=shown), metric))


def _tasks(systems: list[_System], settings: _Settings) -> Iterator[_Task]:
    """Yield a task for each possible node of the tree, measure by measure."""
    of_systems = dict(zip(OF_SYSTEMS, (_spectrum, _rotation, _synergy), strict=True))
    of_fits = {"interference": _interference, "sparseness": _sparseness, "disentanglement": _disentanglement}
    for measure in MEASURES:
        for system in systems:
            if measure in of_systems:
                yield _Task(measure, system.name, "", partial(of_systems[measure], system, settings))
                continue
            for fit in system.fits:
                if measure != "interference" or not isinstance(fit.fitted, Units):  # units are orthogonal
                    yield _Task(measure, system.name, fit.finder, partial(of_fits[measure], system, fit, settings))


def _compute(tasks: list[_Task], *, must: bool) -> tuple[dict[str, xr.Dataset], list[str]]:
    """Return the result of each task by its place, and what is left out because it is not possible."""
    nodes, left_out = {}, []
    for task in (bar := progress(tasks, desc="superposition", unit="result")):
        bar.set_postfix_str(f"{task.measure}, {task.name}")
        try:
            nodes[task.path] = task.compute()
        except ValueError as error:
            message = f"{task.measure} of {task.name}: {one_line(error)}"
            if must:
                raise ValueError(message) from error
            warnings.warn(f"left out, {message}", stacklevel=3)
            left_out.append(message)
    return nodes, left_out


def _interference(system: _System, fit: Fit, settings: _Settings) -> xr.Dataset:
    return interference(fit.fitted.directions_, random_state=settings.seed)


def _spectrum(system: _System, settings: _Settings) -> xr.Dataset:
    """Return the spectrum of all responses, with a power law from a component that leaves enough of them."""
    n_stimuli, n_units = system.averaged.shape
    first = 1 if min(n_stimuli - 1, n_units) < FEW_COMPONENTS else POWER_LAW[0]
    is_repeated = "repetition" in system.responses.dims and bool((system.responses.count("repetition") > 1).all())
    return spectrum(
        system.responses if is_repeated else system.averaged,
        fit=(first, POWER_LAW[1]),
        stimulus_dim=settings.stimulus_dim,
        stimulus_groups=settings.stimulus_groups,
        random_state=settings.seed,
    )


def _sparseness(system: _System, fit: Fit, settings: _Settings) -> xr.Dataset:
    """Return sparseness and index of each item, of held-out stimuli."""
    codes = _held_out_codes(system, fit)
    index = interpretability_index(
        codes, settings.images, settings.metric, top=settings.top, random_state=settings.seed
    )
    variables = {"sparseness": sparseness(codes, baseline=settings.baseline), "interpretability": index}
    return xr.Dataset(variables, attrs=index.attrs | {"method": fit.finder, "n_stimuli": len(codes)})


def _rotation(system: _System, settings: _Settings) -> xr.Dataset:
    return rotation_curve(
        _some_units(system, settings),
        settings.images,
        settings.metric,
        n_rotations=settings.n_rotations,
        top=settings.top,
        stimulus_groups=settings.stimulus_groups,
        random_state=settings.seed,
    )


def _synergy(system: _System, settings: _Settings) -> xr.Dataset:
    """Return synergy that is found on the stimuli of the fits, and scored on those that they did not use."""
    responses = _some_units(system, settings)
    scored = system.fits[0].scored if system.fits else responses.stimulus.values
    if len(scored) < len(responses):  # else fits used other stimuli, or all: synergy draws halves
        is_scored = responses.indexes["stimulus"].isin(scored)
        responses = responses.assign_coords(split=("stimulus", np.where(is_scored, "score", "fit")))
    return synergy(
        responses,
        settings.images,
        settings.metric,
        top=settings.top,
        stimulus_groups=settings.stimulus_groups,
        random_state=settings.seed,
    )


def _disentanglement(system: _System, fit: Fit, settings: _Settings) -> xr.Dataset:
    codes = _held_out_codes(system, fit).drop_vars("split", errors="ignore")  # all of these are to score on
    factors = _factors_of(settings.factors, codes, settings.images, system.name)
    return disentanglement(codes, factors, bins=settings.bins, random_state=settings.seed)


def _held_out_codes(system: _System, fit: Fit) -> xr.DataArray:
    """Return the codes (stimulus, item) of the items of a fit that vary, of stimuli that the fit did not use."""
    codes = fit.fitted.transform(system.averaged.sel(stimulus=fit.scored, unit=fit.fitted.mean_.unit.values))
    item = codes.dims[1]
    return codes.sel({item: fit.top_stimuli[item].values})


def _some_units(system: _System, settings: _Settings) -> xr.DataArray:
    """Return responses of the units of the fits, or of a random sample of these."""
    units = np.sort(system.fits[0].fitted.mean_.unit.values if system.fits else system.averaged.unit.values)
    if (n := len(units)) > settings.max_units:
        warnings.warn(
            f"{settings.max_units} of {n} units of {system.name} are drawn at random for rotation and synergy; raise "
            "max_units for more",
            stacklevel=4,
        )
        units = np.sort(np.random.default_rng(settings.seed).choice(units, settings.max_units, replace=False))
    return system.averaged.sel(unit=units)


def _factors_of(
    factors: xr.Dataset | Sequence[str] | None, codes: xr.DataArray, images: xr.DataArray, system: str
) -> xr.Dataset:
    """Return factors (stimulus,): those that are given, or the coords that are named, of codes or else of images."""
    if isinstance(factors, xr.Dataset):
        return factors
    known = coords_along(images.sel(stimulus=codes.stimulus.values), "stimulus") | coords_along(codes, "stimulus")
    names = [factors] if isinstance(factors, str) else list(factors or [])
    if unknown := [name for name in names if name not in known or name == "stimulus"]:
        have = ", ".join(sorted(map(str, set(known) - {"stimulus"}))) or "no stimulus coords"
        raise ValueError(f"no factor {unknown[0]!r} of the stimuli of {system!r}; there are {have}")
    return xr.Dataset({name: ("stimulus", known[name].values) for name in names}, {"stimulus": codes.stimulus.values})
