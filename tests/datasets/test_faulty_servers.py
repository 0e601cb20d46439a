"""With any fault of a server, the bytes that arrive are right or refused in one line; wrong bytes are never used."""

import hashlib
import io
import time
from email.utils import formatdate
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

import neurosuper as ns
from neurosuper.datasets import transfer
from neurosuper.datasets.archives import Digest, RemoteFile
from neurosuper.datasets.remote import open_remote
from tests.datasets.dandi_server import make_manifest
from tests.datasets.faulty_server import FaultyServer


def array_file(seed):
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(seed).random((300, 200)))
    return buffer.getvalue()


def spike_file(seed):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["spike_times"] = np.sort(np.random.default_rng(seed).random(60_000))
    return buffer.getvalue()


OLD, NEW = array_file(0), array_file(1)
OLD_SPIKES, NEW_SPIKES = spike_file(0), spike_file(1)
MODES = [
    *("right", "login page", "circle", "no address", "busy", "no If-Range", "no ranges", "416", "wrong total"),
    *(
        "wrong start",
        "shifted",
        "compressed",
        "length too short",
        "length too long",
        "chunked",
        "chunked and cut",
        "cut",
    ),
]
RANGE_MODES = [
    *("right", "no If-Range", "no ranges", "416", "wrong total", "wrong start", "shifted"),
    *("length too short", "length too long"),
]
ALWAYS_RIGHT = {"right", "no If-Range", "no ranges", "416", "wrong total", "shifted", "chunked"}


@pytest.fixture(autouse=True)
def _impatient(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "BACKOFF", 0.001)
    monkeypatch.setattr(transfer, "ATTEMPTS", 3)
    monkeypatch.setattr("remfile.RemFile.time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setenv("NEUROSUPER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def server():
    with FaultyServer({"rates.npy": OLD, "a.nwb": OLD_SPIKES}) as server:
        yield server


def manifest(server, digest=None):
    pins = [] if digest is None else [{"path": "rates.npy", "value": hashlib.sha256(digest).hexdigest()}]
    return make_manifest({"kind": "http", "url": server.url}, ["rates.npy"], checksums=pins)


def fetched(manifest, cache):
    """Return the fetched bytes, or None if the file was refused in one line and does not exist."""
    message = ""
    try:
        (path,) = ns.datasets.fetch(manifest)
        return path.read_bytes()
    except (ValueError, OSError) as error:
        message = str(error)
    assert message
    assert "\n" not in message
    assert not list(cache.rglob("rates.npy"))
    return None


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_file_is_fetched_right_or_not_at_all(server, tmp_path, mode, pinned):
    server.mode = mode
    got = fetched(manifest(server, OLD if pinned else None), tmp_path)
    assert got == OLD if mode in ALWAYS_RIGHT else got in (None, OLD)


def cut_once(server, cache, monkeypatch):
    server.mode = "cut"
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "ATTEMPTS", 1)
        assert fetched(manifest(server), cache) is None
    server.mode = "right"
    server.log.clear()


@pytest.mark.parametrize("now", [OLD, NEW], ids=["same file", "other file"])
@pytest.mark.parametrize(
    ("mode", "validators"),
    [(mode, {"etag"}) for mode in RANGE_MODES]
    + [("no If-Range", validators) for validators in ({"weak"}, {"modified"}, {"weak", "modified"}, set())],
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else value,
)
def test_a_transfer_resumes_with_bytes_of_the_same_version_or_starts_again(
    server, tmp_path, monkeypatch, mode, validators, now
):
    server.validators = validators
    cut_once(server, tmp_path, monkeypatch)
    server.mode, server.files["rates.npy"] = mode, now
    server.modified = server.modified if now is OLD else "Tue, 02 Jan 2024 00:00:00 GMT"
    got = fetched(manifest(server), tmp_path)
    assert got == now if mode in ALWAYS_RIGHT else got in (None, now)


def test_a_file_that_keeps_changing_is_refused(server, monkeypatch):
    """Each response is of another version, and incomplete: the file is being written all the time."""
    versions = iter(range(100))
    monkeypatch.setattr("tests.datasets.faulty_server.Handler._validators", lambda *_: {"ETag": f'"{next(versions)}"'})
    monkeypatch.setattr(transfer, "ATTEMPTS", 100)
    server.mode, server.obeys_conditions = "cut", False
    with pytest.raises(ConnectionError, match="the file has changed on the server .another ETag."):
        ns.datasets.fetch(manifest(server))
    assert len(server.log) == 4, "two starts, each contradicted by one response"


def test_a_file_modified_this_second_is_fetched_from_the_start(server, tmp_path, monkeypatch):
    """The next change within this second would have the same date."""
    server.validators, server.modified = {"modified"}, formatdate(time.time() + 5, usegmt=True)
    cut_once(server, tmp_path, monkeypatch)
    assert fetched(manifest(server), tmp_path) == OLD
    assert "Range" not in server.log[0]


def remote(server, digest=None):
    return RemoteFile("mine", "1", "a.nwb", None, digest, lambda: f"{server.url}/a.nwb")


def read(stream):
    with h5py.File(stream, "r") as file:
        return file["spike_times"][:]


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "shifted"])
def test_a_file_is_streamed_right_or_not_at_all(server, mode):
    """Only a digest of the whole file could detect "shifted"."""
    with open_remote(remote(server), None) as stream:
        server.mode, message = mode, ""
        try:
            got = stream.read(200_000)
        except OSError as error:
            got, message = None, str(error)
    assert got in (None, OLD_SPIKES[:200_000])
    assert bool(message) == (got is None)
    assert "\n" not in message


