"""Fits side by side, whose passes are made together."""

import time

import pytest
import torch

from neurosuper.directions.blocks import Blocks
from neurosuper.directions.together import fit_together


def total(X, factor):
    return (factor * X.sum(0),)


@pytest.fixture
def streamed(responses, count_reads):
    lazy, reads = count_reads(responses, 40)
    return Blocks(lazy, "cpu", "float64"), reads


def sum_so_often(n):
    return lambda rows: [rows.sum(total, torch.tensor(float(i)))[0].tolist() for i in range(n)]


def test_fits_of_different_length_share_their_passes(streamed, responses):
    rows, reads = streamed
    short, long = fit_together([sum_so_often(2), sum_so_often(5)], rows)
    assert short == long[:2]
    assert long[1] == pytest.approx(responses.sum("stimulus").values)
    assert set(reads.values()) == {5}


def test_same_question_is_answered_once(streamed):
    asked = []

    def count(X, factor):
        asked.append(len(X))
        return total(X, factor)

    fit_together([lambda rows: rows.sum(count, 1.0)] * 4, streamed[0])
    assert asked == [40, 40, 40]


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


def test_failure_of_one_leaves_the_others_to_their_end_and_is_told(streamed):
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
def test_what_goes_wrong_in_a_pass_ends_all_fits(error, streamed):
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


def test_interrupted_fits_can_ask_no_more(streamed):
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
