"""What a run of a study will do, in words, and how long the last run took."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from neurosuper.loaders.netcdf import open_netcdf

__all__ = ["describe_plan", "describe_steps", "describe_time", "read_durations"]

NUMBERS = "study.nc"


def describe_time(seconds: float) -> str:
    """Return a duration with two significant digits.

    Examples
    --------
    >>> [describe_time(seconds) for seconds in (0.44, 80, 4000, 9e4)]
    ['1 s', '80 s', '67 min', '25 h']
    """
    for unit, length in (("s", 1), ("min", 60), ("h", 3600)):
        if seconds < 100 * length or unit == "h":
            amount = max(seconds / length, 1)
            return f"{amount:.2g} {unit}" if amount < 10 and unit != "s" else f"{amount:.0f} {unit}"
    raise AssertionError


def describe_steps(seconds: Mapping[str, float]) -> str:
    """Return the time of each step in one line.

    Examples
    --------
    >>> describe_steps({"loading": 2.0, "fits": 300.0})
    'loading 2 s, fits 5 min'
    """
    return ", ".join(f"{step} {describe_time(length)}" for step, length in seconds.items())


def describe_plan(
    systems: Mapping[str, tuple[int, int]],
    finders: Iterable[str],
    metrics: Iterable[str],
    seeds: Iterable[int],
    n_images: int,
    last_run: Mapping[str, float],
    *,
    measures: Iterable[str] = (),
) -> list[str]:
    r"""Return lines that say what a run will do, before its first fit.

    Parameters
    ----------
    systems : mapping of name to (int, int)
        Number of stimuli and of units.
    finders, metrics : iterable of str
        Names.
    seeds : iterable of int
        Seeds of the study.
    n_images : int
        Number of images.
    last_run : mapping of step to seconds
        From `read_durations`.
    measures : iterable of str, optional
        Lines about what is computed besides scores.

    Examples
    --------
    >>> print(*describe_plan({"V4": (40, 5)}, ["Units", "KMeans"], ["Color"], [0, 1], 40, {}), sep="\n")
    1 system: V4 (40 stimuli × 5 units)
    2 finders: Units, KMeans; 2 seeds: 0, 1; so at most 4 fits
    1 metric on 40 images: Color
    no earlier run in this folder; `neurosuper check` estimates how long it takes
    """
    finders, metrics, seeds = list(finders), list(metrics), list(seeds)
    sizes = [f"{name} ({n_stimuli:,} stimuli × {n_units:,} units)" for name, (n_stimuli, n_units) in systems.items()]
    n_fits = len(systems) * len(finders) * len(seeds)
    lines = [
        f"{_count(systems, 'system')}: {', '.join(sizes)}",
        f"{_count(finders, 'finder')}: {', '.join(finders)}; {_count(seeds, 'seed')}: {', '.join(map(str, seeds))}; "
        f"so at most {n_fits:,} fits",
        f"{_count(metrics, 'metric')} on {n_images:,} images: {', '.join(metrics)}",
        *measures,
    ]
    if last_run:
        total = describe_time(sum(last_run.values()))
        return [*lines, f"the last run in this folder took {total} before its report ({describe_steps(last_run)})"]
    return [*lines, "no earlier run in this folder; `neurosuper check` estimates how long it takes"]


def _count(names: Iterable, what: str) -> str:
    n = len(list(names))
    return f"{n} {what}{'s' * (n != 1)}"


def read_durations(folder: Path) -> dict[str, float]:
    """Return the seconds of each step of the last run in an output folder; empty if there is none."""
    with suppress(OSError, ValueError, KeyError), open_netcdf(folder / NUMBERS) as data:
        return {str(step): float(length) for step, length in json.loads(data.attrs["provenance"])["seconds"].items()}
    return {}
