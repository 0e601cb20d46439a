"""Archives are listed with the real `dandi` client, and their responses are checked before they are used."""

import os
import sys
import warnings
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosuper.datasets import archives
from neurosuper.datasets.archives import check_path, list_files, local_folder
from tests.datasets.dandi_server import DANDISET, VERSION, Archive, Fault, make_manifest
from tests.datasets.faulty_server import FaultyServer

KEY = "0123456789abcdef-my-key"
FILES = {
    "sub-A/sub-A_ses-1.nwb": b"one",
    "sub-A/sub-A_ses-2.nwb": b"two two",
    "sub-A/deep/sub-A_ses-3.nwb": b"three",
    "sub-B/SUB-B_ses-1.nwb": b"four",
    "sub-A/sub-A_ses-1.nwb.txt": b"notes",
}
ROLES = ("responses",)


@pytest.fixture
def archive(monkeypatch):
    for name in ("DANDI_API_KEY", "NEUROSUPER_DANDI_API_KEY", "DANDI_NO_ET"):
        monkeypatch.delenv(name, raising=False)
    with Archive(FILES) as archive:
        yield archive


def listed(manifest, **subset):
    return list_files(manifest, manifest.choose(subset), ROLES)


def paths(manifest, **subset):
    return [file.path for file in listed(manifest, **subset)]


def refused(manifest, error, message):
    """Check that a manifest is refused in one line, with an error that does not reveal the API key."""
    with pytest.raises(error, match=message) as raised:
        listed(manifest)
    assert "\n" not in str(raised.value)
    assert raised.value.__context__ is None or KEY not in repr(vars(raised.value.__context__))


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("sub-A/sub-A_ses-1.nwb", ["sub-A/sub-A_ses-1.nwb"]),
        ("sub-A/*.nwb", ["sub-A/sub-A_ses-1.nwb", "sub-A/sub-A_ses-2.nwb"]),
        ("sub-*/sub-*_ses-*.nwb", ["sub-A/sub-A_ses-1.nwb", "sub-A/sub-A_ses-2.nwb"]),
        ("sub-A/*/*.nwb", ["sub-A/deep/sub-A_ses-3.nwb"]),
        ("*/*_ses-1.nwb", ["sub-A/sub-A_ses-1.nwb", "sub-B/SUB-B_ses-1.nwb"]),
    ],
)
def test_a_path_matches_only_the_files_that_fit_it(archive, template, found):
    assert paths(archive.manifest(template)) == found


def test_a_file_of_dandi_has_size_and_digest_and_a_signed_address(archive):
    (file,) = listed(archive.manifest("sub-A/sub-A_ses-2.nwb"))
    assert (file.size, file.version, file.dataset) == (7, VERSION, "planted")
    assert file.digest == ("sha256", archive.digests[file.path]["dandi:sha2-256"], "DANDI")
    assert file.url().startswith(f"{archive.blobs.url}/blobs/")
    assert file.url() != file.url()


def test_only_the_pinned_version_is_requested(archive):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths(archive.manifest("sub-A/*.nwb"))
    assert {request.path.split("/")[5] for request in archive.api.asked("/api/dandisets/")} == {VERSION}


def test_an_unpinned_version_is_the_latest_published_with_a_warning(archive):
    with pytest.warns(UserWarning, match=rf"pins no version of DANDI {DANDISET}: using {VERSION}; pin it"):
        (file,) = listed(archive.manifest("sub-A/*_ses-1.nwb", version="unverified"))
    assert file.version == VERSION


def test_a_draft_is_used_only_if_the_manifest_allows_it(archive):
    refused(archive.manifest("sub-A/*.nwb", version="draft"), ValueError, "names the draft .* may change any day; pin")
    assert archive.requests == []
    allowed = archive.manifest("sub-A/*.nwb", version="draft", source={"allow_draft": True})
    assert {file.version for file in listed(allowed)} == {"draft"}


def test_a_dandiset_without_published_version(archive):
    archive.published = False
    unpinned = {"version": "unverified", "source": {}}
    refused(archive.manifest("sub-A/*.nwb", **unpinned), ValueError, "has no published version; set allow_draft = true")
    allowed = archive.manifest("sub-A/*.nwb", version="unverified", source={"allow_draft": True})
    with pytest.warns(UserWarning, match="using draft"):
        assert listed(allowed)


