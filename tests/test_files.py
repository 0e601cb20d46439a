"""A file is written whole or not at all; leftovers of killed processes are removed, and no file of others."""

import os
import threading
import time

import pytest

from neurosuper import _files
from neurosuper._files import remove_unfinished, whole_file


def leave(folder, name, process, machine=None, age=0):
    """Write a file as a process that was killed leaves it."""
    path = folder / f"{name}.{machine or _files._machine()}.{process}.0f{_files.SUFFIX}"
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_the_file_appears_only_when_the_block_has_ended(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with whole_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted():
        with whole_file(path) as partial:
            partial.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_that_write_one_file_never_mix(tmp_path):
    path = tmp_path / "a.txt"
    texts = [str(i) * 100_000 for i in range(8)]

    def write(text):
        with whole_file(path) as partial:
            partial.write_text(text)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_only_leftovers_of_killed_processes_are_removed(tmp_path, gone):
    leave(tmp_path, "killed", gone)
    leave(tmp_path, "days old", 1, "elsewhere", age=3 * _files.STALE)
    kept = {leave(tmp_path, "written now", os.getpid()), leave(tmp_path, "of another machine", gone, "elsewhere")}
    remove_unfinished(tmp_path)
    assert set(tmp_path.iterdir()) == kept


def test_leftovers_of_one_file_are_removed_without_those_of_others(tmp_path, gone):
    leave(tmp_path, "[a].pt", gone)
    other = leave(tmp_path, "b.pt", gone)
    remove_unfinished(tmp_path, "[a].pt")
    assert list(tmp_path.iterdir()) == [other]


def test_leftovers_of_one_ending_are_removed_whatever_else_is_old(tmp_path, gone):
    leave(tmp_path, "a.json", gone)
    resumed = tmp_path / "a.part"
    resumed.touch()
    os.utime(resumed, (0, 0))
    remove_unfinished(tmp_path, ending=".json")
    assert list(tmp_path.iterdir()) == [resumed]


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, gone):
    for name in ("n" * 255, "é" * 127):
        with whole_file(tmp_path / name) as partial:
            partial.write_text("new")
        leave(tmp_path, _files._start_of(name), gone)
        remove_unfinished(tmp_path, name)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()


@pytest.mark.parametrize("name", ["a.part", ".part", "a.b.c.part", "a.b.notanumber.c.part"])
def test_files_of_other_names_are_left_alone_until_they_are_a_day_old(tmp_path, name):
    path = tmp_path / name
    path.touch()
    remove_unfinished(tmp_path)
    assert path.exists()
    os.utime(path, (0, 0))
    remove_unfinished(tmp_path)
    assert not path.exists()
