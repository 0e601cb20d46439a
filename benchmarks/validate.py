"""Measure error rates of tests and coverage of intervals in simulated studies, and print VALIDATION.md.

    python benchmarks/validate.py [studies] [--part PART]

`studies` (default 400) is the number of studies in each row of the largest tables; others have a fixed share of it.
Each part has a file of its own, `validate_*.py`, whose docstring describes the studies. With `--part`, only one is
printed again; the text of all others is that of VALIDATION.md.
"""

from __future__ import annotations

import argparse
import datetime
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import validate_finders
import validate_items
import validate_names
import validate_nuisance
import validate_populations
import validate_power
import validate_precision
import validate_psychophysics
import validate_sampling
import validate_superposition

import neurosuper

Run = validate_items.Run
STUDIES = 400
PRINTED = Path(__file__).parent / "VALIDATION.md"
HEADER = """# Validation

Written by `make validate`, from simulated studies alone; the scripts `validate_*.py` describe them. Figures are followed by
their Monte Carlo error: their standard deviation if all studies of the row were drawn again. A target is what the package
should reach; captions say which rows miss it. `make validate PART=superposition` prints one part again."""  # noqa: E501 - lines of Markdown


def print_sampling(n: int, run: Run) -> None:
    validate_sampling.print_tables(n, run)
    validate_sampling.print_halves(n, run)


def print_finders(n: int, run: Run) -> None:
    validate_finders.print_coverage(max(2, 3 * n // 8), run)
    validate_finders.print_baselines(max(2, n // 5), run)
    validate_finders.print_recovery(max(2, n // 130), run)


def print_nuisance(n: int, run: Run) -> None:
    validate_nuisance.print_tables(max(2, n // 4), run)
    validate_nuisance.print_floors(max(2, n // 40), run)


PARTS: dict[str, Callable[[int, Run], None]] = {
    "sampling": print_sampling,
    "finders": print_finders,
    "nuisance": print_nuisance,
    "power": lambda n, run: validate_power.print_tables(max(2, n // 4), run),
    "precision": lambda n, run: validate_precision.print_tables(max(2, n // 10), run),
    "psychophysics": lambda n, run: validate_psychophysics.print_tables(max(2, n // 4), run),
    "items": validate_items.print_tables,
    "superposition": lambda n, run: validate_superposition.print_tables(max(2, 5 * n // 4), run),
    "names": lambda n, run: validate_names.print_tables(max(2, 5 * n // 4), run),
    "populations": lambda n, run: validate_populations.print_tables(max(2, 5 * n // 4), run),
}


def print_parts(chosen: Iterable[str], printed: str, n_studies: int, run: Run) -> None:
    """Print all parts: those that are chosen again, the others as in the text that was printed before."""
    sections = {section.split("\n", 1)[0].lower(): section for section in re.split(r"(?m)^## ", printed)[1:]}
    if missing := [name for name in PARTS if name not in chosen and name not in sections]:
        raise SystemExit(f"VALIDATION.md has no part {missing[0]!r}; run all parts, without --part")
    print(HEADER)
    for name, print_part in PARTS.items():
        if name not in chosen:
            print(f"\n## {sections[name].strip()}")
            continue
        print(f"\n## {name.capitalize()}\n\nneurosuper {neurosuper.__version__}, {datetime.date.today()}.", flush=True)
        print_part(n_studies, run)


def main() -> None:
    parser = argparse.ArgumentParser(description="Simulated studies of error rates and coverage, in Markdown.")
    parser.add_argument("studies", type=int, nargs="?", default=STUDIES)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--processes", type=int, help="at a time; all cores by default")
    asked = parser.parse_args()
    printed = PRINTED.read_text() if asked.part else ""
    chosen = [asked.part] if asked.part else list(PARTS)
    with ProcessPoolExecutor(asked.processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def run(function: Callable[[Any], Any], studies: Sequence[Any]) -> Iterable[Any]:
            return pool.map(function, studies, chunksize=max(1, len(studies) // 50))

        print_parts(chosen, printed, asked.studies, run)


if __name__ == "__main__":
    main()
