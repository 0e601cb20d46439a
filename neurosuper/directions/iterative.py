"""The base of finders that iterate: when to stop, a progress bar, and the result of an interrupted fit."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from sklearn.exceptions import ConvergenceWarning

from neurosuper._progress import progress
from neurosuper.directions._rows.rows import Rows
from neurosuper.directions._solvers.steps import Step, largest_turn
from neurosuper.directions.base import DirectionFinder
from neurosuper.directions.hooks import Learned
from neurosuper.directions.settings import check_stopping


@dataclass(kw_only=True, eq=False, repr=False)
class IterativeFinder(DirectionFinder):
    """Base of finders that iterate: to write one, fill in `iterate` and `finish`.

    Parameters
    ----------
    max_iter : int, optional
        Largest number of iterations: passes over all responses.
    tol : float or None, optional
        Stop when no direction turns by more than this in an iteration: 1 − cosine (½‖change‖² relative to the squared
        length, if the length is free). None runs all of `max_iter`.

    Attributes
    ----------
    n_iter_ : int
        Number of iterations of the fit.
    objective_ : float
        Last value of the objective.
    learning_curve_ : DataArray (iteration,)
        The objective of the method (ICA maximises it, all others minimise it), once per iteration; each finder says
        whether before or after the update.

    See Also
    --------
    DirectionFinder : Base of all finders.
    """

    max_iter: int = 200
    tol: float | None = 1e-5

    unit_powers: ClassVar = {"objective": 2}
    stacks_fits = False  # whether fits are faster side by side on a GPU with all responses in its memory

    @abstractmethod
    def iterate(self, rows: Rows, n_directions: int) -> Iterator[Step]:
        """Yield the state of the fit after each pass; the caller decides when to stop.

        An iterator that ends by itself has converged.
        """

    @abstractmethod
    def finish(self, rows: Rows, step: Step) -> Learned:
        """Return the arrays learned, as `find_directions` does, from the last step."""

    def find_directions(self, rows: Rows, n_directions: int) -> Learned:
        """Return the result of the last iteration; see `iterate` and `finish`."""
        check_stopping(self.max_iter, self.tol)
        steps = self.iterate(rows, n_directions)
        if (factor := self.scale_of("objective")) != 1:
            steps = (step._replace(objective=step.objective / factor) for step in steps)
        return self.finish(rows, self._run(steps))

    def _run(self, steps: Iterator[Step]) -> Step:
        """Return the step at which the directions rest; at Ctrl-C, return the last step and raise after the fit."""
        curve: list[float] = []
        step, turn = None, float("inf")
        with progress(total=self.max_iter, desc=type(self).__name__, unit="iteration", leave=False) as bar:
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
