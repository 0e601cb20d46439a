"""A cache of batches never gives a wrong array, and never costs the result where it cannot be written."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from neurosuper import _files
from neurosuper._batch_cache import BatchCache


def batch(seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random((2, 3, 4, 4), np.float32))


def units(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.random((2, 5), np.float32), rng.random((2, 3, 2, 2), np.float32)]


def recall(folder, seed=0, network="net"):
    """Return whether the network had to run, having compared what comes back with what it gives."""
    ran = []
    found = BatchCache(folder, network).recall(batch(seed), lambda: ran.append(1) or units(seed))
    for ours, expected in zip(found, units(seed), strict=True):
        np.testing.assert_array_equal(ours, expected)
    return bool(ran)


def test_a_batch_is_computed_once_for_each_network_and_content(tmp_path):
    assert [recall(tmp_path, seed, net) for net in ("a", "b") for seed in (0, 1)] == [True] * 4
    assert [recall(tmp_path, seed, net) for net in ("a", "b") for seed in (0, 1)] == [False] * 4


def test_a_kept_batch_is_an_archive_that_numpy_reads(tmp_path):
    recall(tmp_path)
    (path,) = tmp_path.iterdir()
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays["arr_1"], units()[1])


def test_a_file_with_any_changed_byte_gives_no_wrong_array(tmp_path):
    recall(tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        recall(tmp_path)  # compares; a byte of the archive's own dates changes no array
    for length in (0, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert recall(tmp_path)
    assert not recall(tmp_path)


def test_a_file_under_the_name_of_another_batch_is_not_believed(tmp_path):
    recall(tmp_path, 0)
    (first,) = tmp_path.iterdir()
    recall(tmp_path, 1)
    (second,) = set(tmp_path.iterdir()) - {first}
    second.write_bytes(first.read_bytes())
    assert recall(tmp_path, 1)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_costs_one_warning_and_no_result(tmp_path, monkeypatch, number):
    recall(tmp_path, 0)

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_files.os, "replace", fail)
    cache = BatchCache(tmp_path, "net")
    with pytest.warns(UserWarning, match="activations are not stored: cannot write to") as caught:
        found = [cache.recall(batch(seed), lambda seed=seed: units(seed))[0] for seed in (1, 2, 0)]
    np.testing.assert_array_equal(found, [units(seed)[0] for seed in (1, 2, 0)])
    assert len(caught) == 1
    assert os.strerror(number) in str(caught[0].message)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"], "nothing half-written is left"
    assert not recall(tmp_path, 0)


def test_a_folder_that_cannot_be_made_costs_one_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.warns(UserWarning, match="cannot write to .*Permission denied"):
        cache = BatchCache(tmp_path / "none", "net")
    np.testing.assert_array_equal(cache.recall(batch(), units)[0], units()[0])


def test_what_a_killed_run_left_is_removed_when_the_cache_is_opened(tmp_path, gone):
    left = tmp_path / f"a.npz.{_files._machine()}.{gone}.0f.part"
    left.write_bytes(b"half")
    BatchCache(tmp_path, "net")
    assert not left.exists()
