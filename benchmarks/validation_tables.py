"""Tables of simulated studies in Markdown: figures with their Monte Carlo errors, targets, and rows that miss them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Run = Callable[..., Iterable[Any]]  # `map`, or that of a pool of processes: run(function, arguments)


class Share(NamedTuple):
    """How many of n studies something happened in."""

    hits: int
    n: int

    @classmethod
    def of(cls, happened: ArrayLike) -> Share:
        """Count studies `(study,)` in which it happened."""
        return cls(int(np.sum(happened)), int(np.size(happened)))

    @property
    def value(self) -> float:
        """The share of studies."""
        return self.hits / self.n

    @property
    def error(self) -> float:
        """The Monte Carlo error, with half a study added on each side, so that it is never 0."""
        p = (self.hits + 0.5) / (self.n + 1)
        return float(np.sqrt(p * (1 - p) / self.n))

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} ± {100 * self.error:.1f} %"


class Mean(NamedTuple):
    """A mean over studies, and its Monte Carlo error."""

    value: float
    error: float
    digits: int = 2

    @classmethod
    def of(cls, values: ArrayLike, digits: int = 2) -> Mean:
        """Average values of studies `(study,)`."""
        values = np.asarray(values, float)
        return cls(float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values))), digits)

    def __str__(self) -> str:
        return f"{self.value:.{self.digits}f} ± {self.error:.{self.digits}f}"


class Target(NamedTuple):
    """What the shares in a column should be, in the rows whose name `applies`."""

    column: str
    low: float
    high: float
    applies: Callable[[str], bool] = lambda name: True

    def verdict(self, heads: Sequence[str], rows: Mapping[str, Sequence[Any]]) -> str:
        """Return a sentence that says which rows miss the target, and which do so within Monte Carlo error."""
        column = heads.index(self.column) - 1
        misses: dict[str, list[int]] = {"above": [], "below": [], "hardly": []}
        for i, (name, cells) in enumerate(rows.items(), start=1):
            by = max(self.low - cells[column].value, cells[column].value - self.high)
            if self.applies(name) and by > 0:
                side = "above" if cells[column].value > self.high else "below"
                misses["hardly" if by < 2 * cells[column].error else side].append(i)
        clear = [f"{list_rows(misses[side])} ({side})" for side in ("above", "below") if misses[side]]
        verdict = f"missed by rows {' and '.join(clear)}" if clear else "no row clearly misses it"
        if misses["hardly"]:
            verdict += f"; outside by less than two Monte Carlo errors: rows {list_rows(misses['hardly'])}"
        elif not clear:
            verdict = "all rows meet it"
        exempt = [i for i, name in enumerate(rows, start=1) if not self.applies(name)]
        scope = f" (not asked of rows {list_rows(exempt)})" if exempt else ""
        return f"Target of “{self.column}”: {self._limits()}{scope}; {verdict}."

    def _limits(self) -> str:
        if self.low == 0:
            return f"at most {100 * self.high:g} %"
        return f"at least {100 * self.low:g} %" if self.high == 1 else f"{100 * self.low:g} to {100 * self.high:g} %"


def list_rows(numbers: Sequence[int]) -> str:
    """Return increasing numbers as text, runs of three and more as ranges."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def print_table(
    title: str,
    caption: str,
    heads: Sequence[str],
    rows: Mapping[str, Sequence[Any]],
    targets: Sequence[Target] = (),
) -> None:
    """Print a table with numbered rows; the first of `heads` is that of their names."""
    verdicts = " ".join(target.verdict(heads, rows) for target in targets)
    print(f"\n### {title}\n\n{' '.join([caption, verdicts]).strip()}\n")
    print(f"| # | {' | '.join(heads)} |")
    print(f"|{'---|' * (len(heads) + 1)}")
    for i, (name, cells) in enumerate(rows.items(), start=1):
        print(f"| {i} | {name} | {' | '.join(map(str, cells))} |", flush=True)
