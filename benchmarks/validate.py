"""Measure error rates of tests and coverage of intervals in simulated studies, and print VALIDATION.md.

    python benchmarks/validate.py [studies]

`studies` (default 400) is the number of studies in each row of the largest tables; others have a fixed share of it.
Each subject has a file of its own, `validate_*.py`, whose docstring describes the studies.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
import validate_finders
import validate_items
import validate_nuisance
import validate_power
import validate_precision
import validate_psychophysics
import validate_sampling
import validate_superposition

STUDIES = 400
HEADER = """# Validation

Written by `make validate`, from simulated studies alone; the scripts `validate_*.py` describe them. Figures are followed by
their Monte Carlo error: their standard deviation if all studies of the row were drawn again. A target is what the package
should reach; captions say which rows miss it."""  # noqa: E501 - lines of Markdown


def print_all(n_studies: int, run: validate_items.Run) -> None:
    """Print all tables."""
    print(HEADER)
    validate_sampling.print_tables(n_studies, run)
    validate_sampling.print_halves(n_studies, run)
    validate_finders.print_coverage(max(2, 3 * n_studies // 8), run)
    validate_nuisance.print_tables(max(2, n_studies // 4), run)
    validate_nuisance.print_floors(max(2, n_studies // 40), run)
    validate_finders.print_baselines(max(2, n_studies // 5), run)
    validate_power.print_tables(max(2, n_studies // 4), run)
    validate_precision.print_tables(max(2, n_studies // 10), run)
    validate_psychophysics.print_tables(max(2, n_studies // 4), run)
    validate_items.print_tables(n_studies, run)
    validate_superposition.print_tables(n_studies, run)
    validate_finders.print_recovery(max(2, n_studies // 130), run)


def main() -> None:
    n_studies = int(sys.argv[1]) if len(sys.argv) > 1 else STUDIES
    with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:

        def run(function: Callable[[Any], Any], studies: Sequence[Any]) -> Iterable[Any]:
            return pool.map(function, studies, chunksize=max(1, len(studies) // 50))

        print_all(n_studies, run)


if __name__ == "__main__":
    main()
