"""A dataset is fetched once, whole, verified, also by several processes, and never outside the cache."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import neurosuper as ns
from neurosuper.datasets import transfer
from tests.datasets.dandi_server import VERSION, Archive, Fault, digests_of, make_manifest

KEY = "0123456789abcdef-my-key"
RNG = np.random.default_rng(0)
FILES = {f"sub-A/ses-{i}.bin": RNG.bytes(200_000 + i) for i in range(4)}
LARGE = RNG.bytes(3_000_000)
SCRIPT = """
import sys
from neurosuper.datasets.cache import fetch
from neurosuper.datasets.manifest import Manifest
print(*fetch(Manifest.model_validate_json(sys.argv[1])))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "BACKOFF", 0.01)
    monkeypatch.setenv("NEUROSUPER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NEUROSUPER_DANDI_API_KEY", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def archive():
    with Archive(FILES | {"large.bin": LARGE, "a.pkl": b"code"}) as archive:
        yield archive


def contents(paths):
    return [path.read_bytes() for path in paths]


def everything_in(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_dandiset_is_fetched_to_its_folder(archive, cache, capsys, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "0")  # there is no terminal
    fetched = ns.datasets.fetch(archive.manifest("sub-A/*.bin", "large.bin"))
    assert fetched == [cache / "planted" / VERSION / path for path in [*FILES, "large.bin"]]
    assert contents(fetched) == [*FILES.values(), LARGE]
    assert archive.blobs.sent == sum(map(len, FILES.values())) + len(LARGE)
    assert "planted: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["http_manifest", "s3_manifest"])
def test_files_at_addresses_and_in_buckets_are_fetched(archive, cache, kind):
    fetched = ns.datasets.fetch(getattr(archive, kind)(*FILES))
    assert fetched == [cache / "planted" / "unverified" / path for path in FILES]
    assert contents(fetched) == list(FILES.values())


@pytest.mark.parametrize(("jobs", "at_once"), [(1, {1, 2}), (4, {4, 5, 6, 7, 8})])
def test_files_are_fetched_several_at_a_time(archive, jobs, at_once):
    """The server counts a file for a moment after its client has requested the next."""
    archive.blobs.pace = 1_000_000
    ns.datasets.fetch(archive.http_manifest(*FILES), jobs=jobs)
    assert archive.blobs.busiest in at_once


@pytest.mark.parametrize(
    "make",
    [
        lambda archive: archive.manifest("sub-A/*.bin", "large.bin"),
        lambda archive: archive.manifest("sub-A/*.bin", version="unverified"),
        lambda archive: archive.http_manifest(*FILES),
        lambda archive: archive.s3_manifest(*FILES),
    ],
)
@pytest.mark.filterwarnings("ignore:the manifest pins no version")
def test_files_in_the_cache_need_no_network(make, capsys):
    with Archive(FILES | {"large.bin": LARGE}) as archive:
        manifest = make(archive)
        fetched = ns.datasets.fetch(manifest)
    capsys.readouterr()
    assert ns.datasets.fetch(manifest) == fetched
    assert capsys.readouterr().err == ""


def test_only_missing_files_are_fetched(archive):
    manifest = archive.manifest("sub-A/*.bin")
    first, *_ = ns.datasets.fetch(manifest)
    first.unlink()
    archive.forget()
    assert contents(ns.datasets.fetch(manifest)) == list(FILES.values())
    assert archive.blobs.sent == len(FILES["sub-A/ses-0.bin"])


def test_a_subset_and_a_role_are_fetched_alone(archive):
    manifest = archive.http_manifest(
        subset={"session": {"about": "day", "default": [0]}},
        files=[{"path": "sub-A/ses-{session}.bin"}, {"path": "large.bin", "role": "images"}],
    )
    assert [path.name for path in ns.datasets.fetch(manifest, subset={"session": [2, 1]})] == ["ses-2.bin", "ses-1.bin"]
    assert [path.name for path in ns.datasets.fetch(manifest, roles="images")] == ["large.bin"]


def test_a_draft_is_listed_every_time(archive):
    manifest = archive.manifest("large.bin", version="draft", source={"allow_draft": True})
    assert contents(ns.datasets.fetch(manifest)) == [LARGE]
    archive.files["large.bin"] = LARGE[::-1]
    archive.digests["large.bin"] = digests_of(LARGE[::-1])
    assert contents(ns.datasets.fetch(manifest)) == [LARGE[::-1]]


def test_a_file_that_fails_does_not_stop_the_others(archive, cache):
    archive.digests["sub-A/ses-1.bin"] = {"dandi:sha2-256": "0" * 64}
    with pytest.raises(
        ValueError, match=r"1 of 4 files of planted were not fetched; the first: sub-A/ses-1.bin arrived"
    ) as e:
        ns.datasets.fetch(archive.manifest("sub-A/*.bin"))
    assert "\n" not in str(e.value)
    there = [path.name for path in sorted((cache / "planted" / VERSION / "sub-A").iterdir())]
    assert there == ["ses-0.bin", "ses-2.bin", "ses-3.bin"]


def test_failures_cuts_and_expired_signatures_are_overcome(archive):
    archive.lifetime = 1
    archive.blobs.faults.extend([Fault(503), Fault(cut=1_000_000), Fault(403), Fault(502, {"Retry-After": "0"})])
    assert contents(ns.datasets.fetch(archive.manifest("large.bin"))) == [LARGE]
    assert archive.blobs.sent <= len(LARGE) + transfer.BLOCK


def test_an_embargoed_dandiset_is_fetched_with_a_key_that_is_stored_nowhere(
    archive, cache, monkeypatch, capsys, caplog
):
    archive.key = KEY
    manifest = archive.manifest("sub-A/*.bin")
    with pytest.raises(PermissionError, match="set NEUROSUPER_DANDI_API_KEY"):
        ns.datasets.fetch(manifest)
    monkeypatch.setenv("NEUROSUPER_DANDI_API_KEY", KEY)
    archive.blobs.faults.extend([Fault(503), Fault(cut=100_000)])
    assert contents(ns.datasets.fetch(manifest)) == list(FILES.values())
    assert KEY.encode() not in everything_in(cache)
    assert b"signature" not in everything_in(cache)
    assert KEY not in "".join(capsys.readouterr()) + caplog.text
    assert not any(KEY in str(request) for request in archive.blobs.requests)


def test_terms_are_named_if_a_bucket_denies_access(archive):
    archive.blobs.faults.extend([Fault(403)] * 2)
    manifest = archive.s3_manifest("large.bin", source={"agreement_url": "https://example.org/terms"})
    with pytest.raises(
        PermissionError, match=r"denies access to large.bin \(403\); accept its terms first: https://example.org/terms"
    ):
        ns.datasets.fetch(manifest)


def test_a_pickle_is_accepted_only_with_a_pinned_sha256(archive, cache):
    for manifest in (archive.manifest("a.pkl"), archive.http_manifest("a.pkl")):
        with pytest.raises(ValueError, match="a.pkl of planted is a pickle, which can run code .* pins its sha256"):
            ns.datasets.fetch(manifest)
    md5 = {"path": "a.pkl", "algorithm": "md5", "value": hashlib.md5(b"code").hexdigest()}
    with pytest.raises(ValueError, match="is a pickle"):
        ns.datasets.fetch(archive.http_manifest("a.pkl", checksums=[md5]))
    assert archive.blobs.sent == 0
    pin = {"path": "a.pkl", "value": hashlib.sha256(b"code").hexdigest()}
    assert contents(ns.datasets.fetch(archive.http_manifest("a.pkl", checksums=[pin]))) == [b"code"]
    pin["value"] = "0" * 64
    with pytest.raises(ValueError, match="arrived with sha256"):
        ns.datasets.fetch(archive.http_manifest("a.pkl", checksums=[pin]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"roles": ["music"]}, "no role 'music'; there are responses, companion, images, support"),
        ({"roles": []}, "no role is named"),
        ({"jobs": 0}, "jobs must be a whole number of at least 1, got 0"),
        ({"subset": {"day": 1}}, "planted has no subset key 'day'"),
    ],
)
def test_wrong_requests_are_refused_before_anything_happens(archive, cache, wrong, message):
    with pytest.raises(ValueError, match=message):
        ns.datasets.fetch(archive.http_manifest(*FILES), **wrong)
    assert archive.requests == []
    assert not cache.exists()


