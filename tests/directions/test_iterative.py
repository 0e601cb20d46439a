"""What every finder that iterates shares: when to stop, what is kept, what is said."""

from dataclasses import KW_ONLY, dataclass

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.exceptions import ConvergenceWarning

from neurosuper.directions.hooks import as_learned
from neurosuper.directions.iterative import IterativeFinder, Step, largest_turn


@dataclass(eq=False, repr=False)
class Turning(IterativeFinder):
    """Turns its one direction by half of what is left to (0, 1) in each iteration; is interrupted in the nth."""

    n_directions: int = 1
    _: KW_ONLY
    max_iter: int = 50
    tol: float | None = 1e-6
    interrupt: int | None = None
    rest: int | None = None
    dtype: str = "float64"

    def iterate(self, rows, n_directions):
        angle, i = 1.0, 0
        while i != self.rest:
            i += 1
            if i == self.interrupt:
                raise KeyboardInterrupt
            angle /= 2
            yield Step(torch.tensor([[np.sin(angle), np.cos(angle)]], dtype=rows.dtype), angle)

    def finish(self, rows, step):
        return as_learned(step.D)


@pytest.fixture
def pair(make_responses, rng):
    return make_responses(rng.normal(size=(6, 2)))


def test_it_stops_where_no_direction_turns_by_more_than_tol(pair):
    fitted = Turning(tol=1e-3).fit(pair)
    turned = -np.diff(fitted.learning_curve_)
    assert 1 - np.cos(turned[-1]) <= 1e-3 < 1 - np.cos(turned[-2])
    assert fitted.n_iter_ == len(fitted.learning_curve_)
    assert fitted.objective_ == fitted.learning_curve_.values[-1]
    assert fitted.learning_curve_.iteration.values.tolist() == list(range(1, fitted.n_iter_ + 1))


def test_the_largest_turn_counts_and_so_does_length():
    before = torch.tensor([[1.0, 0], [0, 2]])
    turned = torch.tensor([[np.cos(0.1), np.sin(0.1)], [0, 2]], dtype=torch.float32)
    assert_allclose(largest_turn(before, turned), 1 - np.cos(0.1), rtol=1e-5)
    assert largest_turn(before, torch.tensor([[1.0, 0], [0, 4]])) == 0.25


def test_without_rest_it_warns_by_how_much_it_still_turned(pair):
    message = r"Turning stopped after 3 iterations while a direction still turned by 0.0078 \(1 - cosine\) in one"
    with pytest.warns(ConvergenceWarning, match=message) as caught:
        Turning(max_iter=3).fit(pair)
    assert caught[0].filename == __file__


def test_without_a_tolerance_all_iterations_are_run_and_nothing_is_warned_of(pair):
    assert Turning(max_iter=7, tol=None).fit(pair).n_iter_ == 7


def test_a_method_that_is_at_rest_may_stop_by_itself(pair):
    assert Turning(rest=4).fit(pair).n_iter_ == 4


def test_an_interrupt_leaves_what_was_found_and_still_interrupts(pair):
    finder = Turning(interrupt=4)
    with pytest.raises(KeyboardInterrupt, match="this Turning keeps what it had found"):
        finder.fit(pair)
    assert finder.n_iter_ == 3
    assert finder.transform(pair).shape == (6, 1)


def test_an_interrupt_before_anything_is_found_leaves_no_directions(pair):
    finder = Turning(interrupt=1)
    with pytest.raises(KeyboardInterrupt):
        finder.fit(pair)
    assert not hasattr(finder, "directions_")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_iter": 0}, "max_iter must be a whole number of at least 1, got 0"),
        ({"max_iter": 2.5}, "max_iter must be a whole number of at least 1, got 2.5"),
        ({"tol": -1}, "tol must be a number of at least 0, or None to run all of max_iter, got -1"),
        ({"tol": float("nan")}, "tol must be a number of at least 0"),
    ],
)
def test_bad_stopping_rules_are_refused(settings, message, pair):
    with pytest.raises(ValueError, match=message):
        Turning(**settings).fit(pair)
