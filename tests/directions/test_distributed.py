"""On a `dask.distributed` cluster every finder gives what it gives of an array in memory, and leaves nothing behind."""

import os
import signal
import threading
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from neurosuper.directions import (
    ICA,
    NMF,
    PCA,
    Archetypal,
    CovarianceMatched,
    DictionaryLearning,
    Exemplars,
    KMeans,
    Random,
    SparseAutoencoder,
)
from neurosuper.directions._rows.rows import Rows

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed")

FINDERS = [
    Random(),
    Exemplars(4, normalize=True),
    CovarianceMatched(4),
    PCA(),
    PCA(normalize=True),
    KMeans(5),
    KMeans("2x", normalize=False, random_state=1),
    KMeans(3, whiten=True),
    NMF(3, max_iter=20, tol=None),
    ICA(3, max_iter=20, tol=None),
    Archetypal(3, max_iter=3, tol=None),
]
finders = pytest.mark.parametrize("finder", FINDERS, ids=repr)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of two workers, processes of one thread each."""
    with (
        dask.config.set({"temporary_directory": str(tmp_path_factory.mktemp("dask"))}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def lazy(responses, client) -> xr.DataArray:
    """Responses in seven chunks."""
    return responses.copy(data=da.from_array(responses.values, chunks=(19, 5)))


def keys_on(client, patience=10.0) -> set:
    """Return the keys that the scheduler knows, after it has had time to forget unused ones."""
    until = time.monotonic() + patience
    while (keys := client.run_on_scheduler(lambda dask_scheduler: set(dask_scheduler.tasks))) and (
        time.monotonic() < until
    ):
        time.sleep(0.02)
    return keys


def where(part, at):
    return (torch.full((len(part),), os.getpid()),)


def entries_of(part, *state):
    return (torch.tensor([sum(tensor.untyped_storage().nbytes() // 4 for tensor in state)]),)


def first_rows(part, template):
    return (part[:, : len(template)] + template,)


def scatter(part):
    return part.T @ part, part.sum(0)


def dies_once(part, marker):
    """Return the total, but take the worker with it the first time."""
    if not Path(marker).exists():
        Path(marker).touch()
        os._exit(1)
    return (part.sum(0),)


def takes_its_time(part, marker):
    time.sleep(0.1)
    Path(marker).touch()
    return (part.sum(0),)


@finders
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-8)])
def test_a_cluster_gives_the_directions_of_one_array(finder, dtype, tolerance, responses, lazy, client):
    finder = clone(finder).set_params(dtype=dtype)
    whole, apart = clone(finder).fit(responses), clone(finder).fit(lazy)
    assert_allclose(apart.directions_, whole.directions_, atol=tolerance)
    assert_allclose(apart.explained_variance(lazy), whole.explained_variance(responses), atol=tolerance)
    assert_allclose(apart.transform(lazy).compute(), whole.transform(responses), atol=100 * tolerance)
    assert keys_on(client) == set()


@finders
def test_a_cluster_gives_the_directions_of_tesla_too(finder, responses, lazy, client):
    finder = clone(finder).set_params(dtype="float64")
    whole, apart = clone(finder).fit(1e-13 * responses), clone(finder).fit(1e-13 * lazy)
    assert_allclose(apart.directions_, whole.directions_, atol=1e-8)
    assert_allclose(apart.transform(1e-13 * lazy).compute(), whole.transform(1e-13 * responses), rtol=1e-5, atol=1e-20)


@pytest.mark.parametrize(
    "finder",
    [DictionaryLearning(5, max_iter=3), SparseAutoencoder(6, n_active=2, max_iter=3)],
    ids=repr,
)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-8)])
def test_a_cluster_gives_the_directions_of_batches_streamed_here(finder, dtype, tolerance, lazy, client):
    """Other than those of one array in memory, whose batches are shuffled as a whole."""
    finder = clone(finder).set_params(dtype=dtype)
    with dask.config.set(scheduler="threads"):
        here = clone(finder).fit(lazy)
        explained = here.explained_variance(lazy)
    there = clone(finder).fit(lazy)
    assert_allclose(there.directions_, here.directions_, atol=tolerance)
    assert_allclose(there.explained_variance(lazy), explained, atol=tolerance)
    assert keys_on(client) == set()


def test_blocks_are_reduced_on_the_workers(lazy, client):
    rows = Rows(lazy.copy(data=lazy.data.persist()), "cpu")
    (at,) = rows.map(where, None)
    workers = set(client.run(os.getpid).values())
    assert set(at.tolist()) <= workers
    assert os.getpid() not in workers


def test_results_join_in_the_order_of_rows(responses, lazy, client):
    (rows,) = Rows(lazy, "cpu", "float64").map(first_rows, torch.zeros(3))
    assert_array_equal(rows, responses.values[:, :3])


def test_sums_do_not_depend_on_the_number_of_workers(lazy, client):
    rows = Rows(lazy, "cpu")
    both = rows.sum(scatter)
    one = next(iter(client.scheduler_info()["workers"]))
    with dask.annotate(workers=[one]):
        alone = rows.sum(scatter)
    for a, b in zip(both, alone, strict=True):
        assert_array_equal(a, b)


def test_persisted_responses_and_other_work_stay_on_the_cluster(responses, lazy, client):
    other = client.submit(pow, 2, 5)
    held = lazy.copy(data=lazy.data.persist())
    distributed.wait([held.data, other])
    before = keys_on(client, patience=0)
    fitted = KMeans(5, dtype="float64").fit(held)
    assert_allclose(fitted.directions_, KMeans(5, dtype="float64").fit(responses).directions_, atol=1e-8)
    until = time.monotonic() + 10
    while keys_on(client, patience=0) != before and time.monotonic() < until:
        time.sleep(0.02)
    assert keys_on(client, patience=0) == before
    assert other.result() == 32


def test_a_worker_that_dies_does_not_disturb_the_result(responses, lazy, client, tmp_path):
    marker = tmp_path / "died"
    (total,) = Rows(lazy, "cpu", "float64").sum(dies_once, str(marker))
    assert marker.exists()
    assert_allclose(total, responses.values.sum(0))
    client.wait_for_workers(2)
    assert keys_on(client) == set()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_errors_of_workers_arrive_as_they_are(bad, responses, client):
    values = responses.values.copy()
    values[50, 2] = bad
    lazy = responses.copy(data=da.from_array(values, chunks=(40, -1)))
    message = "^responses contain 1 NaN or infinite values in a block of stimuli; drop them$"
    with pytest.raises(ValueError, match=message):
        PCA().fit(lazy)
    assert keys_on(client) == set()


def test_ctrl_c_cancels_the_pass(responses, client, tmp_path):
    lazy = responses.copy(data=da.from_array(responses.values, chunks=(1, -1)))
    marker = tmp_path / "at work"

    def interrupt():
        while not marker.exists():
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    hand = threading.Thread(target=interrupt)
    hand.start()
    with pytest.raises(KeyboardInterrupt):
        Rows(lazy, "cpu").sum(takes_its_time, str(marker))
    hand.join()
    assert keys_on(client, patience=2.0) == set(), "120 blocks would take 6 s"


def test_state_of_any_size_travels_without_complaint_and_views_alone(lazy, client):
    (entries,) = Rows(lazy, "cpu").map(entries_of, torch.zeros(3_000, 1_000), torch.zeros(1_000, 1_000)[0])
    assert set(entries.tolist()) == {3_001_000}


def test_a_fit_inside_a_task_does_not_wait_for_itself(responses, client):
    """With one thread a worker, a task that waited for tasks and kept its thread might never end."""

    def fit(values):
        lazy = da.from_array(values, chunks=(40, -1))
        labels = {"stimulus": np.arange(120).astype(str), "unit": np.arange(8).astype(str)}
        return PCA(2).fit(xr.DataArray(lazy, dims=("stimulus", "unit"), coords=labels)).directions_.values

    futures = [client.submit(fit, responses.values, pure=False) for _ in range(3)]
    for directions in client.gather(futures):
        assert_allclose(directions, PCA(2).fit(responses).directions_, atol=1e-5)


def test_another_scheduler_in_charge_leaves_the_cluster_alone(lazy, client):
    with dask.config.set(scheduler="synchronous"):
        (at,) = Rows(lazy, "cpu").map(where, None)
    assert set(at.tolist()) == {os.getpid()}


@pytest.mark.gpu
def test_each_worker_takes_its_gpu(responses, lazy, client):
    assert_allclose(KMeans(5).fit(lazy).directions_, KMeans(5, device="cpu").fit(responses).directions_, atol=1e-4)
