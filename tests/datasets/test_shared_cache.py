"""A cache of another user, or one that cannot be written, can be read; a full disk is a one-line error."""

import errno
import hashlib
import os
import shutil
import stat
from pathlib import Path

import pytest

import neurosuper as ns
from neurosuper import _files
from neurosuper.datasets import receipts, remote
from neurosuper.datasets.archives import list_files
from neurosuper.datasets.remote import open_remote
from tests.datasets.dandi_server import Archive

CONTENT = bytes(range(256)) * 2000
PINS = [{"path": "a.bin", "value": hashlib.sha256(CONTENT).hexdigest()}]


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def archive():
    with Archive({"a.bin": CONTENT}) as archive:
        yield archive


def refuse_writing(monkeypatch, number=errno.EROFS):
    """Let every write of a whole file, and every new lock, fail with an error of the disk."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    monkeypatch.setattr("neurosuper.datasets.folders.FileLock", refuse)
    monkeypatch.setattr("neurosuper.datasets.receipts.FileLock", refuse)
    monkeypatch.setattr("neurosuper.datasets.transfer.FileLock", refuse)


def copied(cache):
    """Give every file another date, as a copy would have."""
    for path in cache.rglob("*"):
        os.utime(path, (1, 1))


def receipts_in(cache):
    return [path for path in cache.rglob(".receipts/*") if path.is_file()]


@pytest.mark.parametrize("pins", [PINS, []], ids=["digest known", "receipt only"])
def test_a_copy_that_cannot_be_written_is_verified_and_used(archive, cache, monkeypatch, pins):
    asked = archive.http_manifest("a.bin", checksums=pins)
    ns.datasets.fetch(asked)
    copied(cache)
    archive.forget()
    refuse_writing(monkeypatch)
    assert ns.datasets.fetch(asked)[0].read_bytes() == CONTENT
    assert archive.requests == []


def test_a_dandiset_is_used_without_its_listing(archive, cache, monkeypatch):
    """The archive is listed, but no byte of a file is downloaded."""
    asked = archive.manifest("a.bin")
    ns.datasets.fetch(asked)
    shutil.rmtree(next(cache.rglob(".listings")))
    archive.forget()
    refuse_writing(monkeypatch)
    assert ns.datasets.fetch(asked)[0].read_bytes() == CONTENT
    assert archive.blobs.sent == 0


def test_without_a_readable_receipt_a_digest_verifies_a_file(archive, cache, monkeypatch):
    asked = archive.http_manifest("a.bin", checksums=PINS)
    ns.datasets.fetch(asked)
    monkeypatch.setattr(receipts, "read_json", lambda _: {})
    refuse_writing(monkeypatch)
    assert ns.datasets.fetch(asked)[0].read_bytes() == CONTENT


def test_a_file_that_cannot_be_verified_or_fetched_is_used_with_a_warning(archive, cache, monkeypatch):
    asked = archive.http_manifest("a.bin")
    ns.datasets.fetch(asked)
    for path in receipts_in(cache):
        path.unlink()
    archive.forget()
    with monkeypatch.context() as patch:
        refuse_writing(patch)
        with pytest.warns(UserWarning, match="a.bin is used unverified: its cache cannot be written"):
            assert ns.datasets.fetch(asked)[0].read_bytes() == CONTENT
    assert archive.requests == []
    ns.datasets.fetch(asked)
    assert archive.blobs.sent == len(CONTENT), "where it can be written, it is fetched again"


def test_a_damaged_file_in_a_cache_that_cannot_be_written_is_an_error(archive, cache, monkeypatch):
    asked = archive.http_manifest("a.bin")
    (path,) = ns.datasets.fetch(asked)
    path.write_bytes(CONTENT[:-1] + b"?")
    refuse_writing(monkeypatch)
    with pytest.raises(OSError, match="cannot write .*Read-only file system.*NEUROSUPER_CACHE") as raised:
        ns.datasets.fetch(asked)
    assert "\n" not in str(raised.value)


def test_the_umask_decides_who_can_read_stored_files(archive, cache):
    before = os.umask(0o022)
    try:
        ns.datasets.fetch(archive.manifest("a.bin"))
        (file,) = list_files(archive.manifest("a.bin"), {}, ("responses",))
        with open_remote(file, cache) as stream:
            stream.read(10)
    finally:
        os.umask(before)
    kept = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert len(kept) > 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o644}


def test_parts_of_a_stream_in_a_cache_that_cannot_be_written_are_read(archive, cache, monkeypatch):
    (file,) = list_files(archive.manifest("a.bin"), {}, ("responses",))
    with open_remote(file, cache) as stream:
        stream.read(10)
    archive.forget()
    refuse_writing(monkeypatch)
    with open_remote(file, cache) as stream:
        assert stream.read(10) == CONTENT[:10]
        assert archive.blobs.requests == []
        stream.seek(400_000)
        with pytest.warns(UserWarning, match="streamed parts are not stored, .*Read-only file system"):
            assert stream.read(10) == CONTENT[400_000:400_010]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_stops_neither_a_stream_nor_reading_fetched_files(archive, cache, monkeypatch, number):
    (file,) = list_files(archive.manifest("a.bin"), {}, ("responses",))
    with monkeypatch.context() as patch:
        refuse_writing(patch, number)
        with open_remote(file, cache) as stream, pytest.warns(UserWarning, match="not stored.*: disk full"):
            assert stream.read(100_000) == CONTENT[:100_000]
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_the_error_of_a_full_disk_states_how_much_room_is_needed_and_where(archive, cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(receipts.os, "fsync", full)
        with pytest.raises(OSError, match=r"disk full: 0\.1 MB are needed at .*\.part; make room there, or") as raised:
            ns.datasets.fetch(archive.manifest("a.bin"))
    assert "\n" not in str(raised.value)
    assert not list(cache.rglob("a.bin"))
    assert ns.datasets.fetch(archive.manifest("a.bin"))[0].read_bytes() == CONTENT


def test_a_full_disk_at_the_receipt_leaves_a_whole_file_and_no_partial_one(archive, cache, monkeypatch):
    def half(path, content):
        with open(path, "wb") as file:
            file.write(content[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    asked = archive.manifest("a.bin")
    with monkeypatch.context() as patch:
        patch.setattr(receipts, "write_receipt", lambda remote, place, *_: receipts.write_whole(place.receipt, b"{}"))
        patch.setattr("neurosuper.datasets.transfer.write_receipt", receipts.write_receipt)
        patch.setattr(Path, "write_bytes", half)
        with pytest.raises(OSError, match="disk full: more room is needed at"):
            ns.datasets.fetch(asked)
    assert not list(cache.rglob("*.part"))
    assert ns.datasets.fetch(asked)[0].read_bytes() == CONTENT
    assert receipts_in(cache)


def test_leftovers_of_killed_processes_are_removed_by_the_next(archive, cache, gone):
    asked = archive.manifest("a.bin")
    (path,) = ns.datasets.fetch(asked)
    staged = cache / ".staging" / "planted" / path.parent.name
    left = [
        next(cache.rglob(".receipts")) / f"a.json.{_files._machine()}.{gone}.0f.part",
        *(staged / f"{hashlib.sha256(b'a.bin').hexdigest()[:32]}{suffix}" for suffix in (".part", ".json")),
        staged / f"other.json.{_files._machine()}.{gone}.0f.part",
        next(cache.rglob(".listings")) / f"b.json.{_files._machine()}.{gone}.0f.part",
    ]
    for scrap in left:
        scrap.write_bytes(b"half")
    archive.forget()
    ns.datasets.fetch(asked)
    assert not any(scrap.exists() for scrap in left)
    assert archive.blobs.sent == 0


def test_partial_files_of_a_stream_are_removed_when_it_is_opened_again(archive, cache, gone):
    (file,) = list_files(archive.manifest("a.bin"), {}, ("responses",))
    with open_remote(file, cache) as stream:
        stream.read(10)
    (part,) = [path for path in (cache / ".streaming").rglob("*-*") if path.is_file()]
    scrap = part.with_name(f"a.{_files._machine()}.{gone}.0f.part")
    scrap.write_bytes(b"half")
    open_remote(file, cache).close()
    assert not scrap.exists()


def test_a_key_goes_to_no_server_but_the_archives(archive, cache, monkeypatch):
    """The API redirects the caller to another server, as a compromised archive might."""
    key, thief = "0123456789-my-key", "/api/dandisets/"
    monkeypatch.setenv("NEUROSUPER_DANDI_API_KEY", key)
    honest = archive.api.answer

    def send_away(request):
        away = request.path.startswith(thief)
        return (302, {"Location": archive.blobs.url + request.path}, b"") if away else honest(request)

    archive.api.answer = send_away
    with pytest.raises((OSError, ValueError)) as raised:
        ns.datasets.fetch(archive.manifest("a.bin"))
    assert any(key in str(request.headers) for request in archive.api.requests)
    assert archive.blobs.requests
    assert not any("Authorization" in request.headers for request in archive.blobs.requests)
    assert key not in str(raised.value)
    assert remote.HEADERS.keys() == {"User-Agent", "Accept-Encoding"}
