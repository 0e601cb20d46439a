"""Fits side by side, whose passes are made together."""

import time
from concurrent.futures import Future
from threading import Thread

import pytest
import torch
from numpy.testing import assert_allclose

from neurosuper.directions._rows import shared_passes, tiles
from neurosuper.directions._rows.preparation import Preparation
from neurosuper.directions._rows.rows import Rows
from neurosuper.directions._rows.shared_passes import StackedKernel, fit_together


def total(X, factor):
    return (factor * X.sum(0),)


@pytest.fixture
def streamed(responses, count_reads):
    lazy, reads = count_reads(responses, 40)
    return Rows(lazy, "cpu", "float64"), reads


def sum_so_often(n):
    return lambda rows: [rows.sum(total, torch.tensor(float(i)))[0].tolist() for i in range(n)]


def test_fits_of_different_length_share_their_passes(streamed, responses):
    rows, reads = streamed
    short, long = fit_together([sum_so_often(2), sum_so_often(5)], rows)
    assert short == long[:2]
    assert long[1] == pytest.approx(responses.sum("stimulus").values)
    assert set(reads.values()) == {5}


def test_identical_requests_are_answered_once(streamed):
    asked = []

    def count(X, factor):
        asked.append(len(X))
        return total(X, factor)

    fit_together([lambda rows: rows.sum(count, 1.0)] * 4, streamed[0])
    assert asked == [40, 40, 40]


def test_a_stacked_kernel_answers_all_requests_in_tiles_bounded_by_the_sum_of_widths(streamed, monkeypatch):
    monkeypatch.setattr(tiles, "TILE_ROWS", 1)
    monkeypatch.setitem(tiles.TILE_ENTRIES, "cpu", 120)
    asked = []

    def totals(X, states):
        asked.append((len(X), len(states)))
        return [total(X, factor) for (factor,) in states]

    rows, _ = streamed
    kernel = StackedKernel(totals)
    found = fit_together([lambda rows, w=width: rows.sum(kernel, 2.0 * w, width=w) for width in (5, 7, 8, 8)], rows)
    assert asked == ([(6, 3)] * 6 + [(4, 3)]) * 3, "of each block's 40 rows 6 at a time, for 20 columns"
    alone = [rows.sum(kernel, 2.0 * width) for width in (5, 7, 8, 8)]
    assert [sums.tolist() for (sums,) in found] == [pytest.approx(sums.tolist()) for (sums,) in alone]


def test_rows_in_memory_are_prepared_once(responses, monkeypatch):
    rows = Rows(responses, "cpu", "float64").prepared(Preparation(True))
    prepared = []
    prepare = Preparation.__call__
    monkeypatch.setattr(Preparation, "__call__", lambda self, R: prepared.append(self) or prepare(self, R))
    expected = rows.sum(total, 1.0)[0]
    found = fit_together([lambda rows: rows.sum(total, 1.0) and rows.sum(total, torch.tensor(2.0))] * 4, rows)
    assert_allclose(torch.stack([sums for (sums,) in found]), 2 * expected.repeat(4, 1))
    assert prepared.count(Preparation(True)) == 1


def test_other_preparations_of_rows_in_memory_are_not_stored(responses):
    rows = Rows(responses, "cpu", "float64").prepared(Preparation(True))
    held = []

    def fit(rows):
        other = rows.prepared(Preparation(True, rows.mean()))
        held.append("whole" in vars(other))
        return other.sum(total, 1.0)[0]

    for sums in fit_together([fit, fit], rows):
        assert_allclose(sums, 0, atol=1e-12)
    assert held == [False, False]


def test_one_fit_runs_at_a_time(streamed):
    running = []

    def fit(rows):
        for _ in range(3):
            running.append(1)
            time.sleep(0.001)
            assert len(running) == 1
            running.pop()
            rows.sum(total, 1.0)

    fit_together([fit] * 5, streamed[0])


def test_a_fit_may_ask_again_before_the_others_are_answered(streamed, monkeypatch):
    """A request that arrives between two answers was lost, and its fit waited for ever."""

    class SlowlyAnswered(Future):
        def set_result(self, result):
            super().set_result(result)
            time.sleep(0.02)

    monkeypatch.setattr(shared_passes, "Future", SlowlyAnswered)
    found = []
    fits = Thread(target=lambda: found.extend(fit_together([sum_so_often(3)] * 3, streamed[0])), daemon=True)
    fits.start()
    fits.join(60)  # ends in a second; a machine may stall for ten
    assert [len(sums) for sums in found] == [3, 3, 3]


def test_a_failure_lets_other_fits_finish_and_is_raised(streamed):
    ended = []

    def fails(rows):
        raise ValueError("no fit for this")

    def ends(rows):
        sum_so_often(3)(rows)
        ended.append(True)

    with pytest.raises(ValueError, match="no fit for this"):
        fit_together([ends, fails, ends], streamed[0])
    assert len(ended) == 2


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_in_a_pass_ends_all_fits(error, streamed):
    seen = []

    def kernel(X):
        raise error("the disk is gone")

    def fit(rows):
        try:
            rows.sum(kernel)
        except error:
            seen.append(error)
            raise

    with pytest.raises(error, match="the disk is gone"):
        fit_together([fit, fit, fit], streamed[0])
    assert len(seen) == 3


def test_interrupted_fits_can_make_no_more_requests(streamed):
    def kernel(X):
        raise KeyboardInterrupt

    def stubborn(rows):
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                rows.sum(kernel)
            with pytest.raises(KeyboardInterrupt):
                rows.sum(total, 1.0)

    with pytest.raises(KeyboardInterrupt):
        fit_together([stubborn, stubborn], streamed[0])
