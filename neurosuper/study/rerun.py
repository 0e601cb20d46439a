"""Run the study of a `study.nc` again, and compare all numbers with those that it contains."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from neurosuper.study.differences import NOT_COMPARED, Item, compare_files, compare_trees
from neurosuper.study.measures import SUPERPOSITION
from neurosuper.study.pairs import POPULATIONS, TWINS
from neurosuper.study.recorded import Provenance, find_folder, read_provenance, study_of
from neurosuper.study.references import References
from neurosuper.study.run import Results, analyse, check_permitted, compute_results, numbers_of
from neurosuper.study.write import NUMBERS, lock_folder

__all__ = ["Reproduction", "reproduce"]

TOLERANCE = 1e-5
FURTHER = {  # files besides `study.nc`, which are compared if they are there
    SUPERPOSITION: "superposition was not measured",
    POPULATIONS: "populations were not compared",
    TWINS: "twins were not found",
}
MAX_ROWS = 20  # of differences that the text of a `Reproduction` shows
RULE = (
    "Floating-point values may differ by {tolerance:g} of the largest of their variable, metric, system and finder; "
    "all others,\nand texts, must be equal. Not compared are the attrs {attrs}."
)


@dataclass(frozen=True, repr=False)
class Reproduction:
    """What a rerun of a study found, as returned by `reproduce`; its text is a summary.

    Parameters
    ----------
    path : Path
        The `study.nc` that was compared.
    differences : DataFrame
        A row for each variable, metric, system and finder with values that differ: `n_different` of `n_compared`
        values, `largest_difference`, and the two values that differ most, `recorded` and `rerun`.
    reasons : list of str
        What changed since the recorded run and may explain differences: inputs, versions, code, threads, machine.
    n_compared : int
        Number of values that were compared.
    n_ties : int
        Number of top stimuli that were exchanged for another of equal code, which is not a difference.
    tolerance : float
        Of floating-point values, relative to the largest of their variable, metric, system and finder.

    See Also
    --------
    reproduce : Returns one.

    Examples
    --------
    >>> from pathlib import Path
    >>> Reproduction(Path("study.nc"), pd.DataFrame(), ["numpy 2.1 then, 2.2 now"], 5120, 0, 1e-5)
    study.nc is reproduced: 5,120 values agree.
    Floating-point values may differ by 1e-05 of the largest of their variable, metric, system and finder; all others,
    and texts, must be equal. Not compared are the attrs provenance, registry and device.
    Changed since that run, without effect on these values:
      numpy 2.1 then, 2.2 now
    """

    path: Path
    differences: pd.DataFrame
    reasons: list[str]
    n_compared: int
    n_ties: int
    tolerance: float

    @property
    def same(self) -> bool:
        """Whether all values agree."""
        return self.differences.empty

    def __repr__(self) -> str:
        rule = RULE.format(
            tolerance=self.tolerance, attrs=" and ".join([", ".join(NOT_COMPARED[:-1]), NOT_COMPARED[-1]])
        )
        tied = f" Top stimuli of equal code were exchanged {self.n_ties:,} times." if self.n_ties else ""
        if self.same:
            lines = [f"{self.path} is reproduced: {self.n_compared:,} values agree.{tied}", rule]
            heading = "Changed since that run, without effect on these values:"
        else:
            n = int(self.differences.n_different.sum())
            lines = [
                f"{self.path} is not reproduced: {n:,} of {self.n_compared:,} values differ.{tied}",
                rule,
                self.differences.head(MAX_ROWS).to_string(index=False, na_rep=""),
            ]
            if (n_more := len(self.differences) - MAX_ROWS) > 0:
                lines.append(f"and {n_more} more rows in .differences")
            heading = "What changed since that run and may be why:"
        if not self.reasons and not self.same:
            lines.append("Nothing that is recorded has changed: a step of the study is random, or study.nc was edited.")
        return "\n".join([*lines, *([heading] if self.reasons else []), *(f"  {reason}" for reason in self.reasons)])


def reproduce(
    path: str | Path, *, folder: str | Path | None = None, tolerance: float = TOLERANCE, trust: bool = False
) -> Reproduction:
    """Return whether a study gives the same numbers again, after running it as its `study.nc` records.

    The settings of the study, its seeds and the number of threads are those recorded in `study.nc`; inputs are read
    from disk as they are now. The rerun writes to a temporary folder and changes nothing in the output folder. It does
    not reuse the activations, embeddings and checkpoints that the recorded run stored there, which are results too: a
    rerun takes as long, and until it ends as much disk, as a run in an empty folder.

    Compared are all variables, coords and attrs of the scores, of all directions, and of a `superposition.nc`,
    `populations.nc` and `twins.nc` next to the file, title and note included. Not compared are the attrs `provenance`
    (what differs there is a reason, see `Reproduction`), `registry` (it counts the runs in a folder) and `device` of
    directions. Labels, texts, counts and top stimuli must be equal, but a top stimulus may be exchanged for another
    whose code is equal within the tolerance. Floating-point values may differ by `tolerance` times the largest absolute
    value that `study.nc` has in the same variable, metric, system and finder; for what is computed from the index, such
    as its difference between halves, times the largest index, if this is larger.

    Parameters
    ----------
    path : path of a `study.nc`
        Written by `run_study`.
    folder : folder, optional
        Folder that the paths in the study file are relative to. By default the folder of `study.nc`, or one of the
        three above it: the first that contains a file with the name of the study file. Environment variables in paths
        are filled in.
    tolerance : float, optional
        See above. Most computation is in float32, with a relative rounding error of 6e-8 per operation. Another number
        of threads, another BLAS or another processor adds numbers up in another order; a sum of n terms then differs by
        about √n times as much, 1e-5 for 30,000 terms. An iteration that has not converged can amplify this: of the
        finders of a V4 recording (1,200 photographs, 89 units), those by two threads equal those by one within 1e-5
        for units, PCA and K-means, but not for ICA. With the recorded number of threads all are equal to the last bit.
    trust : bool, optional
        As in `run_study`: by default only networks of neurosuper, and Python files in `folder` or below it, are run.
        A `study.nc` from someone else names code as a study file does.

    Returns
    -------
    Reproduction
        `same`, `differences` (a DataFrame) and `reasons`; printed, it is a summary.

    Raises
    ------
    FileNotFoundError
        There is no such file or folder, the study file is in none of these folders, or an input is missing.
    ValueError
        The file is not a `study.nc`, has another layout than this neurosuper writes, or does not contain the settings
        of its study; these name absolute paths, and the study file was edited; a negative tolerance; or an error in the
        study, as in `run_study`.

    See Also
    --------
    run_study : Writes `study.nc`.

    Examples
    --------
    >>> reproduce("study_output/study.nc")  # doctest: +SKIP
    study_output/study.nc is reproduced: 5,120 values agree.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, got {tolerance!r}")
    path = Path(path)
    recorded = read_provenance(path)
    name = recorded["study"]
    folder = find_folder(path, name) if folder is None else Path(folder).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; pass the folder that paths in the study file are relative to")
    study, was_edited = study_of(recorded, path, folder / name)
    with tempfile.TemporaryDirectory(prefix="neurosuper-", ignore_cleanup_errors=True) as temporary:
        output = Path(temporary)
        files = References(folder / name, trust=trust, write_to=output)
        check_permitted(study, files)
        with lock_folder(output), _threads(recorded["threads"]):
            results = compute_results(study, files, output, f"neurosuper.reproduce({path.name!r})")
            found, faults = analyse(study, results, [name for name in FURTHER if path.with_name(name).exists()])
        for fault in faults:
            raise fault
        for written, write in numbers_of(results, found).items():
            write(output / written)
        ties = _Ties(results, tolerance)
        differences, n_compared = compare_files(path, output / NUMBERS, tolerance, ties)
        for file in FURTHER:
            if (output / file).exists():
                more, n_more = compare_trees(path.with_name(file), output / file, tolerance)
                differences, n_compared = pd.concat([differences, more]), n_compared + n_more
    reasons = list(_changes(recorded, json.loads(results.scores.provenance)))
    if was_edited:
        reasons.append(f"{name} was edited, but this explains no difference: the recorded settings were run")
    for file, what in FURTHER.items():
        if getattr(study, Path(file).stem) is not None and not path.with_name(file).exists():
            reasons.append(f"there is no {file} next to {path.name}, so {what} again")
    return Reproduction(path, differences, reasons, n_compared, ties.n, tolerance)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Use the recorded number of threads, but not more than there are processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(n, os.cpu_count() or 1)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Ties:
    """Whether two stimuli have codes that are equal within the tolerance, by the directions of the rerun.

    Parameters
    ----------
    results : Results
        Of the rerun.
    tolerance : float
        Largest difference of two codes, relative to the largest code of the item.
    """

    def __init__(self, results: Results, tolerance: float) -> None:
        self.n, self.tolerance = 0, tolerance
        self.responses = {system.name: system.responses for system in results.inputs.systems}
        self.fits = {(fit.system, fit.finder, seed): fit for seed, fits in results.fits.items() for fit in fits}
        self.codes: dict[tuple[str, str, int], xr.DataArray] = {}

    def __call__(self, item: Item, recorded: str, rerun: str) -> bool:
        system, finder, direction, seed = item
        fit = self.fits[system, finder, seed]
        if not {recorded, rerun} <= set(fit.scored):
            return False
        if (system, finder, seed) not in self.codes:
            units = fit.fitted.mean_.unit.values
            responses = self.responses[system].sel(stimulus=fit.scored, unit=units)
            self.codes[system, finder, seed] = fit.fitted.transform(responses)
        codes = self.codes[system, finder, seed]
        own = codes.sel({codes.dims[1]: direction})
        gap = abs(float(own.sel(stimulus=recorded)) - float(own.sel(stimulus=rerun)))
        tied = gap <= self.tolerance * float(np.abs(own).max())
        self.n += tied
        return tied


