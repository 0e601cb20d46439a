"""NWB files with planted spikes."""

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pynwb import NWBHDF5IO, NWBFile
from pynwb.epoch import TimeIntervals


def _add_presentations(nwb: NWBFile, table: str, labels: Sequence[object], onsets: Sequence[float]) -> None:
    intervals = TimeIntervals(name=table, description="presentations")
    intervals.add_column("image", "what was shown")
    for label, onset in zip(labels, onsets, strict=True):
        intervals.add_row(start_time=onset, stop_time=onset + 0.25, image=label)
    if table == "trials":
        nwb.trials = intervals
    else:
        nwb.add_time_intervals(intervals)


def _add_units(nwb: NWBFile, units: Sequence[dict]) -> None:
    device = nwb.create_device("probe")
    for i, area in enumerate(("V1", "V1", "V4", "V4")):
        if i % 2 == 0:
            group = nwb.create_electrode_group(area, description="shank", location=area, device=device)
        nwb.add_electrode(group=group, location=area)
    predefined = {"id", "spike_times", "electrodes", "waveform_mean"}
    for column in {name: None for unit in units for name in unit if name not in predefined}:
        nwb.add_unit_column(column, column)
    for unit in units:
        nwb.add_unit(**unit)


@pytest.fixture(scope="session")
def write_nwb(tmp_path_factory) -> Callable[..., Path]:
    """Write a session: presentations with a column `image`, electrodes in V1, V1, V4 and V4, and units."""

    def write(labels: Sequence[object], onsets: Sequence[float], units: Sequence[dict], table: str = "trials") -> Path:
        nwb = NWBFile("planted", "session 7", datetime.datetime(2024, 5, 6, 7, 8, tzinfo=datetime.UTC))
        _add_presentations(nwb, table, labels, onsets)
        _add_units(nwb, units)
        path = tmp_path_factory.mktemp("nwb") / "session.nwb"
        with NWBHDF5IO(path, "w") as file:
            file.write(nwb)
        return path

    return write