@pytest.mark.parametrize(
    ("template", "change", "message"),
    [
        ("sub-C/*.nwb", {}, f"DANDI {DANDISET}, version {VERSION}, has no file sub-C/\\*.nwb; choose another subset"),
        ("sub-B/sub-B_ses-1.nwb", {}, "has no file sub-B/sub-B_ses-1.nwb"),
        ("sub-A/*.nwb", {"version": "0.1"}, "No such version: '0.1'.*; check dandiset and version"),
        ("sub-A/*.nwb", {"source": {"dandiset": "000001"}}, "000001 .*; check dandiset and version"),
        ("sub-A/*.nwb", {"source": {"dandiset": "000001"}, "version": "unverified"}, "No such Dandiset: 000001"),
    ],
)
def test_the_error_names_what_the_archive_lacks(archive, template, change, message):
    refused(archive.manifest(template, **change), FileNotFoundError, message)


def test_an_etag_replaces_a_missing_sha256(archive):
    path = "sub-A/sub-A_ses-1.nwb"
    etag = archive.digests[path].pop("dandi:dandi-etag")
    archive.digests[path] = {"dandi:dandi-etag": etag}
    assert listed(archive.manifest(path))[0].digest == ("dandi-etag", etag, "DANDI")
    archive.digests[path] = {}
    assert listed(archive.manifest(path))[0].digest is None


@pytest.mark.parametrize("algorithm", ["sha256", "dandi-etag", "md5"])
def test_a_digest_in_the_manifest_wins(archive, algorithm):
    path = "sub-A/sub-A_ses-1.nwb"
    key = {"sha256": "dandi:sha2-256", "dandi-etag": "dandi:dandi-etag", "md5": "none"}[algorithm]
    value = archive.digests[path].get(key, "5" * 32)
    pins = [{"path": path, "algorithm": algorithm, "value": value.upper(), "size": 3}]
    assert listed(archive.manifest(path, checksums=pins))[0].digest == (algorithm, value, "manifest")


@pytest.mark.parametrize(
    ("pin", "message"),
    [
        ({"value": "0" * 64}, "has sha256 [0-9a-f]{64} in the archive, but 0{64} in the manifest"),
        ({"algorithm": "dandi-etag", "value": "0-1"}, "has dandi-etag .* in the archive, but 0-1 in the manifest"),
        ({"algorithm": "md5", "value": "0", "size": 4}, "has bytes 3 in the archive, but 4 in the manifest"),
    ],
)
def test_an_archive_that_contradicts_the_manifest_is_refused(archive, pin, message):
    path = "sub-A/sub-A_ses-1.nwb"
    refused(archive.manifest(path, checksums=[{"path": path} | pin]), ValueError, message)


@pytest.mark.parametrize("first", ["api", "blobs"])
def test_the_key_is_sent_only_to_the_api(archive, monkeypatch, first):
    import requests

    archive.key, archive.content_urls_first = KEY, first
    monkeypatch.setenv("NEUROSUPER_DANDI_API_KEY", KEY)
    (file,) = listed(archive.manifest("sub-A/*_ses-1.nwb"))
    assert requests.get(file.url(), timeout=5).content == b"one"
    shown = [KEY in str(request.headers) for request in archive.api.requests if request.path != "/server-info"]
    assert shown == [request.path != "/api/info/" for request in archive.api.requests if request.path != "/server-info"]
    assert archive.blobs.requests
    assert not any("Authorization" in request.headers or KEY in str(request) for request in archive.blobs.requests)
    assert KEY not in repr(file)


def test_a_page_of_the_listing_on_another_server_does_not_see_the_key(archive, monkeypatch):
    archive.key = KEY
    monkeypatch.setenv("NEUROSUPER_DANDI_API_KEY", KEY)
    api = archive.api
    with Archive({}) as other:
        monkeypatch.setattr(
            archive, "_list", lambda _: {"count": 9, "next": f"{other.api.url}/api/elsewhere/", "results": []}
        )
        with pytest.raises(FileNotFoundError):
            listed(archive.manifest("sub-A/*.nwb"))
        assert other.api.asked("/api/elsewhere/")
        assert not any(KEY in str(request) for request in other.requests)
    assert any(KEY in str(request) for request in api.requests)


@pytest.mark.parametrize(
    ("key", "hint"), [(None, "set NEUROSUPER_DANDI_API_KEY to your"), ("wrong", "is not accepted")]
)
def test_an_embargoed_dandiset_names_the_variable_for_the_key(archive, monkeypatch, key, hint):
    archive.key = KEY
    if key:
        monkeypatch.setenv("NEUROSUPER_DANDI_API_KEY", key)
    refused(archive.manifest("sub-A/*.nwb"), PermissionError, rf"denies access \(401\); .*{hint}")


