"""A file gets its final name only if it passes all checks, with any fault of the network."""

import email.utils
import errno
import hashlib
import json
import os
import time
from dataclasses import replace

import numpy as np
import pytest

from neurosuper.datasets import receipts, transfer
from neurosuper.datasets.archives import Digest, RemoteFile
from neurosuper.datasets.receipts import Place, digest_of, is_finished
from neurosuper.datasets.transfer import Progress, download
from tests.datasets.dandi_server import Archive, Fault

CONTENT = np.random.default_rng(0).bytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(transfer, "BACKOFF", 0.01)


@pytest.fixture
def archive():
    with Archive({"a.bin": CONTENT, "empty.bin": b""}) as archive:
        yield archive


@pytest.fixture
def remote(archive):
    digest = Digest("sha256", SHA256, "DANDI")
    url = f"{archive.blobs.url}/files/a.bin?signature=secret"
    return RemoteFile("planted", "1", "a.bin", len(CONTENT), digest, lambda: url, "ask the owner")


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "done" / "a.bin", tmp_path / "receipts" / "a.json", tmp_path / "staging" / "a.part")


def bring(remote, place):
    with Progress("planted", None) as progress:
        download(remote, place, progress)
    return place.target.read_bytes()


def refused(remote, place, error, message):
    """Check that a transfer fails in one line that does not reveal the signature, and leaves no file."""
    with pytest.raises(error, match=message) as raised:
        bring(remote, place)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)
    assert not place.target.exists()


def test_a_file_is_stored_with_a_receipt(archive, remote, place):
    assert bring(remote, place) == CONTENT
    receipt = json.loads(place.receipt.read_text())
    assert receipt["url"] == f"{archive.blobs.url}/files/a.bin"
    assert receipt["size"] == len(CONTENT)
    assert receipt["digests"] == {"sha256": SHA256}
    assert receipt["verified_against"] == "DANDI sha256"
    assert receipt["version"] == "1"
    assert archive.blobs.sent == len(CONTENT)
    assert not place.staged.exists()


@pytest.mark.parametrize(
    ("digest", "against"),
    [
        (None, "size only"),
        (Digest("md5", hashlib.md5(CONTENT).hexdigest(), "manifest"), "manifest md5"),
        (
            Digest("dandi-etag", hashlib.md5(hashlib.md5(CONTENT).digest()).hexdigest() + "-1", "DANDI"),
            "DANDI dandi-etag",
        ),
    ],
)
def test_a_receipt_states_what_a_file_was_verified_against(remote, place, digest, against):
    bring(replace(remote, digest=digest), place)
    assert json.loads(place.receipt.read_text())["verified_against"] == against
    assert is_finished(replace(remote, digest=digest), place)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_error_is_followed_by_another_attempt(archive, remote, place, status):
    archive.blobs.faults.extend([Fault(status), Fault(status)])
    assert bring(remote, place) == CONTENT


@pytest.mark.parametrize(("as_date", "least"), [(False, 60), (True, 50)])
def test_a_server_is_given_the_time_that_it_asks_for(archive, remote, place, monkeypatch, as_date, least):
    """A minute, in seconds or as a date; the test does not sleep."""
    waits = []
    monkeypatch.setattr(Progress, "wait", lambda self, seconds, why="": waits.append(seconds))
    asked = email.utils.formatdate(time.time() + 60, usegmt=True) if as_date else "60"
    archive.blobs.faults.append(Fault(503, {"Retry-After": asked}))
    assert bring(remote, place) == CONTENT
    assert least <= max(waits) <= 60


def test_an_hour_is_not_waited_for(archive, remote, place):
    archive.blobs.faults.append(Fault(503, {"Retry-After": "3600"}))
    refused(
        remote, place, ConnectionError, "a.bin cannot be fetched from 127.0.0.1: .* responds 503 .* continues where"
    )


def test_waits_add_up_to_minutes_at_most(archive, remote, place, monkeypatch):
    waits = []
    monkeypatch.setattr(Progress, "wait", lambda self, seconds, why="": waits.append(seconds))
    archive.blobs.faults.extend([Fault(503, {"Retry-After": "120"})] * 20)
    refused(remote, place, ConnectionError, "responds 503")
    assert 200 < sum(waits) <= transfer.LONGEST_WAIT


def test_a_server_with_permanent_errors(archive, remote, place):
    archive.blobs.faults.extend([Fault(503)] * transfer.ATTEMPTS)
    refused(remote, place, ConnectionError, "responds 503")
    assert len(archive.blobs.requests) == transfer.ATTEMPTS


def test_an_address_without_a_server(remote, place, monkeypatch):
    monkeypatch.setattr(transfer, "ATTEMPTS", 2)
    refused(replace(remote, url=lambda: "http://127.0.0.1:9/a?x=secret"), place, ConnectionError, "connection failed")


