"""The number of inputs that the suite draws, the files that it damages, and the process that reads them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.formats import write_files
from tests.fuzz.sandbox import Sandbox
from tests.loaders.conftest import mouse, write_nwb

__all__ = ["mouse", "write_nwb"]  # fixtures


@pytest.fixture(scope="session")
def share() -> int:
    """1 in `make test`; 5 in `make fuzz`, which draws five times as many inputs and kills twelve times as often."""
    return int(os.environ.get("NEUROSUPER_FUZZ", "1"))


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox("tests.fuzz.formats") as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def good_files(tmp_path_factory, mouse, write_nwb) -> Path:
    """A folder with a small good file of every format."""
    folder = tmp_path_factory.mktemp("good")
    onsets = [1 + 0.5 * i for i in range(24)]
    spikes = [[0.4 + 0.11 * (u + 1) * i for i in range(110 // (u + 1))] for u in range(5)]
    units = [
        {"id": 10 + u, "spike_times": spikes[u], "electrodes": [u % 4], "quality": ["good", "bad"][u == 3]}
        | {"snr": u + 0.5, "obs_intervals": [[0.0, 9.0], [9.5, 14.0]]}
        for u in range(5)
    ]
    labels = [f"im{i % 8}" for i in range(24)]
    session = write_nwb(labels, onsets, units, invalid=[(3.0, 3.6), (7.0, 7.4)])
    write_files(folder, mouse.path, session)
    return folder