@pytest.mark.parametrize("validators", [{"etag"}, {"weak"}, {"modified"}, set()], ids=str)
def test_parts_of_a_file_that_was_replaced_are_not_joined_to_those_of_the_new_one(server, tmp_path, validators):
    server.validators = validators
    with open_remote(remote(server), tmp_path) as stream:
        assert stream.read(100_000) == OLD_SPIKES[:100_000]
    server.files["a.nwb"], server.modified = NEW_SPIKES, "Tue, 02 Jan 2024 00:00:00 GMT"
    assert len(NEW_SPIKES) == len(OLD_SPIKES)
    with open_remote(remote(server), tmp_path) as stream:
        assert stream.read(400_000) == NEW_SPIKES[:400_000]


@pytest.mark.parametrize(("validators", "n"), [({"etag"}, 1), ({"modified"}, 1), ({"weak"}, 2), (set(), 2)], ids=str)
def test_parts_are_stored_only_of_files_whose_versions_are_identified(server, tmp_path, validators, n):
    server.validators = validators
    for _ in range(2):
        server.log.clear()
        with open_remote(remote(server), tmp_path) as stream:
            stream.read(10)
    assert len(server.log) == n


def test_a_file_that_is_replaced_while_it_is_read_is_refused_and_then_read_again(server, tmp_path):
    with open_remote(remote(server), tmp_path) as stream:
        stream.read(10)
        server.files["a.nwb"] = NEW_SPIKES
        stream.seek(300_000)
        with pytest.raises(OSError, match="a.nwb .*changed in its archive while it was read .another ETag.; the same"):
            stream.read(10)
    with open_remote(remote(server), tmp_path) as stream:
        assert stream.read(400_000) == NEW_SPIKES[:400_000]


def test_a_pinned_file_that_is_replaced_is_not_joined_to_stored_parts(server, tmp_path):
    """The version is read from the parts on disk, without a first request."""
    pinned = RemoteFile(
        "mine", "1", "a.nwb", len(OLD_SPIKES), Digest("md5", "0", "manifest"), lambda: server.url + "/a.nwb"
    )
    with open_remote(pinned, tmp_path) as stream:
        stream.read(10)
    server.files["a.nwb"] = NEW_SPIKES
    with open_remote(pinned, tmp_path) as stream:
        assert stream.read(10) == OLD_SPIKES[:10]
        stream.seek(300_000)
        with pytest.raises(OSError, match="changed in its archive"):
            stream.read(10)
    with open_remote(pinned, tmp_path) as stream:
        assert stream.read(400_000) == NEW_SPIKES[:400_000]


def parts_in(folder):
    return [path for path in (folder / ".streaming").rglob("*-*") if path.is_file()]


@pytest.mark.parametrize("where", [0, 0.5, 0.999])
def test_a_stored_part_with_a_flipped_bit_is_downloaded_again(server, tmp_path, where):
    with open_remote(remote(server), tmp_path) as stream:
        stream.read(200_000)
    for part in parts_in(tmp_path):
        content = bytearray(part.read_bytes())
        content[int(where * len(content))] ^= 4
        part.write_bytes(content)
    with open_remote(remote(server), tmp_path) as stream:
        assert stream.read(200_000) == OLD_SPIKES[:200_000]


@pytest.mark.parametrize("damage", [b"", b"\n", b"{}\n", b"[]\nx", b'{"version": 3, "sha256": "0"}\nx'])
def test_stored_parts_that_are_damaged_or_swapped_are_downloaded_again(server, tmp_path, damage):
    with open_remote(remote(server), tmp_path) as stream:
        stream.read(200_000)
    first, second, *more = parts_in(tmp_path)
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    for part in more:
        part.write_bytes(damage)
    with open_remote(remote(server), tmp_path) as stream:
        assert stream.read(200_000) == OLD_SPIKES[:200_000]


def test_responses_are_of_one_version_of_a_streamed_file(server, tmp_path):
    for spikes in (OLD_SPIKES, NEW_SPIKES):
        server.files["a.nwb"] = spikes
        with open_remote(remote(server), tmp_path) as stream, h5py.File(io.BytesIO(spikes)) as true:
            np.testing.assert_array_equal(read(stream), true["spike_times"][:])


def test_a_silent_server_is_given_up_after_two_timeouts(server, monkeypatch):
    monkeypatch.setattr("neurosuper.datasets.remote.TIMEOUT", (1, 0.05))
    with open_remote(remote(server), None) as stream:
        server.mode = "silent"
        server.log.clear()
        with pytest.raises(OSError, match="the server sent nothing for 0.05 s"):
            stream.read(10)
    assert len(server.log) == 2


def test_redirects_carry_no_key_to_another_server(server, monkeypatch):
    """Another port is another server; a user name and password in an address are a key, too."""
    with FaultyServer({"rates.npy": OLD}) as other:
        server.mode, server.target = "elsewhere", other.url
        source = {"kind": "http", "url": server.url.replace("//", "//me:secret@")}
        (path,) = ns.datasets.fetch(make_manifest(source, ["rates.npy"]))
        assert path.read_bytes() == OLD
        assert "Authorization" in server.log[0]
        assert all("Authorization" not in request for request in other.log)
        kept = b"".join(p.read_bytes() for p in path.parents[2].rglob("*") if p.is_file())
        assert b"secret" not in kept.replace(OLD, b"")
        server.mode = "busy"
        path.unlink()
        with pytest.raises(ConnectionError) as raised:
            ns.datasets.fetch(make_manifest(source, ["rates.npy"]))
        assert "secret" not in str(raised.value)