@pytest.mark.parametrize("known", ["digest", "etag"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_transfer_that_was_cut_resumes(archive, remote, place, known, framing):
    archive.etag, archive.blobs.framing = known == "etag", framing
    archive.blobs.faults.extend([Fault(cut=400_000), Fault(cut=300_000)])
    assert bring(remote if known == "digest" else replace(remote, digest=None), place) == CONTENT
    assert [request.headers.get("Range") is None for request in archive.blobs.requests] == [True, False, False]
    assert all("If-Range" in request.headers for request in archive.blobs.requests[1:]) == (known == "etag")
    assert archive.blobs.sent <= len(CONTENT) + 2 * transfer.BLOCK


def test_a_later_call_resumes_with_the_bytes_staged_by_an_earlier_one(archive, remote, place, monkeypatch):
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    archive.blobs.faults.append(Fault(cut=700_000))
    refused(remote, place, ConnectionError, "continues where it stopped")
    assert place.staged.stat().st_size > 600_000
    assert bring(remote, place) == CONTENT
    assert archive.blobs.sent <= len(CONTENT) + transfer.BLOCK


def test_many_cuts_at_any_place(archive, remote, place, rng):
    cuts = rng.integers(2 * transfer.BLOCK, 4 * transfer.BLOCK, 6)
    archive.blobs.faults.extend(Fault(cut=int(cut)) for cut in cuts)
    assert bring(remote, place) == CONTENT


def test_a_server_that_ignores_ranges_is_read_from_the_start(archive, remote, place):
    archive.ranges = False
    archive.blobs.faults.append(Fault(cut=500_000))
    assert bring(remote, place) == CONTENT
    assert archive.blobs.sent == len(CONTENT) + 500_000


def test_a_transfer_that_is_always_cut_is_given_up(archive, remote, place):
    archive.ranges = False
    archive.blobs.faults.extend([Fault(cut=500_000)] * 20)
    refused(remote, place, ConnectionError, "a.bin cannot be fetched")
    assert len(archive.blobs.requests) < 20


def test_bytes_of_two_versions_are_not_joined(archive, remote, place, monkeypatch):
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    remote = replace(remote, digest=None)
    archive.blobs.faults.append(Fault(cut=500_000))
    refused(remote, place, ConnectionError, "connection failed")
    archive.files["a.bin"] = CONTENT[::-1]
    assert bring(remote, place) == CONTENT[::-1]


def test_staged_bytes_of_an_unidentified_version_are_deleted(archive, remote, place):
    archive.etag = False
    place.staged.parent.mkdir()
    place.staged.write_bytes(b"\0" * 500_000)
    assert bring(replace(remote, digest=None), place) == CONTENT


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_process_that_died_before_the_final_name(archive, remote, place, size):
    place.staged.parent.mkdir()
    place.staged.write_bytes(CONTENT)
    assert bring(replace(remote, size=size), place) == CONTENT
    assert archive.blobs.sent <= transfer.OVERLAP


def test_more_staged_bytes_than_the_file_has(remote, place):
    place.staged.parent.mkdir()
    for size in (len(CONTENT), None):
        place.staged.write_bytes(CONTENT + b"more")
        assert bring(replace(remote, size=size), place) == CONTENT
        place.target.unlink()


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "md5", "dandi-etag"])
def test_a_wrong_digest_leaves_nothing(remote, place, algorithm):
    wrong = replace(remote, digest=Digest(algorithm, "0" * 32, "manifest"))
    refused(
        wrong, place, ValueError, rf"a.bin arrived with {algorithm} .*, expected 0+ \(from manifest\); it was deleted"
    )
    assert not place.staged.exists()
    assert not place.receipt.exists()


def test_another_size_is_detected_before_any_byte_is_downloaded(archive, remote, place):
    refused(replace(remote, size=5), place, ValueError, "a.bin has 1000000 bytes on 127.0.0.1, expected 5")


def test_a_body_that_is_too_short_is_no_file(archive, remote, place, monkeypatch):
    """The server does not state the length, and ends early as if it were done."""
    monkeypatch.setattr(transfer, "ATTEMPTS", 2)
    archive.blobs.framing = "none"
    archive.blobs.faults.extend([Fault(cut=500_000)] * 2)
    archive.ranges = False
    refused(remote, place, ConnectionError, "ended after 500000 of 1000000 bytes")


def test_a_file_of_unknown_length(archive, remote, place):
    remote = replace(remote, size=None, digest=None)
    archive.blobs.framing = "none"
    refused(remote, place, ValueError, "does not state the size of a.bin; pin it")
    archive.blobs.framing = "chunked"
    assert bring(remote, place) == CONTENT


def test_an_empty_file(archive, remote, place):
    url = f"{archive.blobs.url}/files/empty.bin"
    assert bring(replace(remote, size=0, digest=None, url=lambda: url), place) == b""