@pytest.mark.parametrize("version", ["../../evil", "..", "a/b", "C:", ".receipts"])
def test_a_version_that_leads_out_is_refused(archive, cache, version):
    with pytest.raises(ValueError, match="is refused|cannot be the name of a folder"):
        ns.datasets.fetch(archive.http_manifest(*FILES, source={"version": version}))
    assert not cache.exists()


def test_an_archive_that_names_paths_outside_writes_nothing(cache):
    with Archive({"../../../evil.bin": b"evil", "../b.bin": b"evil"}) as archive:
        with pytest.raises(ValueError, match="is refused: it must be relative"):
            ns.datasets.fetch(archive.manifest("*/*.bin"))
        assert archive.blobs.requests == []
    assert not cache.exists()


@pytest.mark.parametrize(
    "link", ["planted", f"planted/{VERSION}/sub-A", f"planted/{VERSION}/.receipts", ".staging/planted"]
)
def test_symbolic_links_that_lead_out_are_refused(archive, cache, tmp_path, link):
    (tmp_path / "mine").mkdir()
    (cache / link).parent.mkdir(parents=True)
    (cache / link).symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match="leads out of the cache by a symbolic link; remove the link"):
        ns.datasets.fetch(archive.manifest("sub-A/*.bin"))
    assert list((tmp_path / "mine").iterdir()) == []
    assert archive.blobs.requests == []