def test_a_key_that_is_withdrawn_in_the_meantime(archive, monkeypatch):
    monkeypatch.setenv("NEUROSUPER_DANDI_API_KEY", KEY)
    archive.key = KEY
    (file,) = listed(archive.manifest("sub-A/*_ses-1.nwb"))
    archive.key = "another"
    with pytest.raises(PermissionError, match="NEUROSUPER_DANDI_API_KEY is set, but its key is not accepted") as raised:
        file.url()
    assert KEY not in str(raised.value)
    assert raised.value.__context__ is None


def test_the_key_of_a_known_instance_has_the_name_that_dandi_gives_it():
    source = make_manifest({"kind": "dandi", "dandiset": DANDISET, "version": "1"}, ["a.nwb"]).source
    assert archives._key_variable(source) == "DANDI_API_KEY"
    assert archives._key_variable(source.model_copy(update={"instance": "ember-dandi"})) == "EMBER_DANDI_API_KEY"


def test_an_unknown_instance(archive):
    refused(
        archive.manifest("a.nwb", source={"instance": "dandy"}),
        ValueError,
        "no DANDI instance 'dandy'; there are dandi, .*URL",
    )


def test_the_error_of_a_client_that_is_too_old_shows_what_to_run(archive):
    archive.minimum_client = "99.0.0"
    refused(archive.manifest("sub-A/*.nwb"), RuntimeError, "too old!.*99.0.0; run: pip install --upgrade dandi")


def test_without_dandi_the_error_names_the_extra(archive, monkeypatch):
    monkeypatch.setitem(sys.modules, "dandi.dandiapi", None)
    with pytest.raises(ImportError, match=r"dandi.dandiapi is not installed; run: pip install 'neurosuper\[dandi\]'"):
        list_files(archive.manifest("sub-A/*.nwb"), {}, ["responses"])


def test_temporary_failures_of_the_archive_are_overcome(archive):
    manifest = archive.manifest("sub-A/sub-A_ses-1.nwb")
    paths(manifest)
    archive.api.faults.append(Fault(503))
    assert paths(manifest) == ["sub-A/sub-A_ses-1.nwb"]


def test_an_archive_that_never_responds_is_given_up(monkeypatch):
    monkeypatch.setattr(archives, "TIMEOUT", (0.1, 0.1))
    with FaultyServer({}) as server:
        server.mode = "silent from the start"
        source = {"kind": "dandi", "dandiset": DANDISET, "version": VERSION, "instance": f"{server.url}/api"}
        refused(
            make_manifest(source, ["a.nwb"]), ConnectionError, "no valid response .TimeoutError.; check the network"
        )


@pytest.mark.parametrize("asked", ["86400", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_an_archive_that_asks_to_wait_for_a_day_is_contacted_again_soon(archive, monkeypatch, asked):
    paths(archive.manifest("sub-A/sub-A_ses-1.nwb"))  # dandi first requests information on the server
    waits = []
    monkeypatch.setattr("dandi.dandiapi.sleep", waits.append)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    archive.api.faults.extend([Fault(503, {"Retry-After": asked})] * 3)
    assert paths(archive.manifest("sub-A/sub-A_ses-1.nwb")) == ["sub-A/sub-A_ses-1.nwb"]
    assert waits
    assert max(waits) <= archives.LONGEST_WAIT


@pytest.mark.parametrize("fault", [Fault(page=True), Fault(404), Fault(500)])
def test_an_address_without_an_archive(archive, fault):
    archive.api.faults.extend([fault] * 2)
    refused(archive.manifest("sub-A/*.nwb"), ConnectionError, "cannot be read: no valid response .*; check the network")


def test_malformed_responses(archive, monkeypatch):
    monkeypatch.setattr(archive, "_list", lambda _: {"nothing": "here"})
    refused(archive.manifest("sub-A/*.nwb"), ConnectionError, "no valid response")


def test_a_zarr_cannot_be_fetched(archive):
    archive.zarrs.add("sub-A/sub-A_ses-1.nwb")
    refused(archive.manifest("sub-A/*.nwb"), ValueError, "sub-A_ses-1.nwb is a Zarr store")


@pytest.mark.parametrize("before", [None, "", "1", "0"])
def test_the_environment_is_unchanged(archive, monkeypatch, before):
    if before is not None:
        monkeypatch.setenv("DANDI_NO_ET", before)
    listed(archive.manifest("sub-A/*.nwb"))
    assert os.environ.get("DANDI_NO_ET") == before


def test_http_addresses_are_quoted():
    manifest = make_manifest({"kind": "http", "url": "https://example.org/data/"}, ["day 1/rates #2%.npy"])
    (file,) = listed(manifest)
    assert file.url() == "https://example.org/data/day%201/rates%20%232%25.npy"
    assert (file.size, file.digest) == (None, None)


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ({"bucket": "natural-scenes-dataset"}, "https://natural-scenes-dataset.s3.amazonaws.com/a/b.hdf5"),
        ({"bucket": "with.dots"}, "https://s3.amazonaws.com/with.dots/a/b.hdf5"),
        ({"bucket": "data", "endpoint": "https://s3.example.org/"}, "https://s3.example.org/data/a/b.hdf5"),
    ],
)
def test_a_bucket_is_read_by_its_public_address(source, address):
    (file,) = listed(make_manifest({"kind": "s3"} | source, ["a/b.hdf5"]))
    assert file.url() == address


