"""Streaming downloads little more of a remote file than is read, and only once; every refusal is one line."""

import io
import os
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurosuper.datasets.archives import RemoteFile, list_files
from neurosuper.datasets.remote import open_remote
from tests.datasets.dandi_server import Archive, Fault


@pytest.fixture(scope="module")
def spikes():
    """Spike times of 100 units in flat order, as in NWB files, and as many bytes that are not read."""
    rng = np.random.default_rng(0)
    counts = rng.integers(3000, 9000, 100)
    return {
        "spike_times": np.concatenate([np.sort(rng.uniform(0, 1000, n)) for n in counts]),
        "spike_times_index": np.cumsum(counts),
        "waveform_mean": rng.standard_normal((counts.sum() // 120, 120)).astype(np.float32),
        "spike_amplitudes": rng.standard_normal(counts.sum()).astype(np.float32),
    }


@pytest.fixture(scope="module")
def content(spikes):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, values in spikes.items():
            file.create_dataset(f"units/{name}", data=values, chunks=(min(len(values), 1 << 13), *values.shape[1:]))
    return buffer.getvalue()


@pytest.fixture
def archive(content, monkeypatch):
    monkeypatch.delenv("NEUROSUPER_DANDI_API_KEY", raising=False)
    monkeypatch.setattr("remfile.RemFile.time", SimpleNamespace(sleep=lambda _: None))
    with Archive({"a.nwb": content}) as archive:
        yield archive


@pytest.fixture
def remote(archive):
    (file,) = list_files(archive.manifest("a.nwb"), {}, ("responses",))
    return file


def spikes_of(stream, first, last):
    """Read the spike times of units first … last, as a loader would."""
    with h5py.File(stream, "r") as file:
        ends = file["units/spike_times_index"][:]
        return file["units/spike_times"][ends[first - 1] : ends[last]]


@pytest.mark.parametrize(("first", "last"), [(50, 54), (30, 69), (1, 99)])
def test_little_more_than_needed_is_downloaded_and_only_once(archive, remote, spikes, first, last, tmp_path):
    ends = spikes["spike_times_index"]
    wanted = spikes["spike_times"][ends[first - 1] : ends[last]]
    needed = wanted.nbytes + ends.nbytes
    with open_remote(remote, tmp_path) as stream:
        np.testing.assert_array_equal(spikes_of(stream, first, last), wanted)
    assert needed <= archive.blobs.sent < 2 * needed
    archive.forget()
    with open_remote(remote, tmp_path) as stream:
        np.testing.assert_array_equal(spikes_of(stream, first, last), wanted)
    assert archive.blobs.requests == []


def test_without_a_cache_nothing_is_stored(archive, remote, spikes):
    for _ in range(2):
        archive.forget()
        with open_remote(remote, None) as stream:
            assert spikes_of(stream, 1, 1).size == np.diff(spikes["spike_times_index"])[0]
        assert archive.blobs.sent > 0


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1 << 24), st.integers(0, 1 << 20)), max_size=4))
def test_any_range_has_the_bytes_of_the_file(remote, content, tmp_path, spans):
    with open_remote(remote, tmp_path) as stream:
        for start, n in spans:
            assert stream.seek(start) == stream.tell() == start
            assert stream.read(n) == content[start : start + n]


def test_a_stream_is_a_binary_file(remote, content):
    with open_remote(remote, None) as stream:
        assert stream.seek(-10, io.SEEK_END) == len(content) - 10
        assert stream.read() == content[-10:]
        assert stream.read(5) == b""
        stream.seek(4)
        stream.seek(2, io.SEEK_CUR)
        assert stream.read(3) == content[6:9]
        assert stream.readable()
        assert stream.seekable()
        assert not stream.writable()
    with pytest.raises(ValueError, match="closed"):
        stream.read(1)


def test_the_first_byte_of_a_file_of_unknown_size_is_requested(archive, content, tmp_path):
    (file,) = list_files(archive.http_manifest("a.nwb"), {}, ("responses",))
    with open_remote(file, tmp_path) as stream:
        assert archive.blobs.sent == 1
        assert stream.read(100) == content[:100]


def test_a_signature_that_expires_is_renewed(archive, remote, content):
    archive.lifetime = 1
    with open_remote(remote, None) as stream:
        for start in (0, 5_000_000, 2_000_000):
            stream.seek(start)
            assert stream.read(10) == content[start : start + 10]
    assert len({request.query["signature"] for request in archive.blobs.requests}) == 3


def test_streamed_parts_are_reused_under_another_signature(archive, remote, tmp_path):
    for _ in range(2):
        with open_remote(remote, tmp_path) as stream:
            stream.read(10)
    assert len(archive.blobs.requests) == 1
    other = replace(remote, digest=remote.digest._replace(value="0"))
    with open_remote(other, tmp_path) as stream:
        stream.read(10)
    assert len(archive.blobs.requests) == 2


@pytest.mark.parametrize("faults", [[Fault(503)] * 3, [Fault(cut=10)], [Fault(429), Fault(500)]])
def test_temporary_failures_are_overcome(archive, remote, content, faults):
    archive.blobs.faults.extend(faults)
    with open_remote(remote, None) as stream:
        assert stream.read(100) == content[:100]


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ([Fault(403)] * 2, "403 Forbidden"),
        ([Fault(404)], "404 Not Found"),
        ([Fault(page=True)], "416 the server cannot send parts of files; use stream=False"),
        ([Fault(503)] * 20, "503 Service Unavailable"),
    ],
)
def test_refusals_while_reading_are_one_line(archive, remote, faults, message):
    archive.blobs.faults.extend(faults)
    with (
        open_remote(remote, None) as stream,
        pytest.raises(OSError, match=f"a.nwb cannot be read .*{message}") as raised,
    ):
        h5py.File(stream, "r")
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_server_without_ranges_is_refused_at_once(archive, remote, content):
    archive.ranges = False
    archive.blobs.pace = 10_000_000
    with (
        open_remote(remote, None) as stream,
        pytest.raises(OSError, match="cannot send parts of files; use stream=False"),
    ):
        stream.read(10)
    assert archive.blobs.sent < len(content) / 2
    (file,) = list_files(archive.http_manifest("a.nwb"), {}, ("responses",))
    with pytest.raises(OSError, match="cannot send parts of files; use stream=False"):
        open_remote(file, None)


def test_a_file_of_another_size_than_listed_is_refused(remote):
    with (
        open_remote(replace(remote, size=remote.size - 1), None) as stream,
        pytest.raises(OSError, match="bytes, expected .*; correct the manifest"),
    ):
        stream.read(10)


def test_denied_access_is_an_error_at_opening(archive, remote, tmp_path):
    archive.key = "my-key"
    with pytest.raises(PermissionError, match="set NEUROSUPER_DANDI_API_KEY"):
        open_remote(remote, tmp_path)


def test_a_part_truncated_by_a_killed_process_is_not_used(archive, remote, content, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with open_remote(remote, tmp_path) as stream, monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            stream.read(10)
    with open_remote(remote, tmp_path) as stream:
        assert stream.read(200_000) == content[:200_000]


def test_a_local_file_is_opened_as_it_is(tmp_path):
    path = tmp_path / "day 1 #2.nwb"
    path.write_bytes(b"abc")
    with open_remote(RemoteFile("mine", "1", path.name, 3, None, path.as_uri), None) as stream:
        assert stream.read() == b"abc"
