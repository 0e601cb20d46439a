"""Jobs that are killed at any moment or run out of disk lose no result and leave no half-written file."""

import hashlib
import random
import shutil
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import xarray as xr

from tests.fuzz.jobs import CALLS, read_study_of, write_inputs
from tests.fuzz.sandbox import Sandbox

KILLS = 12  # of each job in `make fuzz`; one in `make test`
BLOBS = {f"d/f{i}.bin": np.random.default_rng(i).bytes(1_000_000 + i) for i in range(3)}
MANIFEST = """
schema_version = 1
id = "remote"
title = "Three files"
species = "none"
modality = "spikes"
areas = ["V4"]
doi = "unverified"
licence = "unverified"
citation = "none"
homepage = "http://localhost"
loader = "load_array"
opens = "d/f0.bin"
source = {{ kind = "http", url = "{url}", version = "1" }}
files = [{files}]
stimulus.label = "x"
response = {{ measure = "rate", units = "x", noise_ceiling = {{ rule = "none" }} }}
images = {{ loader = "none", obtain = "none" }}
"""


class _Slowly(BaseHTTPRequestHandler):
    """Serves the blobs at about 6 MB/s, starting at any byte."""

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        blob, asked = BLOBS[self.path.lstrip("/")], self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(blob) - start))
        self.send_header("ETag", '"one"')
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(blob) - 1}/{len(blob)}")
        self.end_headers()
        for at in range(start, len(blob), 1 << 16):
            self.wfile.write(blob[at : at + (1 << 16)])
            time.sleep(0.01)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Iterator[Path]:
    folder = write_inputs(tmp_path_factory.mktemp("inputs") / "inputs")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slowly)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that was killed
    Thread(target=server.serve_forever, daemon=True).start()
    sums = "".join(
        f'[[checksums]]\npath = "{path}"\nvalue = "{hashlib.sha256(blob).hexdigest()}"\nsize = {len(blob)}\n'
        for path, blob in BLOBS.items()
    )
    files = ", ".join(f'{{ path = "{path}" }}' for path in BLOBS)
    (folder / "remote.toml").write_text(
        MANIFEST.format(url=f"http://127.0.0.1:{server.server_port}", files=files) + sums
    )
    yield folder
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def jobs() -> Iterator[Sandbox]:
    with Sandbox("tests.fuzz.jobs") as jobs:
        yield jobs


@pytest.fixture(scope="module")
def undisturbed(jobs, inputs, tmp_path_factory) -> dict[str, tuple[str, float, set[str]]]:
    """Per job: the digest of its result, how long it takes, and the endings of the files that it leaves."""
    found = {}
    for job in CALLS:
        output, start = tmp_path_factory.mktemp("undisturbed") / "out", time.monotonic()
        outcome = jobs.run(job, inputs, output, seconds=120)
        assert outcome["kind"] == "ok", outcome
        found[job] = outcome["digest"], time.monotonic() - start, _kinds_of(output)
    return found


def _kinds_of(folder: Path) -> set[str]:
    """Return the endings of all files; files left by a killed run have an ending of their own."""
    return {path.suffix for path in folder.rglob("*") if path.is_file()}


def _check_published(job: str, output: Path) -> None:
    """Check that every file with a final name is whole."""
    if job == "study" and (output / "study.nc").exists() and (output / "report.html").exists():
        assert read_study_of(output)[-1] == "True"
    if job == "stored" and (output / "net.zarr").exists():
        assert xr.open_zarr(output / "net.zarr", consolidated=False).response.notnull().all()
    if job == "fetched":
        for path in output.rglob("*.bin"):
            assert path.read_bytes() == BLOBS[f"d/{path.name}"]


@pytest.mark.parametrize("job", CALLS)
def test_killed_jobs_continue_to_the_same_result(job, jobs, inputs, undisturbed, tmp_path, share):
    expected, seconds, endings = undisturbed[job]
    rng, n_killed = random.Random(job), 0
    for attempt in range(1 if share == 1 else KILLS):
        output = tmp_path / f"out{attempt}"
        for _ in range(rng.choice([1, 1, 2])):
            killed = jobs.run(job, inputs, output, killed_after=rng.uniform(0.05, 0.9) * seconds)
            n_killed += killed["kind"] == "killed"
            _check_published(job, output)
        outcome = jobs.run(job, inputs, output, seconds=120)
        assert outcome["kind"] == "ok", outcome
        assert outcome["digest"] == expected
        assert _kinds_of(output) <= endings, "nothing is left of the killed run"
        shutil.rmtree(output)
    assert n_killed or share == 1


@pytest.mark.parametrize("job", CALLS)
def test_jobs_that_cannot_write_raise_one_line_and_leave_nothing_half_written(
    job, jobs, inputs, undisturbed, tmp_path, share
):
    """No file may grow beyond a size, as on a full disk; across sizes, writes of every file fail."""
    expected, _, endings = undisturbed[job]
    sizes = [0, 3000, 100_000] if share == 1 else [0, *np.geomspace(100, 1e6, 40).astype(int)]
    for size in map(int, sizes):
        output = tmp_path / f"out{size}"
        outcome = jobs.run(job, inputs, output, seconds=120, file_size=size)
        assert outcome["kind"] in ("ok", "error"), (size, outcome)
        if outcome["kind"] == "error":
            assert outcome["promised"], (size, outcome)
            assert "\n" not in outcome["text"], (size, outcome)
        else:
            assert outcome["digest"] == expected, (size, outcome)
        _check_published(job, output)
        outcome = jobs.run(job, inputs, output, seconds=120)
        assert (outcome["kind"], outcome.get("digest")) == ("ok", expected), (size, outcome)
        assert _kinds_of(output) <= endings, "nothing is left of the run that failed"