def test_terms_to_accept_are_named_if_access_is_refused():
    source = {"kind": "s3", "bucket": "data", "agreement_url": "https://example.org/terms"}
    assert listed(make_manifest(source, ["a.hdf5"]))[0].access == "accept its terms first: https://example.org/terms"


@pytest.mark.parametrize("source", [{"kind": "http", "url": "https://example.org"}, {"kind": "s3", "bucket": "b"}])
def test_only_dandi_can_be_searched(source):
    refused(make_manifest(source, ["a/*.nwb"]), ValueError, r"'a/\*.nwb' of planted has '\*', but .* name every file")


def test_files_that_the_user_provides(tmp_path, monkeypatch):
    (tmp_path / "day 1").mkdir()
    (tmp_path / "day 1" / "a.npy").write_bytes(b"abc")
    manifest = make_manifest({"kind": "local", "obtain": "ask me", "env_var": "MINE"}, ["day */a.npy", "day 1"])
    refused(manifest, FileNotFoundError, "the files of planted are not fetched: ask me; then name their folder in MINE")
    monkeypatch.setenv("MINE", str(tmp_path / "gone"))
    refused(manifest, FileNotFoundError, "name their folder in MINE .now '.*gone'")
    monkeypatch.setenv("MINE", str(tmp_path))
    assert local_folder(manifest) == tmp_path
    assert [(file.path, file.size) for file in listed(manifest)] == [("day 1/a.npy", 3), ("day 1", None)]
    (tmp_path / "day 1" / "a.npy").unlink()
    refused(manifest, FileNotFoundError, r"has no day \*/a.npy, which planted needs: ask me")


def test_files_without_a_variable_for_their_folder():
    manifest = make_manifest({"kind": "local", "obtain": "ask me"}, ["a.npy"])
    refused(manifest, FileNotFoundError, "ask me; then pass path=")


OUTWARD = [
    *("../a", "a/../../b", "/etc/passwd", "a//b", "a/", "", ".", "a/./b", "..", "a/.. /b", "a/... /b"),
    *("C:/a", "C:a", "a:b", "a\\..\\b", "\\\\host\\share", "~/a", "~root/a", "a\0b", "a\nb", " a", "a|b"),
    *(".receipts/a.json", ".listings/a.json"),
]


@pytest.mark.parametrize("path", OUTWARD)
def test_paths_that_lead_out_are_refused(path):
    with pytest.raises(ValueError, match="is refused: it must be relative") as raised:
        check_path(path)
    assert "\n" not in str(raised.value)


PIECES = ["..", ".", "...", "", " ", "a", "b.nwb", "C:", "\\", "~", ".receipts", "\0", "%2e%2e", "․․", "/"]


@given(st.one_of(st.text(max_size=20), st.lists(st.sampled_from(PIECES), max_size=6).map("/".join)))
def test_no_accepted_path_leads_out(path):
    try:
        taken = check_path(path)
    except ValueError:
        return
    root = Path("/cache/planted/1")
    assert taken == path
    assert Path(os.path.normpath(root / path)).is_relative_to(root)
    assert Path(os.path.normpath(root / path)).relative_to(root).as_posix() == path
    windows = PureWindowsPath(path)
    assert not windows.is_absolute()
    assert not windows.drive
    assert ".." not in windows.parts
    assert windows.parts[0] not in archives.OWN_FOLDERS


@pytest.mark.parametrize("path", ["../evil.nwb", "a/\\evil.nwb", ".receipts/evil.nwb"])
def test_an_archive_that_names_such_a_path_is_refused(path):
    with Archive({path: b"evil"}) as archive:
        refused(archive.manifest("*/*.nwb"), ValueError, "is refused: it must be relative")