def test_a_web_page_is_no_recording(archive, remote, place):
    archive.blobs.faults.append(Fault(page=True))
    refused(remote, place, ValueError, "sent a web page instead of a.bin, such as a login page; ask the owner")


def test_a_compressed_response_is_refused(archive, remote, place):
    archive.blobs.headers = {"Content-Encoding": "gzip"}
    refused(remote, place, ValueError, "sends a.bin compressed")


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, PermissionError, r"denies access to a.bin \(401\); ask the owner"),
        (403, PermissionError, r"denies access to a.bin \(403\); ask the owner"),
        (404, FileNotFoundError, r"127.0.0.1 has no a.bin \(404 Not Found\)"),
    ],
)
def test_refusals_are_not_followed_by_another_attempt(archive, remote, place, status, error, message):
    archive.blobs.faults.extend([Fault(status)] * 5)
    refused(remote, place, error, message)
    assert len(archive.blobs.requests) == 1


def test_an_expired_signature_is_renewed(archive, remote, place):
    archive.lifetime = 1
    asset = archive.ids["a.bin"]
    archive.blobs.faults.extend([Fault(cut=500_000), Fault(403)])
    assert bring(replace(remote, url=lambda: archive._sign(asset)), place) == CONTENT
    assert len({request.query["signature"] for request in archive.blobs.requests}) == 3


def test_a_full_disk(remote, place, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    refused(remote, place, OSError, r"disk full: 0\.1 MB are needed at .*a\.part; make room .*NEUROSUPER_CACHE")
    monkeypatch.undo()
    assert bring(remote, place) == CONTENT


def test_a_folder_that_cannot_be_made(remote, place):
    place.staged.parent.write_text("a file")
    refused(remote, place, OSError, "cannot write .*a.part .*NEUROSUPER_CACHE")


def test_finished_files_are_not_downloaded_again(archive, remote, place):
    bring(remote, place)
    os.utime(place.target)
    assert is_finished(remote, place)
    bring(remote, place)
    assert archive.blobs.sent == len(CONTENT)


def test_a_file_that_matches_its_receipt_is_not_read(remote, place, monkeypatch):
    bring(remote, place)
    monkeypatch.setattr(receipts, "digest_of", lambda *_: pytest.fail("the file was read"))
    assert is_finished(remote, place)


def test_an_altered_file_is_downloaded_again(archive, remote, place):
    for digest in (remote.digest, None):
        bring(replace(remote, digest=digest), place)
        place.target.write_bytes(CONTENT[:-1] + b"?")
        assert not is_finished(replace(remote, digest=digest), place)
        assert bring(replace(remote, digest=digest), place) == CONTENT


@pytest.mark.parametrize("receipt", [None, "", "[]", "{}", '{"size": 1000000}'])
def test_without_a_receipt_only_a_digest_verifies_a_file(remote, place, receipt):
    place.target.parent.mkdir()
    place.target.write_bytes(CONTENT)
    if receipt is not None:
        place.receipt.parent.mkdir()
        place.receipt.write_text(receipt)
    assert not is_finished(replace(remote, digest=None), place)
    assert is_finished(remote, place)
    assert json.loads(place.receipt.read_text())["digests"] == {"sha256": SHA256}


def test_a_digest_that_is_pinned_later_is_checked(remote, place):
    bring(replace(remote, digest=None), place)
    assert is_finished(remote, place)
    assert not is_finished(replace(remote, digest=Digest("sha256", "0" * 64, "manifest")), place)
    assert not is_finished(replace(remote, digest=Digest("md5", "0" * 32, "manifest")), place)


def test_digests_are_those_of_dandi(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    assert digest_of(tmp_path / "a", "sha256") == SHA256
    assert digest_of(tmp_path / "a", "dandi-etag") == hashlib.md5(hashlib.md5(CONTENT).digest()).hexdigest() + "-1"


def test_a_bar_of_bytes_names_the_dataset(capsys, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "0")  # there is no terminal
    with Progress("planted", 2_000_000) as progress:
        progress.advance(2_000_000)
    assert "planted: 100%" in capsys.readouterr().err


def test_the_bar_shows_why_it_waits(archive, remote, place, capsys, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "0")  # there is no terminal
    archive.blobs.faults.append(Fault(503))
    bring(remote, place)
    assert "responds 503 Service Unavailable; again in 0 s" in capsys.readouterr().err


def test_stopped_transfers_keep_what_they_have(archive, remote, place):
    archive.blobs.pace = 2_000_000
    with Progress("planted", None) as progress:
        progress.advance = lambda n: transfer.Progress.advance(progress, n) or (n > 0 and progress.stop())
        with pytest.raises(transfer.StoppedError):
            download(remote, place, progress)
    assert place.staged.stat().st_size > 0
    assert bring(remote, place) == CONTENT
