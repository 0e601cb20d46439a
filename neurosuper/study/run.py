"""A study: one TOML file names images, systems, finders, metrics and seeds; a run writes all numbers and a report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import xarray as xr
from sklearn.base import clone

from neurosuper.comparison.fitting import Fit, fit_systems, split_systems
from neurosuper.comparison.scoring import score_fits
from neurosuper.directions import PCA, DirectionFinder, Units, recovery
from neurosuper.interpretability.index import index_label
from neurosuper.report import render_report
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
from neurosuper.study.file import Study, read_study
from neurosuper.study.references import References
from neurosuper.study.write import (
    NUMBERS,
    command_line,
    describe_run,
    hold,
    keep_directions,
    output_folder,
    publish,
    trace_provenance,
    try_writing,
    write_numbers,
)

__all__ = ["Study", "read_study", "run_study"]

SEEDLESS = (Units, PCA)


def run_study(path: str | Path, output: str | Path | None = None, *, trust: bool = False) -> xr.Dataset:
    """Run a study and write `study.nc` (every number) and `report.html`.

    Each file is written whole or not at all, and a report is never beside numbers of another run. The folder and all
    names are tried before the first fit. When the end fails, what was computed is kept: the numbers where there is no
    report, all results in a temporary folder where `output` is full, the directions in `unfinished.nc` where a later
    fit or a metric fails. Of two runs in one folder, the second waits. Activations of networks are kept in `cache/`
    beside them, and so are the embeddings of images where the file says `cache_embeddings` (see `Study`), so that a run
    after an interruption goes on where the last one stopped.

    Parameters
    ----------
    path : path of a TOML file
        Paths in it are relative to its folder, and `$VARIABLES` of the environment are filled in.
    output : folder, optional
        Where to write; else what the file says, else `<name of the file>_output` beside it.
    trust : bool, optional
        By default the study runs only Python files in its own folder or below it and networks of neurosuper, and writes
        only below its folder or to `output`. True lets it run any module or file that it names and write anywhere: only
        for a study whose text you have read.

    Returns
    -------
    Dataset (item, metric)
        As from `compare`, with the item coord `seed`; where a system names its planted directions (`truth`), with
        `recovery (fit, planted)`. `encoding["source"]` is the path of `study.nc`, which holds the directions too
        (but for `Units`, the identity), in groups `directions/<system>/<finder>`.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError, OSError
        In one line: what is wrong in the file, in a name, in an input, or with the output folder; code from elsewhere
        without `trust` (the error says what it would have run).
    RuntimeError
        The report cannot be made; the numbers are in `study.nc`.
    ImportError
        The file says `cache_embeddings`, and zarr is not installed.

    Examples
    --------
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
    command, path = command_line(path), Path(path).resolve()
    study = read_study(path)
    files = References(path, trust=trust)
    files.check_code([study.images, *study.systems.values(), *study.finders.values(), *study.metrics.values()])
    folder = output_folder(study, files, output)
    with hold(folder):
        result = _run(study, files, folder, command)
    result.encoding["source"] = str(folder / NUMBERS)
    return result


def _run(study: Study, files: References, folder: Path, command: str) -> xr.Dataset:
    """Run a study whose folder is held; what is wrong with names or inputs is said before the first fit."""
    finders = make_finders(study.finders, files, study.device)
    kept = [name for name, finder in finders.items() if not isinstance(finder, Units)]  # whose directions are written
    said = {"title": [study.title], "note": [study.note], "metric": list(study.metrics)}
    try_writing(folder, kept, dict.fromkeys(study.systems if kept else []), said)
    images = load_study_images(study, files)
    metrics = make_study_metrics(study, files, images, folder / "cache" / "embeddings")
    said |= {"quantity": [index_label(metric) for metric in metrics.values()], "image": images.stimulus.values.tolist()}
    try_writing(folder, [], {}, said)
    systems = list(load_systems(study, images, files, folder / "cache"))
    refuse_equal_names([system.name for system in systems])
    try_writing(folder, kept, {system.name: system.responses for system in systems} if kept else {}, {})
    _check_truths(systems)
    provenance = json.dumps(trace_provenance(study, systems, files, command))

    fits: dict[int, list[Fit]] = {seed: [] for seed in study.seeds}
    try:
        for seed, found in fits.items():
            for fit in _fit(study, systems, finders, seed):
                found.append(fit)
        result = _score(fits, images, metrics).assign_attrs(describe_run(study, systems, fits), provenance=provenance)
        result = result.merge(_recover(fits, systems))
    except Exception as error:
        if where := keep_directions(folder, fits):
            error.add_note(f"({where})")
        raise
    publish(folder, lambda path: write_numbers(path, result, fits), lambda: render_report(result, images))
    return result


def _fit(study: Study, systems: list[System], finders: dict[str, DirectionFinder], seed: int) -> Iterator[Fit]:
    """Find directions in every system, with one seed for the halves and for the finders.

    On all stimuli, what no seed changes is found once.
    """
    responses = {system.name: system.responses for system in systems}
    if study.score_on == "held-out":
        responses = split_systems(responses, seed)
    for system in systems:
        if system.drop_constant_units:
            responses[system.name] = drop_constant_units(responses[system.name])
    again = study.score_on == "all" and seed != study.seeds[0]
    seeded = {
        name: clone(finder).set_params(random_state=seed)
        for name, finder in finders.items()
        if not (again and isinstance(finder, SEEDLESS))
    }
    if seeded:
        yield from fit_systems(responses, seeded, top=study.top, score_on=study.score_on, random_state=seed)


def _score(fits: dict[int, list[Fit]], images: xr.DataArray, metrics: Metrics) -> xr.Dataset:
    """Score the directions of all seeds at once: each image is embedded once per metric."""
    every = [fit for of_seed in fits.values() for fit in of_seed]
    seeds = [seed for seed, of_seed in fits.items() for fit in of_seed for _ in range(fit.top_stimuli.shape[1])]
    return score_fits(every, images, metrics).assign_coords(seed=("item", seeds))


def _recover(fits: dict[int, list[Fit]], systems: list[System]) -> xr.Dataset:
    """Return `recovery (fit, planted)` of the systems whose directions are known; empty where there is none."""
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
    """Return planted directions over the units that were kept."""
    if missing := set(units.values) - set(truth.unit.values):
        raise ValueError(f"truth of {name!r} lacks unit {name_some(sorted(missing))}; it must have all its units")
    return truth.sel(unit=units.values)


def _check_truths(systems: list[System]) -> None:
    """Refuse planted directions that lack units before the first fit."""
    for system in systems:
        if system.truth is not None:
            varying = drop_constant_units(system.responses) if system.drop_constant_units else system.responses
            _on_units(system.name, system.truth, varying.unit)
