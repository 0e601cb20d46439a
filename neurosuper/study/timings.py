"""Time a small part of each step of a study, to be scaled: loading, fits, metrics."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from neurosuper.comparison import compare_populations, fit_systems, score_fits, twins
from neurosuper.directions import DirectionFinder, Units
from neurosuper.metrics import ImageMetric, Precomputed
from neurosuper.study.analyses import Populations, Twins
from neurosuper.study.build import System, load_systems
from neurosuper.study.file import Study
from neurosuper.study.references import References
from neurosuper.superposition import measure_superposition
from neurosuper.superposition.all_measures import OF_SYSTEMS, Measure

__all__ = ["Line", "Timing", "grow", "report_seconds", "time_fit", "time_load", "time_measures", "time_metric"]
__all__ += ["time_pair", "work"]

LONG_ENOUGH = 0.5  # s; a timing of this length is not dominated by what each call costs at least
# Seconds of a report: the least, for each column of a figure with its tests, and for each item. Measured on one core,
# with 2 to 144 columns and 40 to 19,200 items (all times metrics): the line is within a third of each.
REPORT = 0.5, 0.06, 5e-4
FEWEST = 32  # stimuli or images of the first timing


def report_seconds(n_columns: int, n_items: int, n_metrics: int) -> float:
    """Return the seconds that a report takes, with `n_columns` pairs of a system and a finder.

    Examples
    --------
    >>> report_seconds(n_columns=32, n_items=640, n_metrics=3)
    7.22
    """
    least, per_column, per_item = REPORT
    return round(least + n_metrics * (per_column * n_columns + per_item * n_items), 3)


def work(n_stimuli: int, n_units: int, n_directions: int) -> int:
    """Return the size of a fit: the cost of one product of all responses with all directions."""
    return n_stimuli * n_units * n_directions


class Timing(NamedTuple):
    """How long something of a known size took."""

    seconds: float
    size: float


class Line(NamedTuple):
    """Two timings, which give the cost of any call and the cost per size."""

    small: Timing
    large: Timing

    def at(self, size: float) -> float:
        """Return the seconds for another size."""
        if self.small.size == self.large.size:  # all of it was timed
            return self.large.seconds * max(size / self.large.size, 1.0)
        slope = max(self.large.seconds - self.small.seconds, 0.0) / (self.large.size - self.small.size)
        return self.small.seconds + slope * max(size - self.small.size, 0.0)


def time_load(study: Study, images: xr.DataArray, files: References) -> tuple[float, list[System]]:
    """Return how long the systems of a study take to load, and the systems."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="neurosuper-") as cache:
        loaded = list(load_systems(study, images, files, Path(cache)))
    return time.perf_counter() - start, loaded


def time_fit(study: Study, finder: DirectionFinder, values: np.ndarray, n_fit: int) -> Timing:
    """Return how long it takes to fit a finder to some stimuli and to rank all stimuli, and the work of the fit."""
    responses = _labelled(values[: 2 * n_fit if study.score_on == "held-out" else n_fit])
    start = time.perf_counter()
    (fit,) = fit_systems({"pilot": responses}, [finder], top=study.top, score_on=study.score_on, baselines=False)
    seconds = time.perf_counter() - start
    return Timing(seconds, work(n_fit, values.shape[1], fit.fitted.directions_.sizes["direction"]))


def time_metric(
    study: Study, metric: ImageMetric | Precomputed, images: xr.DataArray, n_items: int, n_images: int
) -> Timing:
    """Return how long a metric takes to score noise of some units on some images."""
    part = images[:n_images]
    noise = np.random.default_rng(0).gamma(1, 1, (len(part), n_items))
    codes = _labelled(noise).assign_coords(stimulus=part.stimulus.values)
    fits = list(fit_systems({"pilot": codes}, [Units()], top=study.top, score_on="all", baselines=False))
    start = time.perf_counter()
    score_fits(fits, part, {"pilot": metric})
    return Timing(time.perf_counter() - start, len(part))


def time_measures(
    measures: Sequence[Measure], values: np.ndarray, top: int, n_rotations: int, n_finders: int, n_stimuli: int
) -> Timing:
    """Return how long measures of superposition take, of a system and its finders, without embedding images."""
    responses, rng = _labelled(values[:n_stimuli]), np.random.default_rng(0)
    labels, n = responses.stimulus.values, responses.sizes["stimulus"]
    blank = np.zeros((n, 1, 1, 3), np.uint8)
    images = xr.DataArray(blank, {"stimulus": labels}, ("stimulus", "row", "column", "channel"))
    apart = np.triu(rng.random((n, n)), 1)
    metric = Precomputed(xr.DataArray(apart + apart.T, {"stimulus": labels, "other": labels}, ("stimulus", "other")))
    factors = xr.Dataset({name: ("stimulus", rng.integers(0, 2, n).astype(str)) for name in "ab"}, {"stimulus": labels})
    fits = list(fit_systems({"pilot": responses}, [Units()], top=top, baselines=False))
    measure = partial(measure_superposition, top=top, factors=factors, n_rotations=n_rotations)
    seconds = 0.0
    for name in measures:
        start = time.perf_counter()
        with suppress(ValueError):  # not possible for so few; the run will say so
            measure({"pilot": responses}, fits, images, metric, measures=[name])
        n_nodes = 1 if name in OF_SYSTEMS else n_finders
        seconds += n_nodes * (time.perf_counter() - start)
    return Timing(seconds, n)


def time_pair(table: Populations | Twins, values: np.ndarray, n_stimuli: int) -> Timing:
    """Return how long the units of two systems, the halves of these, take to compare as a table of a study asks."""
    a, b = np.split(values[:n_stimuli], 2, axis=1)
    one, two = _labelled(a), _labelled(b)
    start = time.perf_counter()
    if isinstance(table, Twins):
        twins(one, two, **table.model_dump(exclude={"pairs", "finders"}))
    else:
        compare_populations({"a": one, "b": two}, [], **table.model_dump(exclude={"pairs", "finders"}))
    return Timing(time.perf_counter() - start, n_stimuli)


def _labelled(values: np.ndarray) -> xr.DataArray:
    coords = {dim: [str(i) for i in range(n)] for dim, n in zip(("stimulus", "unit"), values.shape, strict=True)}
    return xr.DataArray(values, coords, ("stimulus", "unit"))


def grow(measure: Callable[[int], Timing], n_all: int) -> Line:
    """Return timings of few stimuli and of enough: twice as many, then more until it takes long enough, or all.

    Errors of a part, such as fewer stimuli than directions, are raised only if all stimuli are used.
    """
    n, found = min(FEWEST, n_all), list[Timing]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: the run will show them
        while True:
            try:
                if not found:
                    measure(n)  # not counted: the first call compiles and imports
                found.append(measure(n))
            except ValueError:
                if n == n_all:
                    raise
            if n == n_all or (len(found) > 1 and found[-1].seconds >= LONG_ENOUGH):
                return Line(found[0], found[-1])
            n = min(2 * n, n_all)