def test_a_cache_that_is_itself_a_link_is_fine(archive, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("NEUROSUPER_CACHE", str(tmp_path / "link"))
    assert contents(ns.datasets.fetch(archive.manifest("large.bin"))) == [LARGE]


def test_a_manipulated_listing_is_refused(archive, cache):
    manifest = archive.manifest("large.bin")
    ns.datasets.fetch(manifest)
    (listing,) = cache.rglob(".listings/*.json")
    listing.write_text(json.dumps({"version": VERSION, "files": [["../../../evil", 4, None]]}))
    with pytest.raises(ValueError, match="is refused"):
        ns.datasets.fetch(manifest)


def start(manifest):
    """Fetch in another process."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, manifest.model_dump_json()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def test_two_processes_that_fetch_the_same_share_it(archive):
    archive.blobs.pace = 2_000_000
    processes = [start(archive.http_manifest("large.bin")) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert Path(out.strip()).read_bytes() == LARGE
    assert archive.blobs.sent == len(LARGE)


def test_a_process_that_waits_continues_after_another_is_killed(archive, cache):
    archive.blobs.pace = 1_000_000
    manifest = archive.http_manifest("large.bin")
    first = start(manifest)
    wait_until(lambda: archive.blobs.sent)
    second = start(manifest)
    wait_until(lambda: archive.blobs.sent > 2_000_000)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    assert not list(cache.rglob("large.bin"))
    archive.blobs.pace = None
    out, err = second.communicate(timeout=30)
    assert second.returncode == 0, err
    assert Path(out.strip()).read_bytes() == LARGE
    assert archive.blobs.sent < 1.5 * len(LARGE)
    assert archive.blobs.requests[1].headers["Range"] != "bytes=0-"


def test_an_interrupted_fetch_stops_soon_and_resumes_later(archive, cache):
    archive.blobs.pace = 500_000
    manifest = archive.http_manifest("large.bin", *FILES)
    process = start(manifest)
    wait_until(lambda: archive.blobs.sent > 500_000)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert archive.blobs.sent < len(LARGE), "it did not wait for the end of the transfer"
    assert "KeyboardInterrupt: fetching planted was interrupted; the same call continues where it stopped" in err
    assert list(cache.rglob("*.part"))
    archive.blobs.pace = None
    assert contents(ns.datasets.fetch(manifest)) == [LARGE, *FILES.values()]
    assert archive.blobs.sent < 1.3 * (len(LARGE) + sum(map(len, FILES.values())))


def test_no_bar_is_drawn_if_the_user_disables_it(archive, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    process = start(archive.manifest("sub-A/*.bin"))
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_a_damaged_listing_is_requested_again(archive, cache):
    manifest = archive.manifest("large.bin")
    ns.datasets.fetch(manifest)
    (listing,) = cache.rglob(".listings/*.json")
    for damage in ('{"files": 3}', '{"files": [["large.bin"]]}', '{"files": [[1, 2, 3]]}', "[", "\0"):
        listing.write_text(damage)
        assert contents(ns.datasets.fetch(manifest)) == [LARGE]


def test_another_cache_may_be_named(archive, tmp_path, cache):
    (path,) = ns.datasets.fetch(archive.http_manifest("large.bin"), cache=tmp_path / "other")
    assert path == tmp_path / "other" / "planted" / "unverified" / "large.bin"
    assert not cache.exists()


def test_local_files_are_found_not_fetched(tmp_path, monkeypatch, cache):
    (tmp_path / "a.npy").write_bytes(b"abc")
    monkeypatch.setenv("MINE", str(tmp_path))
    manifest = make_manifest({"kind": "local", "obtain": "ask me", "env_var": "MINE"}, ["a.npy"])
    assert ns.datasets.fetch(manifest) == [tmp_path / "a.npy"]
    assert not cache.exists()