def _changes(then: Provenance, now: Provenance) -> Iterator[str]:
    """Yield what differs between the provenance of two runs and may change a number."""
    for name, version in _changed(then["versions"], now["versions"]):
        yield f"{name} {version}"
    if then["code"] != now["code"] and then["versions"]["neurosuper"] == now["versions"]["neurosuper"]:
        yield f"the code of neurosuper {now['versions']['neurosuper']} was edited"
    for name in ("device", "threads", "platform"):
        if then[name] != now[name]:
            yield f"{name}: {then[name]} then, {now[name]} now"
    inputs = {then["study"]: ""}  # of the study file, settings are compared, not bytes
    checksums = _changed(then["files"] | inputs, now["files"] | inputs, lambda checksum: f"SHA-256 {checksum[:8]}…")
    for name, changed in checksums:
        yield f"input {name}: {changed}"
    for name, datasets in _changed(then["datasets"], now["datasets"], lambda about: about["dataset_version"]):
        yield f"dataset of {name}: {datasets}"


def _changed(then: Mapping, now: Mapping, describe: Callable[[Any], str] = str) -> Iterator[tuple[str, str]]:
    """Yield each name whose value changed, and a description of both values."""
    for name in dict.fromkeys([*then, *now]):
        if then.get(name) != now.get(name):
            values = [describe(each[name]) if name in each else "none" for each in (then, now)]
            yield name, f"{values[0]} then, {values[1]} now"
