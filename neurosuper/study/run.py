"""A study: one TOML file names images, systems, finders, metrics and seeds; a run writes all numbers and a report."""

from __future__ import annotations

import json
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import xarray as xr
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from sklearn.base import clone

import neurosuper
from neurosuper._toml import parse_toml
from neurosuper._torch import pick_device
from neurosuper.comparison.side_by_side import Fit, describe_shared, fit_systems, meet_images, score_fits, split_alike
from neurosuper.directions import PCA, DirectionFinder, Units, recovery
from neurosuper.images import load_images
from neurosuper.interpretability.index import describe
from neurosuper.metrics.cache import Stored
from neurosuper.report import render_report
from neurosuper.responses import average_repetitions, drop_constant_units, name_some
from neurosuper.study.build import (
    Metrics,
    keep_embeddings,
    make_finders,
    make_metrics,
    read_truth,
    refuse_escapes,
    try_metrics,
)
from neurosuper.study.references import References, Table, call, shared_name
from neurosuper.study.write import NUMBERS, cannot_write, hold, keep_directions, publish, try_writing, write_numbers

__all__ = ["Study", "read_study", "run_study"]

LOADERS = ("load", "load_nwb", "load_array", "activations")
SEEDLESS = (Units, PCA)
PACKAGES = (
    *("neurosuper", "numpy", "scipy", "scikit-learn", "xarray", "dask"),
    *("pillow", "torch", "torchvision", "lpips", "pynwb"),
)

Name = Annotated[str, Field(pattern=r"^[^/|$]*[^/|$.\s][^/|$]*$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _refuse_repeats(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("each seed may be named once")
    return seeds


class Study(BaseModel):
    """What a study file says; see the file `tutorials/v4_squeezenet.toml` for a complete one.

    `cache_embeddings = "float32"` keeps the embeddings of `LPIPS` and `Features` in `cache/embeddings`, beside the
    outputs: a run after an interruption, or with other systems, finders or seeds, embeds no image again, and nothing is
    rounded. "float16" takes half the disk (LPIPS by AlexNet, 112 × 112 pixels: 220 in place of 440 KB an image) and
    rounds, see `cached`. Both need the extra `zarr`. Whether kept or not, within a run each image is embedded once per
    metric, for all systems, finders and seeds.

    A metric may be given as distances: `[metrics.human]` with `metric = "Precomputed"` and the `path` of a netCDF file
    of one array `(stimulus, any other name)` over all the images; see `Precomputed`, also for `name` and `quantity`.
    """

    model_config = ConfigDict(extra="forbid")

    title: str
    note: str = ""
    output: str | None = None
    top: Annotated[int, Field(ge=2)] = 5
    score_on: Literal["held-out", "all"] = "held-out"
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_refuse_repeats)] = [0]
    device: str | None = None
    cache_embeddings: Stored | None = None
    images: Table
    systems: Annotated[dict[Name, Table], Field(min_length=1)]
    finders: Annotated[dict[Name, Table], Field(min_length=1)]
    metrics: Annotated[dict[Name, Table], Field(min_length=1)]


