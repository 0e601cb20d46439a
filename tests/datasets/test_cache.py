"""The cache lists its contents, and clears only folders with its mark."""

import hashlib
import os
from pathlib import Path

import pytest

import neurosuper as ns
from neurosuper.datasets import cache as cache_module
from neurosuper.datasets import receipts, transfer
from neurosuper.datasets.cache import cache_folder, clear_cache, dataset_root, list_cache
from neurosuper.datasets.remote import open_remote
from tests.datasets.dandi_server import Archive, Fault, make_manifest

FILES = {"a.bin": b"a" * 1000, "b/c.bin": b"c" * 200_000}
NOTHING = {"n_files": 0, "size": 0, "unfinished": 0, "streamed": 0}


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def archive():
    with Archive(FILES) as archive:
        yield archive


def rows():
    table = list_cache().drop(columns="folder").set_index(["dataset", "version"])
    return {name: dict(row) for name, row in table.T.items()}


def test_the_cache_is_in_the_folder_of_the_platform_or_of_the_user(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("NEUROSUPER_CACHE", "~/mine")
    assert cache_folder() == Path.home() / "mine"
    monkeypatch.delenv("NEUROSUPER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().name == "neurosuper"


def test_a_dataset_has_a_folder_for_each_version(archive, cache, tmp_path):
    assert dataset_root(archive.http_manifest("a.bin", source={"version": "2"})) == cache / "planted" / "2"
    assert dataset_root(archive.http_manifest("a.bin"), tmp_path) == tmp_path / "planted" / "unverified"


def test_a_dataset_that_the_user_provides_is_in_the_folder_that_they_name(tmp_path, monkeypatch):
    manifest = make_manifest({"kind": "local", "obtain": "ask me", "env_var": "MINE"}, ["a.bin"])
    with pytest.raises(FileNotFoundError, match="ask me"):
        dataset_root(manifest)
    monkeypatch.setenv("MINE", str(tmp_path))
    assert dataset_root(manifest) == tmp_path


def test_an_empty_cache():
    assert list_cache().empty
    assert list_cache().groupby("dataset")["size"].sum().empty
    assert clear_cache() == 0


def test_what_was_fetched_is_listed(archive, cache):
    ns.datasets.fetch(archive.http_manifest("a.bin"))
    ns.datasets.fetch(archive.http_manifest("a.bin", "b/c.bin", id="other", source={"version": "2"}))
    assert rows() == {
        ("other", "2"): NOTHING | {"n_files": 2, "size": 201_000},
        ("planted", "unverified"): NOTHING | {"n_files": 1, "size": 1000},
    }
    assert list_cache().folder.tolist() == [str(cache / "other" / "2"), str(cache / "planted" / "unverified")]


def test_what_is_unfinished_or_streamed_is_listed(archive, cache, monkeypatch):
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    archive.blobs.faults.append(Fault(cut=150_000))
    manifest = archive.http_manifest("b/c.bin")
    with pytest.raises(ConnectionError):
        ns.datasets.fetch(manifest)
    (file,) = cache_module.list_files(manifest, {}, ("responses",))
    with open_remote(file, cache) as stream:
        stream.read(10)
    ((name, row),) = rows().items()
    assert name == ("planted", "unverified")
    assert row["n_files"] == 0
    assert 2 * transfer.BLOCK <= row["unfinished"] <= 150_000
    assert 10 <= row["streamed"] <= 200_000


def test_clearing_one_dataset_leaves_the_others(archive, cache):
    ns.datasets.fetch(archive.http_manifest("a.bin"))
    other = archive.http_manifest("a.bin", id="other")
    (kept,) = ns.datasets.fetch(other)
    assert clear_cache("planted") >= 1000
    assert list(rows()) == [("other", "unverified")]
    assert kept.exists()
    assert clear_cache("planted") == 0
    assert clear_cache(other) >= 1000
    assert rows() == {}


def test_clearing_all_leaves_no_folder_with_the_mark(archive, cache):
    ns.datasets.fetch(archive.http_manifest("a.bin", "b/c.bin"))
    (cache / "notes.txt").write_text("mine")
    assert clear_cache() == 201_000 + sum(p.stat().st_size for p in cache.rglob(".receipts/*") if p.is_file())
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".lock")] == ["notes.txt"]
    assert ns.datasets.fetch(archive.http_manifest("a.bin"))[0].read_bytes() == FILES["a.bin"]


