"""Read a study completely without running it, and estimate time, memory and disk of a run on this machine.

The model: a small part of each step is timed (see `timings`) and scaled.

- networks: activations of a few images; time ∝ images.
- fits: each finder, on the largest system (simulated if it is a network), with more and more stimuli until a
  fit takes long enough or all are used; time ∝ stimuli × units × directions, for every system and seed. Iterative
  finders may need more or fewer iterations on all stimuli.
- metrics: the scores of a few random units, on more and more images, and of many on few; time = a line over images that
  are scored, and a cost for each item and each random set.
- superposition: its measures of some units of a simulated system, on more and more stimuli; time ∝ units², plus that of
  embedding all images once more.
- report: a line over its columns (system × finder) and items, both times metrics, as measured once (see `timings`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from neurosuper.comparison.baselines import add_baselines
from neurosuper.comparison.scoring import N_RANDOM_SETS
from neurosuper.datasets import list_cache
from neurosuper.directions import DirectionFinder
from neurosuper.directions.settings import count_directions
from neurosuper.metrics import LPIPS, Color, ImageMetric, Precomputed
from neurosuper.metrics.lpips import hub_file
from neurosuper.study.build import (
    STORED_METRICS,
    Metrics,
    are_grey,
    load_study_images,
    make_finders,
    make_metrics,
    try_metrics,
)
from neurosuper.study.file import Study, read_study, tables_of
from neurosuper.study.measures import describe_measures, metric_of
from neurosuper.study.pairs import check_pairs, describe_pairs, finders_of
from neurosuper.study.plan import describe_steps, describe_time, read_durations
from neurosuper.study.references import References
from neurosuper.study.run import SEEDLESS, check_permitted
from neurosuper.study.sizes import measure_systems
from neurosuper.study.timings import grow, report_seconds, time_fit, time_measures, time_metric, time_pair, work
from neurosuper.superposition.all_measures import check_measures

__all__ = ["StudyCheck", "check_study"]

N_FEATURES = 32  # of simulated responses
N_ITEMS = 50, 450  # scored by a metric when it is timed
MOST_PILOT_UNITS = 64  # whose measures of superposition are timed
RANGE = 3  # times longer or shorter than the estimate, a run may be
BASE_BYTES = 0.8e9  # of Python with torch, before any data
REPORT_BYTES = 3e6
FLOAT = 4  # bytes


@dataclass(frozen=True, repr=False)
class StudyCheck:
    """What a study will do, as returned by `check_study`; printed, it is a summary.

    Parameters
    ----------
    path : Path
        The study file.
    systems : DataFrame
        By name: `n_stimuli` with an image, `n_left_out` without one, `n_fit` to find directions on, `n_units` that
        vary, `n_constant` others.
    directions : DataFrame
        Number of directions (system, finder); baselines that the study adds are included.
    selected : list of str
        Of each system with `select_units`: how many units were kept, and by which thresholds.
    metrics : dict of str to str
        State of each metric by name: "ready", with what to know about it, or what the run has to fetch first.
    seconds : dict of str to float
        Estimated time of each step: "images", "systems", "fits", "metrics", "superposition", "populations" and
        "twins" if the study asks for them, "report".
    memory, disk : float
        Estimated bytes.
    last_run : dict of str to float
        Seconds of each step but the report of the last run in the output folder; empty if there was none.
    superposition : str
        Which of its measures are computed, in a line; "" if none.
    pairs : list of str
        What is compared in pairs of systems, in lines.

    See Also
    --------
    check_study : Returns it.

    Examples
    --------
    >>> systems = pd.DataFrame({"n_stimuli": [40], "n_fit": [20], "n_units": [5]}, ["V4"])
    >>> directions = pd.DataFrame({"Units": [5]}, ["V4"])
    >>> check = StudyCheck(Path("study.toml"), systems, directions, [], {"Color": "ready"}, {"fits": 80.0}, 1e9, 4e6)
    >>> print(str(check).splitlines()[-2])
    Estimate for this machine: about 80 s (fits 80 s), 1.0 GB of memory, 4.0 MB of disk.
    """

    path: Path
    systems: pd.DataFrame
    directions: pd.DataFrame
    selected: list[str]
    metrics: Mapping[str, str]
    seconds: Mapping[str, float]
    memory: float
    disk: float
    last_run: Mapping[str, float] = field(default_factory=dict)
    superposition: str = ""
    pairs: Sequence[str] = ()

    @property
    def total(self) -> float:
        """Estimated seconds of the whole run."""
        return sum(self.seconds.values())

    def __repr__(self) -> str:
        lines = [f"{self.path} can be run.", "", self.systems.to_string(), *self.selected, ""]
        lines += ["Directions (system, finder):", self.directions.to_string(), ""]
        lines += [f"Metric {name}: {state}" for name, state in self.metrics.items()]
        lines += [f"{line[:1].upper()}{line[1:]}" for line in (self.superposition, *self.pairs) if line] + [""]
        lines.append(
            f"Estimate for this machine: about {describe_time(self.total)} ({describe_steps(self.seconds)}), "
            f"{_describe_bytes(self.memory)} of memory, {_describe_bytes(self.disk)} of disk."
        )
        basis = (
            "Basis: a small part of each step, timed now and scaled; for the report, its numbers of finders, items and "
            f"metrics. A third to three times as long is possible: {describe_time(self.total / RANGE)} to "
            f"{describe_time(self.total * RANGE)}."
        )
        if self.last_run:
            total = describe_time(sum(self.last_run.values()))
            basis += f" The last run took {total} before its report ({describe_steps(self.last_run)})."
        return "\n".join([*lines, basis])


def _describe_bytes(n: float) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"


def check_study(path: str | Path, output: str | Path | None = None, *, trust: bool = False) -> StudyCheck:
    """Return what a study will do and how long it takes, without running it and without writing anything.

    Images and recordings are loaded, networks see a few images, each metric embeds a few, and every finder is fitted to
    a part of the responses. Nothing is downloaded.

    Parameters
    ----------
    path : path of a TOML file
        The study.
    output : folder, optional
        As for `run_study`; only to find how long the last run took.
    trust : bool, optional
        As for `run_study`.

    Returns
    -------
    StudyCheck
        Printed, it is a summary.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError, ImportError
        As from `run_study`: an error in the file, a name or an input, in one line.
    FileNotFoundError
        A dataset that is not on this disk; `neurosuper fetch` fetches it.

    See Also
    --------
    run_study : run it.
    new_study : write a study file for your data.

    Notes
    -----
    A small part of each step is timed on this machine and scaled: activations by the number of images; fits by stimuli
    × units × directions; metrics by the number of images, and of items with the random sets that give the chance level.
    The report is not timed: its time is a line over the numbers of finders, items and metrics, measured once.
    Iterative finders may need more or fewer iterations on all stimuli than on a part.

    Examples
    --------
    >>> check_study("study.toml")  # doctest: +SKIP
    """
    path = Path(path).resolve()
    study, files = read_study(path), References(path, trust=trust)
    check_permitted(study, files)
    _require_datasets(study)
    finders = make_finders(study.finders, files, study.device)
    if study.baselines:
        finders, _ = add_baselines(finders)
    start = time.perf_counter()
    images = load_study_images(study, files)
    of_images = time.perf_counter() - start
    systems, selected, recording = measure_systems(study, images, files)
    check_pairs(study, systems.index.tolist())
    of_systems = time.perf_counter() - start - of_images + float(systems.pop("seconds").sum())
    cached = FLOAT * int((systems.n_stimuli * systems.n_units)[systems.n_constant.isna()].sum())
    directions = _count_directions(finders, systems)
    fits = _estimate_fits(study, finders, systems, recording, directions)
    metrics, states = _ready_metrics(study, files, images)
    n_images = images.sizes["stimulus"]
    scores_all = study.score_on == "all" or any("fit_on" in table for table in study.systems.values())
    n_scored = n_images if scores_all else min(n_images, n_images // 2 * len(study.seeds))
    n_items = int(directions.to_numpy().sum()) * len(study.seeds)
    scores = _estimate_scores(study, metrics, images, n_scored, n_items, len(systems))
    of_measures = _estimate_measures(study, systems, len(finders), scores.get(metric_of(study), 0.0))
    memory, disk = _estimate_bytes(study, systems, directions, metrics, images, n_scored)
    return StudyCheck(
        path,
        systems,
        directions,
        selected,
        states,
        {
            "images": of_images,
            "systems": of_systems,
            "fits": fits,
            "metrics": sum(scores.values()),
            **of_measures,
            **_estimate_pairs(study, systems, fits),
            "report": report_seconds(directions.size, n_items, len(metrics)),
        },
        memory,
        disk + cached,
        read_durations(Path(output) if output else files.resolve(study.output or f"{path.stem}_output")),
        describe_measures(study),
        describe_pairs(study),
    )


def _require_datasets(study: Study) -> None:
    """Refuse datasets that a run would have to fetch: a check downloads nothing."""
    for table in tables_of(study).values():
        dataset = table.get("dataset", ".toml")
        if not str(dataset).endswith(".toml") and "path" not in table and dataset not in set(list_cache().dataset):
            raise FileNotFoundError(
                f"the dataset {dataset!r} is not on this disk; fetch it first with: neurosuper fetch {dataset} --images"
            )


def _count_directions(finders: Mapping[str, DirectionFinder], systems: pd.DataFrame) -> pd.DataFrame:
    """Return the number of directions (system, finder)."""
    return pd.DataFrame(
        {
            name: [count_directions(getattr(finder, "n_directions", None), int(n)) for n in systems.n_units]
            for name, finder in finders.items()
        },
        index=systems.index,
    )


def _estimate_fits(
    study: Study,
    finders: Mapping[str, DirectionFinder],
    systems: pd.DataFrame,
    recording: xr.DataArray | None,
    directions: pd.DataFrame,
) -> float:
    """Return the seconds of all fits, from timings of each finder on the largest system, or on a simulation."""
    halves = 2 if study.score_on == "held-out" else 1
    largest = (systems.n_stimuli * systems.n_units).idxmax()
    if recording is None or pd.isna(systems.n_constant[largest]):
        recording = _simulate(int(systems.n_stimuli[largest]), int(systems.n_units[largest]))
    values = recording.transpose("stimulus", "unit").values
    values = values[:, np.ptp(values, axis=0) > 0]
    total = 0.0
    for name, finder in finders.items():
        line = grow(partial(time_fit, study, finder, values), len(values) // halves)
        seedless = study.score_on == "all" and isinstance(finder, SEEDLESS)
        n_seeds = 1 if seedless else len(study.seeds)
        for system, n in directions[name].items():
            n_fit, n_units = (int(systems.loc[system, size]) for size in ("n_fit", "n_units"))
            total += n_seeds * line.at(work(n_fit, n_units, n))
    return total


def _ready_metrics(study: Study, files: References, images: xr.DataArray) -> tuple[Metrics, dict[str, str]]:
    """Return the metrics that can be tried without a download, and the state of each by name."""
    ready, states = {}, {}
    for name, metric in make_metrics(study, files).items():
        is_missing = isinstance(metric, LPIPS) and metric.weights is None and not hub_file(metric.net).is_file()
        states[name] = "the run downloads its weights first; its time is not in the estimate" if is_missing else "ready"
        if not is_missing:
            ready[name] = metric
        if isinstance(metric, Color) and are_grey(images):
            states[name] = "ready; the images are grey, so it compares their brightness and nothing else"
    try_metrics(ready, images)
    return ready, states


def _simulate(n_stimuli: int, n_units: int) -> xr.DataArray:
    """Return responses to sparse features: on noise without structure, iterative finders would take far longer."""
    rng = np.random.default_rng(0)
    features = rng.exponential(1, (n_stimuli, N_FEATURES)) * (rng.random((n_stimuli, N_FEATURES)) < 1 / 8)
    mean = features @ np.abs(rng.normal(size=(N_FEATURES, n_units)))
    values = mean + 0.1 * rng.random((n_stimuli, n_units))
    return xr.DataArray(values.astype(np.float32), dims=("stimulus", "unit"))


def _estimate_scores(
    study: Study, metrics: Metrics, images: xr.DataArray, n_scored: int, n_items: int, n_systems: int
) -> dict[str, float]:
    """Return the seconds of each metric: a line over images, for few items, and a cost per further item."""
    few, many = N_ITEMS
    # Random sets of every system are scored for its chance level; those of one system are in each timing.
    n_more = max(n_items - few + (n_systems - 1) * N_RANDOM_SETS, 0)
    total = {}
    for name, metric in metrics.items():
        line = grow(partial(time_metric, study, metric, images, few), n_scored)
        n_images = int(line.small.size)
        per_item = max(time_metric(study, metric, images, many, n_images).seconds - line.small.seconds, 0) / (
            many - few
        )
        total[name] = line.at(n_scored) + n_more * per_item
    return total


def _estimate_measures(study: Study, systems: pd.DataFrame, n_finders: int, embedding: float) -> dict[str, float]:
    """Return the seconds of the measures of superposition, if there are any, from those of some simulated units."""
    if (table := study.superposition) is None:
        return {}
    names = check_measures(table.measures or "all", study.factors is not None)
    n_units = systems.n_units.astype(int).clip(lower=2, upper=table.max_units)
    pilot = min(int(n_units.max()), MOST_PILOT_UNITS)
    values = _simulate(int(systems.n_stimuli.max()), pilot).values
    line = grow(partial(time_measures, names, values, study.top, table.n_rotations, n_finders), len(values))
    seconds = [line.at(int(n)) * (units / pilot) ** 2 for n, units in zip(systems.n_stimuli, n_units, strict=True)]
    return {"superposition": sum(seconds) + embedding}


def _estimate_pairs(study: Study, systems: pd.DataFrame, fits: float) -> dict[str, float]:
    """Return the seconds of comparisons in pairs of systems, if there are any, from those of two simulated ones.

    Items are as many as units; one pair costs about as much as another, at the mean size of systems.
    """
    n_stimuli, n_units = int(systems.n_stimuli.max()), float(systems.n_units.mean())
    pilot = int(np.clip(n_units, 2, MOST_PILOT_UNITS))
    values = _simulate(n_stimuli, 2 * pilot).values
    n_all, seconds = len(systems) * (len(systems) - 1) // 2, {}
    for step, table in (("populations", study.populations), ("twins", study.twins)):
        if table is not None:
            n_kinds = 1 + len(finders_of(study, table.finders))
            line = grow(partial(time_pair, table, values), n_stimuli)
            n_pairs = n_all if table.pairs is None else len(table.pairs)
            own = line.at(n_stimuli) * n_kinds * n_pairs * (n_units / pilot)
            seconds[step] = own + (fits / len(study.seeds) if step == "populations" else 0.0)
    return seconds


def _count_features(metric: ImageMetric | Precomputed, images: xr.DataArray) -> int:
    return 0 if isinstance(metric, Precomputed) else metric.embed(images[:2]).shape[1]


def _estimate_bytes(
    study: Study,
    systems: pd.DataFrame,
    directions: pd.DataFrame,
    metrics: Metrics,
    images: xr.DataArray,
    n_scored: int,
) -> tuple[float, float]:
    """Return bytes of memory and of disk, without stored activations."""
    n_features = {name: _count_features(metric, images) for name, metric in metrics.items()}
    # Responses, those to fit on and to score on, and the prepared copy of those to fit on.
    responses = 2 * FLOAT * float(((systems.n_stimuli + systems.n_fit) * systems.n_units).sum())
    embedded = FLOAT * n_scored * max(n_features.values(), default=0)
    memory = BASE_BYTES + images.nbytes + responses + embedded
    disk = REPORT_BYTES + FLOAT * len(study.seeds) * float(directions.mul(systems.n_units, axis=0).to_numpy().sum())
    if study.cache_embeddings:
        stored = [name for name, metric in metrics.items() if isinstance(metric, STORED_METRICS)]
        size = np.dtype(study.cache_embeddings).itemsize
        disk += size * n_scored * sum(n_features[name] for name in stored)
    return memory, disk