def read_study(path: str | Path) -> Study:
    """Read and check a study file.

    Parameters
    ----------
    path : path of a TOML file

    Returns
    -------
    Study

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not TOML, a key that is missing or unknown, or a value of the wrong kind: each is named.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no study file {path}; tutorials/v4_squeezenet.toml is one to start from")
    try:
        study = Study.model_validate(parse_toml(path.read_bytes(), path))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{path}: {wrong}") from error
    named = [("images", study.images), ("study", {"output": study.output})]
    for kind in ("systems", "finders", "metrics"):
        named += [(f"{kind}.{name}", table) for name, table in getattr(study, kind).items()]
    for where, table in named:
        refuse_escapes(table, f"{path}: [{where}]")
    return study


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
    command, path = _command(path), Path(path).resolve()
    study = read_study(path)
    files = References(path, trust=trust)
    files.check_code([study.images, *study.systems.values(), *study.finders.values(), *study.metrics.values()])
    folder = _output_folder(study, files, output)
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
    images = _load_images(study, files)
    metrics = _make_metrics(study, files, images, folder / "cache" / "embeddings")
    said |= {"quantity": [describe(metric) for metric in metrics.values()], "image": images.stimulus.values.tolist()}
    try_writing(folder, [], {}, said)
    systems = list(_load_systems(study, images, files, folder / "cache"))
    _refuse_equal_names([system.name for system in systems])
    try_writing(folder, kept, {system.name: system.responses for system in systems} if kept else {}, {})
    _check_truths(systems)
    provenance = json.dumps(_trace(study, systems, files, command))

    fits: dict[int, list[Fit]] = {seed: [] for seed in study.seeds}
    try:
        for seed, found in fits.items():
            for fit in _fit(study, systems, finders, seed):
                found.append(fit)
        result = _score(fits, images, metrics).assign_attrs(_describe(study, systems, fits), provenance=provenance)
        result = result.merge(_recover(fits, systems))
    except Exception as error:
        if where := keep_directions(folder, fits):
            error.add_note(f"({where})")
        raise
    publish(folder, lambda path: write_numbers(path, result, fits), lambda: render_report(result, images))
    return result


class _System(NamedTuple):
    """One population as the study uses it."""

    name: str
    responses: xr.DataArray
    truth: xr.DataArray | None
    drop_constant_units: bool


def _make_metrics(study: Study, files: References, images: xr.DataArray, folder: Path) -> Metrics:
    """Make and try the metrics; where the study asks for it, their embeddings are kept in a folder."""
    metrics = make_metrics(study.metrics, files, study.device)
    kept = keep_embeddings(metrics, folder, study.cache_embeddings) if study.cache_embeddings else metrics
    try_metrics(metrics, images)
    return kept


def _load_images(study: Study, files: References) -> xr.DataArray:
    table = files.fill(study.images)
    if "dataset" in table:
        return call(neurosuper.load_stimuli, table, "images")
    if "path" not in table:
        raise ValueError("[images] needs a path (a folder or a zip file of images), or a dataset")
    return call(load_images, {"source": table.pop("path")} | table, "images")


def _load_systems(study: Study, images: xr.DataArray, files: References, cache: Path) -> Iterator[_System]:
    """Load every system, on the stimuli that have an image; a network gives one system per layer."""
    for name, table in study.systems.items():
        options = files.fill(table)
        loader, drop = options.pop("loader", None), options.pop("drop_constant_units", False)
        if loader not in LOADERS or not isinstance(drop, bool):
            raise ValueError(
                f"[systems.{name}] loader must be one of {', '.join(LOADERS)}, and drop_constant_units true or false; "
                f"got {loader!r} and {drop!r}"
            )
        truth = read_truth(options.pop("truth"), name) if "truth" in options else None
        if loader == "activations":
            options = {"device": study.device, "cache": cache} | options | {"images": images}
        elif options.get("stimuli") is True:
            options["stimuli"] = images
        responses = average_repetitions(call(getattr(neurosuper, loader), options, f"systems.{name}"))
        for own, part in _by_layer(name, responses, options.get("layers")):
            yield _System(own, meet_images(own, part, images.stimulus), truth, drop)


def _by_layer(name: str, responses: xr.DataArray, layers: object) -> Iterator[tuple[str, xr.DataArray]]:
    """Yield one system per layer of a network whose layers are a list, else the one that it is."""
    if not isinstance(layers, list):
        yield name, responses
        return
    for layer in layers:
        yield f"{name} {layer}", responses.sel(unit=(responses.layer == layer).values)


def _refuse_equal_names(names: list[str]) -> None:
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two systems are called {sorted(twice)[0]!r} (a network's layers are added to its name)")


def _fit(study: Study, systems: list[_System], finders: dict[str, DirectionFinder], seed: int) -> Iterator[Fit]:
    """Find directions in every system, with one seed for the halves and for the finders.

    On all stimuli, what no seed changes is found once.
    """
    responses = {system.name: system.responses for system in systems}
    if study.score_on == "held-out":
        responses = split_alike(responses, seed)
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
        yield from fit_systems(responses, seeded, study.top, study.score_on, seed)


def _score(fits: dict[int, list[Fit]], images: xr.DataArray, metrics: Metrics) -> xr.Dataset:
    """Score the directions of all seeds at once: each image is embedded once per metric."""
    every = [fit for of_seed in fits.values() for fit in of_seed]
    seeds = [seed for seed, of_seed in fits.items() for fit in of_seed for _ in range(fit.top.shape[1])]
    return score_fits(every, images, metrics).assign_coords(seed=("item", seeds))


def _recover(fits: dict[int, list[Fit]], systems: list[_System]) -> xr.Dataset:
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


def _check_truths(systems: list[_System]) -> None:
    """Refuse planted directions that lack units before the first fit."""
    for system in systems:
        if system.truth is not None:
            varying = drop_constant_units(system.responses) if system.drop_constant_units else system.responses
            _on_units(system.name, system.truth, varying.unit)


def _describe(study: Study, systems: list[_System], fits: dict[int, list[Fit]]) -> dict[str, str]:
    """Return the attrs of `study.nc` that say what was done."""
    return {
        "title": study.title,
        "note": " ".join([study.note, *_dropped(systems, fits)]).strip(),
        "score_on": study.score_on,
        "shared_stimuli": describe_shared({system.name: system.responses for system in systems}),
    }


def _trace(study: Study, systems: list[_System], files: References, command: str) -> dict[str, Any]:
    """Return where every number comes from."""
    about = ("dataset", "dataset_version", "doi")
    told = {system.name: system.responses.attrs for system in systems}
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "device": str(pick_device(study.device)),
        "seeds": study.seeds,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "datasets": {
            name: {key: attrs[key] for key in about} for name, attrs in told.items() if set(about) <= set(attrs)
        },
        "files": files.checksums(),
    }


def _command(path: str | Path) -> str:
    """Return the command line, or the call where there was none; absolute paths by their names: reports are shared."""
    program = Path(sys.argv[0]).name
    if program != "neurosuper":
        return f"neurosuper.run_study({shared_name(str(path))!r})"
    words = ["=".join(map(shared_name, word.split("="))) for word in sys.argv[1:]]
    return shlex.join([program, *words])


def _dropped(systems: list[_System], fits: dict[int, list[Fit]]) -> Iterator[str]:
    """Say how many units of which system were left out because they did not vary."""
    every = [fit for of_seed in fits.values() for fit in of_seed]
    for system in systems:
        n_units = system.responses.sizes["unit"]
        n_lost = n_units - min(fit.fitted.mean_.sizes["unit"] for fit in every if fit.system == system.name)
        if n_lost:
            yield f"{system.name}: {n_lost} of {n_units} units do not vary over the stimuli and were dropped."


def _output_folder(study: Study, files: References, output: str | Path | None) -> Path:
    """Return the folder to write to, made if need be, after a trial write."""
    if output is not None:
        folder = Path(output)
    else:
        asked = study.output or f"{files.study.stem}_output"
        folder = files.written(asked, "output")
        files.written(f"{asked}/cache/embeddings", "output")  # which may be a link that came with the study
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise cannot_write(folder, error) from error
    return folder