def test_folders_without_the_mark_are_neither_listed_nor_cleared_nor_used(archive, cache):
    (cache / "planted" / "unverified").mkdir(parents=True)
    (cache / "planted" / "unverified" / "thesis.docx").write_text("five years")
    with pytest.raises(ValueError, match="planted contains files that neurosuper did not write; move them"):
        ns.datasets.fetch(archive.http_manifest("a.bin"))
    assert list_cache().empty
    assert clear_cache() == 0
    assert clear_cache("planted") == 0
    assert (cache / "planted" / "unverified" / "thesis.docx").read_text() == "five years"


def test_links_are_removed_and_not_followed(archive, cache, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.docx").write_text("five years")
    ns.datasets.fetch(archive.http_manifest("a.bin"))
    (cache / "planted" / "unverified" / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "marked").mkdir()
    (tmp_path / "marked" / ".neurosuper").touch()
    (cache / "linked").symlink_to(tmp_path / "marked")
    assert rows()["planted", "unverified"]["size"] == 1000
    (cache / ".staging" / "other").symlink_to(tmp_path / "mine")
    assert clear_cache("other") == 0
    assert clear_cache() < 5000
    assert (tmp_path / "mine" / "thesis.docx").exists()
    assert (tmp_path / "marked" / ".neurosuper").exists()


@pytest.mark.parametrize("dataset", ["..", "../mine", "/", "", ".staging", "a/b"])
def test_only_a_dataset_can_be_cleared(dataset, archive, cache):
    ns.datasets.fetch(archive.http_manifest("a.bin"))
    with pytest.raises(ValueError, match="is not the id of a dataset"):
        clear_cache(dataset)
    assert rows()


def test_a_file_of_the_user_must_have_the_pinned_digest(tmp_path, monkeypatch, cache):
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "a.pkl"
    path.write_bytes(b"abc")
    monkeypatch.setenv("MINE", str(path.parent))
    source = {"kind": "local", "obtain": "ask me", "env_var": "MINE"}
    with pytest.raises(ValueError, match="a.pkl of planted is a pickle"):
        ns.datasets.fetch(make_manifest(source, ["a.pkl"]))
    manifest = make_manifest(
        source, ["a.pkl"], checksums=[{"path": "a.pkl", "value": hashlib.sha256(b"abc").hexdigest()}]
    )
    assert ns.datasets.fetch(manifest) == [path]
    monkeypatch.setattr(receipts, "digest_of", lambda *_: pytest.fail("it was read again"))
    assert ns.datasets.fetch(manifest) == [path]
    monkeypatch.undo()
    monkeypatch.setenv("MINE", str(path.parent))
    monkeypatch.setenv("NEUROSUPER_CACHE", str(cache))
    path.write_bytes(b"abd")
    os.utime(path, (1, 1))
    with pytest.raises(ValueError, match="a.pkl does not have the sha256 that the manifest pins; get it again"):
        ns.datasets.fetch(manifest)
    assert [name.name for name in path.parent.iterdir()] == ["a.pkl"]
    clear_cache()
    assert path.exists()


def test_a_cache_that_cannot_be_written_can_still_be_read(archive, monkeypatch):
    manifest = archive.http_manifest("a.bin")
    fetched = ns.datasets.fetch(manifest)
    monkeypatch.setattr(cache_module, "own_folder", lambda _: pytest.fail("it was written to"))
    monkeypatch.setattr(receipts, "write_json", lambda *_: pytest.fail("it was written to"))
    assert ns.datasets.fetch(manifest) == fetched


def test_a_cache_whose_path_is_a_file(archive, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("a file")
    monkeypatch.setenv("NEUROSUPER_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="cannot write .*; make room or get permission there, or name another") as raised:
        ns.datasets.fetch(archive.http_manifest("a.bin"))
    assert "\n" not in str(raised.value)
