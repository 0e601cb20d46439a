"""Run a study: load its systems, find directions with every seed, score them, and write the numbers and a report."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr
from sklearn.base import clone

from neurosuper.comparison import Fit, fit_systems, score_fits
from neurosuper.comparison.baselines import add_baselines
from neurosuper.comparison.scoring import UNITS_LEFT_OUT
from neurosuper.comparison.variable_attrs import add_attrs
from neurosuper.directions import PCA, DirectionFinder, Units, recovery
from neurosuper.interpretability.index import index_label
from neurosuper.report import make_report
from neurosuper.responses import drop_constant_units, name_some
from neurosuper.study.build import (
    Metrics,
    System,
    load_study_images,
    load_systems,
    make_finders,
    make_study_metrics,
    refuse_equal_names,
)
from neurosuper.study.file import Study, read_study, tables_of
from neurosuper.study.measures import SUPERPOSITION, describe_measures, load_factors, measure_study, write_tree
from neurosuper.study.pairs import POPULATIONS, TWINS, check_pairs, compare_study, describe_pairs, match_study
from neurosuper.study.plan import describe_plan, describe_time, read_durations
from neurosuper.study.references import References, shared_name
from neurosuper.study.registry import Registry, check_hypotheses
from neurosuper.study.write import (
    NUMBERS,
    command_line,
    describe_run,
    keep_directions,
    lock_folder,
    output_folder,
    publish,
    trace_provenance,
    try_writing,
    write_numbers,
)

__all__ = ["run_study"]

logger = logging.getLogger(__name__)

SEEDLESS = (Units, PCA)  # find the same directions with every seed


class Inputs(NamedTuple):
    """What a study reads."""

    images: xr.DataArray
    metrics: Metrics
    systems: list[System]
    factors: xr.Dataset | None


class Results(NamedTuple):
    """What a study computes: scores, fits by seed, and what they are of."""

    scores: xr.Dataset
    fits: dict[int, list[Fit]]
    inputs: Inputs
    seconds: dict[str, float]
    finders: dict[str, DirectionFinder]  # not fitted; with the baselines that the study adds


class Analyses(NamedTuple):
    """What a study asks for besides scores; None for what it does not, or what failed."""

    superposition: xr.DataTree | None = None
    populations: xr.Dataset | None = None
    twins: xr.DataTree | None = None


def run_study(path: str | Path, output: str | Path | None = None, *, trust: bool = False) -> xr.Dataset:
    """Return the results of a study, after writing them to `study.nc` and a report to `report.html`.

    Hypotheses of the file are written to `registry.json` before the first fit, and every run with scores is counted
    there (see `Study`). Each file is written whole or not at all, and a report never appears with the numbers of
    another run. With a table `[superposition]`, the measures of the fits of the first seed are written to
    `superposition.nc` (see `neurosuper.study.read_superposition`); with `[populations]` and `[twins]`, comparisons of
    the systems to `populations.nc` and `twins.nc` (see `neurosuper.study.read_populations` and `read_twins`). The
    report has a section on each. The folder and all names are tried before the first fit. If a run fails late, its
    results are kept: the numbers, if only the report fails; all else, if one of these sections fails; all results in a
    temporary folder, if `output` is full; the directions in `unfinished.nc`, if a later fit or a metric fails. A second
    run in the same folder waits for the first. Activations of networks are stored in `cache/` of the output folder, and
    so are embeddings of images if the file sets `cache_embeddings` (see `Study`): a run after an interruption reads
    them; the rest starts again, except a sparse autoencoder with a `checkpoint`.

    Parameters
    ----------
    path : path of a TOML file
        Paths in it are relative to its folder, and environment variables such as `$DATA` are filled in.
    output : folder, optional
        Folder to write to. By default the file's `output`, else `<name of the file>_output` in the folder of the file.
    trust : bool, optional
        By default the study runs only networks of neurosuper and Python files in its own folder or below it, and writes
        only below its folder or to `output`. True lets it run any module or file that it names and write anywhere: use
        it only for a study that you have read.

    Returns
    -------
    Dataset (item, metric)
        As from `compare`, with the item coord `seed`, and with `recovery (fit, planted)` if a system names its planted
        directions (`truth`). `encoding["source"]` is the path of `study.nc`, which also contains the directions (except
        those of `Units`) in groups `directions/<system>/<finder>`; its attr `format_version` is the version of this
        layout. Its attr `provenance` (JSON) contains what `reproduce` needs: the settings of the study, with relative
        paths (of absolute ones, only the last part), versions, seeds, threads, and checksums of all inputs.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError, OSError
        An error in the file, a name, an input or the output folder, in one line; or code from another folder without
        `trust` (the error shows what it would have run).
    RuntimeError
        The report cannot be rendered; the numbers are in `study.nc`.
    ImportError
        The file sets `cache_embeddings`, and zarr is not installed.

    See Also
    --------
    neurosuper.compare : the same comparison of arrays in memory.
    neurosuper.reproduce : run the study of a `study.nc` again, and compare all numbers.
    neurosuper.study.read_study : check a study file without running it.
    neurosuper.report.make_report : the report of a comparison.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np, tempfile
    >>> from PIL import Image
    >>> folder, rng = Path(tempfile.mkdtemp()), np.random.default_rng(0)
    >>> for i in range(20):
    ...     Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"photo{i:02d}.png")
    >>> np.save(folder / "v4.npy", rng.gamma(1, 5, (4, 20)))
    >>> _ = (folder / "study.toml").write_text('''
    ... title = "Four units"
    ... images.path = "."
    ... metrics.Color = {}
    ... finders.Units = {}
    ... [systems.V4]
    ... loader = "load_array"
    ... path = "v4.npy"
    ... dims = ["unit", "stimulus"]
    ... stimuli = "."
    ... ''')
    >>> dict(run_study(folder / "study.toml").interpretability.sizes)
    {'item': 4, 'metric': 1}
    """
    command, files = command_line(path), References(Path(path).resolve(), trust=trust)
    study = read_study(files.study)
    check_permitted(study, files)
    folder = output_folder(study, files, output)
    with lock_folder(folder):
        results = compute_results(study, files, folder, command)
        found, faults = analyse(study, results)  # scores, which may have taken hours, are published if one fails
        publish(folder, numbers_of(results, found), lambda: _render(results, found))
    if faults:
        first, *others = faults
        for fault in [*others, f"all else is complete, in {folder / NUMBERS}"]:
            first.add_note(f"({fault})")
        raise first
    results.scores.encoding["source"] = str(folder / NUMBERS)
    return results.scores


def numbers_of(results: Results, found: Analyses) -> dict[str, Callable[[Path], None]]:
    """Return, for each file of numbers, what writes it."""
    write: dict[str, Callable[[Path], None]] = {}
    write[NUMBERS] = lambda path: write_numbers(path, results.scores, results.fits)
    for name, tree in ((SUPERPOSITION, found.superposition), (TWINS, found.twins)):
        if tree is not None:
            write[name] = partial(write_tree, tree=tree)
    if (populations := found.populations) is not None:
        write[POPULATIONS] = lambda path: populations.to_netcdf(path)
    return write


def _render(results: Results, found: Analyses) -> str:
    return make_report(results.scores, results.inputs.images, **found._asdict()).html


def analyse(
    study: Study, results: Results, wanted: Collection[str] = (SUPERPOSITION, POPULATIONS, TWINS)
) -> tuple[Analyses, list[Exception]]:
    """Return what a study asks for besides scores, of the fits of the first seed, and the errors of what failed.

    Of these files, only those that are wanted. Times are added to the provenance of the scores.
    """
    images, metrics, systems, factors = results.inputs
    fits = results.fits[study.seeds[0]]
    steps: dict[str, tuple[object, str, Callable[[], xr.Dataset | xr.DataTree | None]]] = {
        "superposition": (
            study.superposition,
            SUPERPOSITION,
            lambda: measure_study(study, systems, fits, images, metrics, factors),
        ),
        "populations": (study.populations, POPULATIONS, lambda: compare_study(study, systems, results.finders)),
        "twins": (study.twins, TWINS, lambda: match_study(study, systems, fits)),
    }
    found: dict[str, Any] = {}
    faults: list[Exception] = []
    for step, (table, file, compute) in steps.items():
        if table is not None and file in wanted:
            try:
                with _timed(step, results.seconds):
                    found[step] = compute()
            except Exception as error:
                faults.append(error)
    provenance = json.dumps(json.loads(results.scores.provenance) | {"seconds": results.seconds})
    for each in (results.scores, *found.values()):
        if each is not None:
            each.attrs["provenance"] = provenance
    return Analyses(**found), faults


def check_permitted(study: Study, files: References) -> None:
    """Refuse code that a study may not run, before any of it is imported."""
    files.check_code(tables_of(study).values())


def compute_results(study: Study, files: References, folder: Path, command: str) -> Results:
    """Return the results of a study whose folder is locked; names and inputs are checked before the first fit."""
    finders = make_finders(study.finders, files, study.device)
    if study.baselines:
        finders, _ = add_baselines(finders)  # here, so that their names are tried too, and are those of every seed
    seconds: dict[str, float] = {}
    inputs = _load_inputs(study, files, folder, finders, seconds)
    images, metrics, systems, _ = inputs
    checksums = files.checksums()
    data = {name: checksum for name, checksum in checksums.items() if name != shared_name(files.study.name)}
    registry = Registry(folder, study, data)
    registry.state()
    _log_plan(study, systems, finders, images, folder)

    fits: dict[int, list[Fit]] = {seed: [] for seed in study.seeds}
    try:
        with _timed("fits", seconds):
            for seed, found in fits.items():
                for fit in _fit(study, systems, finders, seed):
                    found.append(fit)
        with _timed("metrics", seconds):
            result = _score(fits, images, metrics)
        provenance = trace_provenance(study, systems, result, checksums, command)
        provenance |= {"study": files.study.name, "seconds": seconds}
        result = result.assign_attrs(describe_run(study, systems, result), provenance=json.dumps(provenance))
        result = add_attrs(result.merge(_recover(fits, systems)))
        result.attrs["registry"] = json.dumps(registry.score(result))
    except Exception as error:
        if where := keep_directions(folder, fits):
            error.add_note(f"({where})")
        raise
    return Results(result, fits, inputs, seconds, finders)


def _load_inputs(
    study: Study, files: References, folder: Path, finders: dict[str, DirectionFinder], seconds: dict[str, float]
) -> Inputs:
    """Return what a study reads; every name is tried as soon as it is known, before the next slow step."""
    # With their directions, or with measures.
    written = [name for name, finder in finders.items() if study.superposition or not isinstance(finder, Units)]
    texts = {"title": [study.title], "note": [study.note], "metric": list(study.metrics)}
    try_writing(folder, written, dict.fromkeys(study.systems if written else []), texts)
    with _timed("images", seconds):
        images = load_study_images(study, files)
    metrics = make_study_metrics(study, files, images, folder / "cache" / "embeddings")
    quantities = [index_label(metric) for metric in metrics.values()]
    texts |= {"quantity": quantities, "image": images.stimulus.values.tolist()}
    try_writing(folder, [], {}, texts)
    with _timed("systems", seconds):
        systems = list(load_systems(study, images, files, folder / "cache"))
    refuse_equal_names([system.name for system in systems])
    try_writing(folder, written, {system.name: system.responses for system in systems} if written else {}, {})
    _check_truths(study, systems)
    check_hypotheses(study.hypotheses, [system.name for system in systems], finders)
    check_pairs(study, [system.name for system in systems])
    return Inputs(images, metrics, systems, load_factors(study, systems, images, files))


def _log_plan(
    study: Study, systems: list[System], finders: dict[str, DirectionFinder], images: xr.DataArray, folder: Path
) -> None:
    """Say what the run will do, before its first fit, and how long the last run took."""
    sizes = {system.name: (system.responses.sizes["stimulus"], system.responses.sizes["unit"]) for system in systems}
    last_run = read_durations(folder)
    measures = [line for line in (describe_measures(study), *describe_pairs(study)) if line]
    n_images = images.sizes["stimulus"]
    for line in describe_plan(sizes, finders, study.metrics, study.seeds, n_images, last_run, measures=measures):
        logger.info(line)


@contextmanager
def _timed(step: str, seconds: dict[str, float]) -> Iterator[None]:
    """Write down how long a step takes, and log it."""
    start = time.perf_counter()
    yield
    seconds[step] = round(time.perf_counter() - start, 3)
    logger.info("%s: done after %s", step, describe_time(seconds[step]))


def _fit(study: Study, systems: list[System], finders: dict[str, DirectionFinder], seed: int) -> Iterator[Fit]:
    """Yield the fits of every system and finder, with one seed for the halves and the finders.

    If all stimuli are used, directions that do not depend on the seed are found with the first seed only.
    """
    responses = {system.name: system.responses for system in systems}
    skip_seedless = study.score_on == "all" and seed != study.seeds[0]
    seeded = {
        name: clone(finder).set_params(random_state=seed)
        for name, finder in finders.items()
        if not (skip_seedless and isinstance(finder, SEEDLESS))
    }
    if not seeded:
        return
    for fit in fit_systems(
        responses,
        seeded,
        top=study.top,
        score_on=study.score_on,
        fit_on={system.name: system.fit_on for system in systems if system.fit_on is not None},
        baselines=study.baselines,
        stimulus_groups=study.stimulus_groups,
        drop_constant_units=study.drop_constant_units,
        random_state=seed,
    ):
        logger.debug("seed %d: %s by %s", seed, fit.system, fit.finder)
        yield fit


def _score(fits: dict[int, list[Fit]], images: xr.DataArray, metrics: Metrics) -> xr.Dataset:
    """Return the scores of the directions of all seeds together, so that each image is embedded once per metric."""
    every = [fit for of_seed in fits.values() for fit in of_seed]
    seeds = [seed for seed, of_seed in fits.items() for fit in of_seed for _ in range(fit.top_stimuli.shape[1])]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", UNITS_LEFT_OUT)  # the note says it
        return score_fits(every, images, metrics).assign_coords(seed=("item", seeds))


def _recover(fits: dict[int, list[Fit]], systems: list[System]) -> xr.Dataset:
    """Return `recovery (fit, planted)` of the systems with known directions; an empty Dataset if there are none."""
    truths = {system.name: system.truth for system in systems if system.truth is not None}
    rows = [
        recovery(fit.fitted.directions_, _on_units(fit.system, truths[fit.system], fit.fitted.mean_.unit))
        .drop_vars("match")
        .expand_dims("fit")
        .assign_coords(fit_system=("fit", [fit.system]), fit_finder=("fit", [fit.finder]), fit_seed=("fit", [seed]))
        for seed, of_seed in fits.items()
        for fit in of_seed
        if fit.system in truths
    ]
    return xr.concat(rows, dim="fit", join="outer").to_dataset() if rows else xr.Dataset()


def _on_units(name: str, truth: xr.DataArray, units: xr.DataArray) -> xr.DataArray:
    """Return planted directions restricted to the units of a fit."""
    if missing := set(units.values) - set(truth.unit.values):
        raise ValueError(f"truth of {name!r} lacks unit {name_some(sorted(missing))}; it must have all its units")
    return truth.sel(unit=units.values)


def _check_truths(study: Study, systems: list[System]) -> None:
    """Refuse planted directions that lack units, before the first fit."""
    for system in systems:
        if system.truth is not None:
            varying = drop_constant_units(system.responses) if study.drop_constant_units else system.responses
            _on_units(system.name, system.truth, varying.unit)
