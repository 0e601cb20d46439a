"""Ctrl-C ends a fetch or a stream soon, also while it waits for a silent server."""

import signal
import subprocess
import sys
import time

import pytest

from tests.datasets.dandi_server import DANDISET, VERSION, make_manifest
from tests.datasets.faulty_server import FaultyServer

CONTENT = bytes(range(256)) * 4000
SCRIPTS = {
    "fetch": """
import sys
from neurosuper.datasets.cache import fetch
from neurosuper.datasets.manifest import Manifest
fetch(Manifest.model_validate_json(sys.argv[1]))
""",
    "stream": """
import sys, h5py
from neurosuper.datasets.archives import list_files
from neurosuper.datasets.manifest import Manifest
from neurosuper.datasets.remote import open_remote
(file,) = list_files(Manifest.model_validate_json(sys.argv[1]), {}, ("responses",))
h5py.File(open_remote(file, None), "r")
""",
}


@pytest.fixture
def server():
    with FaultyServer({"a.bin": CONTENT}) as server:
        yield server


def interrupted(script, manifest, server, monkeypatch, tmp_path):
    """Return the errors of a process that is interrupted while it waits for its server; it must end soon."""
    monkeypatch.setenv("NEUROSUPER_CACHE", str(tmp_path / "cache"))
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPTS[script], manifest.model_dump_json()], stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while len(server.log) <= server.after and process.poll() is None:
        assert time.monotonic() < end, "nothing was asked"
        time.sleep(0.02)
    time.sleep(0.3)
    assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=10)  # the servers are silent for longer
    finally:
        process.kill()
    return errors


@pytest.mark.parametrize("mode", ["silent from the start", "silent", "dripping"])
def test_a_fetch_ends(server, mode, monkeypatch, tmp_path):
    server.mode = mode
    manifest = make_manifest({"kind": "http", "url": server.url}, ["a.bin"])
    errors = interrupted("fetch", manifest, server, monkeypatch, tmp_path)
    assert "KeyboardInterrupt: fetching planted was interrupted; the same call continues where it stopped" in errors


@pytest.mark.parametrize("script", ["fetch", "stream"])
def test_listing_an_archive_ends(server, script, monkeypatch, tmp_path):
    server.mode = "silent from the start"
    source = {"kind": "dandi", "dandiset": DANDISET, "version": VERSION, "instance": f"{server.url}/api"}
    errors = interrupted(script, make_manifest(source, ["a.bin"]), server, monkeypatch, tmp_path)
    assert "KeyboardInterrupt" in errors


@pytest.mark.parametrize("mode", ["silent from the start", "silent", "dripping"])
def test_reading_a_stream_ends(server, mode, monkeypatch, tmp_path):
    """HDF5 is reading: the interrupt arrives in its callback."""
    server.mode, server.after = mode, 1
    manifest = make_manifest({"kind": "http", "url": server.url}, ["a.bin"])
    assert "KeyboardInterrupt" in interrupted("stream", manifest, server, monkeypatch, tmp_path)
