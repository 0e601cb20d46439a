"""What every finder that iterates shares: when to stop, a progress bar, and what is kept when it is interrupted."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from sklearn.exceptions import ConvergenceWarning
from tqdm import tqdm

from neurosuper.directions._rows.rows import Rows
from neurosuper.directions._solvers.steps import Step, largest_turn
from neurosuper.directions.base import DirectionFinder
from neurosuper.directions.hooks import Learned
from neurosuper.directions.settings import check_stopping


@dataclass(kw_only=True, eq=False, repr=False)
class IterativeFinder(DirectionFinder):
    """Base of finders that iterate, which write `iterate` and `finish`.

    Subclasses have two parameters that mean the same in each:

    max_iter : int
        Iterations at most, each of which passes over all responses once.
    tol : float or None
        Stop when no direction turns by more than this in an iteration: 1 − cosine (½‖change‖² relative to the squared
        length, where length is free). None runs all of `max_iter`.

    Attributes
    ----------
    n_iter_ : int
    objective_ : float
        What the method lowers, at the end.
    learning_curve_ : DataArray (iteration,)
        The objective after each iteration.
    """

    max_iter: int = 200
    tol: float | None = 1e-5

    unit_powers: ClassVar = {"objective": 2}
    stacks_fits = False  # whether fits are faster side by side on a GPU that holds all responses, and keep little there

    @abstractmethod
    def iterate(self, rows: Rows, n_directions: int) -> Iterator[Step]:
        """Yield where the fit stands after each pass; the caller decides when to stop. May end by itself, at rest."""

    @abstractmethod
    def finish(self, rows: Rows, step: Step) -> Learned:
        """Return what is learned, as `find_directions` does, from the last step."""

    def find_directions(self, rows: Rows, n_directions: int) -> Learned:
        """Return the result of the last iteration; see `iterate` and `finish`."""
        check_stopping(self.max_iter, self.tol)
        steps = self.iterate(rows, n_directions)
        if (factor := self.scale_of("objective")) != 1:
            steps = (step._replace(objective=step.objective / factor) for step in steps)
        return self.finish(rows, self._run(steps))

    def _run(self, steps: Iterator[Step]) -> Step:
        """Go through the steps until the directions rest; at Ctrl-C, return the last one and say so after the fit."""
        curve: list[float] = []
        step, turn = None, float("inf")
        with tqdm(total=self.max_iter, desc=type(self).__name__, unit="iteration", leave=False, delay=2) as bar:
            try:
                for following in steps:
                    turn = float("inf") if step is None else largest_turn(step.D, following.D)
                    step = following
                    curve.append(step.objective)
                    bar.set_postfix(objective=f"{step.objective:.6g}", turn=f"{turn:.1e}", refresh=False)
                    bar.update()
                    if len(curve) == self.max_iter or (self.tol is not None and turn <= self.tol):
                        break
                else:
                    turn = 0.0
            except KeyboardInterrupt:
                if step is None:
                    raise
                self._interrupted = True
        if step is None:
            raise RuntimeError(f"{type(self).__name__} made no step")
        self.n_iter_, self.objective_ = len(curve), step.objective
        self.learning_curve_ = xr.DataArray(
            np.array(curve), dims="iteration", coords={"iteration": np.arange(1, len(curve) + 1)}, name="objective"
        )
        if self.tol is not None and turn > self.tol and not self._interrupted:
            self._warn(turn)
        return step

    def _warn(self, turn: float) -> None:
        warnings.warn(
            f"{type(self).__name__} stopped after {self.n_iter_} iterations while a direction still turned by "
            f"{turn:.2g} (1 - cosine) in one, more than tol={self.tol:g}; raise max_iter or tol",
            ConvergenceWarning,
            stacklevel=6,
        )
