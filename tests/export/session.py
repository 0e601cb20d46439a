"""A small recording in an NWB file, to which results are added."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pynwb import NWBHDF5IO, NWBFile
from pynwb.file import Subject

UNITS = [3, 7, 1, 12, 5, 6, 20, 9]  # ids, in the order of the Units table


def make_nwb() -> NWBFile:
    """Return a session with all that the inspector asks for."""
    subject = Subject(subject_id="mouse-1", species="Mus musculus", sex="F", age="P90D")
    about = {"experiment_description": "simulated", "experimenter": ["Doe, Jane"], "institution": "nowhere"}
    about |= {"keywords": ["simulation"]}
    start = datetime(2023, 10, 17, tzinfo=UTC)
    return NWBFile("a simulated recording of V1 and V4", "session-1", start, subject=subject, **about)


def write_session(path: Path, rng: np.random.Generator) -> None:
    """Write a recording of eight units, with trials."""
    nwb = make_nwb()
    nwb.add_trial_column("image", "image that was shown")
    for i in range(10):
        nwb.add_trial(start_time=i + 1.0, stop_time=i + 1.5, image=f"s{i % 5:04d}")
    nwb.add_unit_column("cluster", "name of the cluster")
    for name in UNITS:
        nwb.add_unit(spike_times=np.sort(rng.uniform(0, 12, 50)), id=name, cluster=f"c{name}")
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)
