"""Macaque free viewing in the layout of DANDI 000628: presentations in one file, rasters of spikes in another."""

import datetime
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from hdmf.common import DynamicTable
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.base import Images
from pynwb.epoch import TimeIntervals
from pynwb.image import GrayscaleImage, IndexSeries, OpticalSeries

BINS_A_SECOND = 1000
START = datetime.datetime(2021, 1, 20, 16, 34, 51, tzinfo=datetime.timezone(datetime.timedelta(hours=-5)))


def rasters_of(counts: np.ndarray, onsets: np.ndarray, window: tuple[float, float], n_bins: int) -> np.ndarray:
    """Return spikes (time, unit) in bins of 1 ms, with `counts` (presentation, unit) in the window of each onset."""
    rasters = np.zeros((n_bins, counts.shape[1]), np.uint8)
    start, stop = (round(BINS_A_SECOND * edge) for edge in window)
    for onset, row in zip(onsets, counts, strict=True):
        first = round(BINS_A_SECOND * onset)
        rasters[[first + start - 1, first + stop]] = 1
        for unit, count in enumerate(row):
            rasters[first + start : first + start + count, unit] = 1
    return rasters


def write_free_viewing(
    main: Path,
    companion: Path,
    *,
    rasters: np.ndarray,
    unit_names: Sequence[str],
    images: np.ndarray,
    onsets: np.ndarray,
    files: Sequence[str],
) -> tuple[Path, Path]:
    """Write which of the files (paths of images) was shown at each onset (s), and rasters (time, unit).

    The table of presentations names no image: its rows are those of an IndexSeries, which is linked to the files by
    `indexed_timeseries`, as was done before NWB 2.5. There are no units and no electrodes.
    """
    _write(main, _main(images, onsets, files))
    with h5py.File(main, "r+") as file:
        for name in ("templates/unused", "templates/stimuli/num_samples", "presentation/presentations/indexed_images"):
            del file[f"stimulus/{name}"]
        file["stimulus/presentation/presentations/indexed_timeseries"] = h5py.SoftLink("/stimulus/templates/stimuli")
    write_rasters(companion, rasters, unit_names)
    return main, companion


def write_rasters(path: Path, rasters: np.ndarray, unit_names: Sequence[str], start: datetime.datetime = START) -> Path:
    """Write the file of rasters (time, unit) that goes with a session, which started at `start`."""
    nwb = _new("rasters", start)
    module = nwb.create_processing_module("ecephys", "spikes")
    module.add(TimeSeries(name="rasters", data=rasters, unit="spikes", starting_time=0.0, rate=float(BINS_A_SECOND)))
    names = DynamicTable(name="unit_names", description="names of the units")
    names.add_column("unit_name", "name")
    for name in unit_names:
        names.add_row(unit_name=name)
    module.add(names)
    _write(path, nwb)
    return path


def _write(path: Path, nwb: NWBFile) -> None:
    with NWBHDF5IO(path, "w") as file:
        file.write(nwb)


def _new(part: str, start: datetime.datetime = START) -> NWBFile:
    return NWBFile("Pa-210120-163451", f"Pa-210120-163451-{part}", start, keywords=["macaque", "free viewing"])


def _main(images: np.ndarray, onsets: np.ndarray, files: Sequence[str]) -> NWBFile:
    nwb = _new("main")
    nwb.stimulus_notes = "[635, 635] pixels at [39.71, 39.71] pix per degree"
    unused = Images(
        name="unused", description="needed by pynwb", images=[GrayscaleImage(name="x", data=np.ones((2, 2)))]
    )
    nwb.add_stimulus_template(unused)
    nwb.add_stimulus_template(
        OpticalSeries(
            name="stimuli",
            description="unique stimuli that were presented",
            distance=57.0,
            field_of_view=[16.0, 16.0],
            orientation="upright",
            dimension=[635, 635],
            external_file=list(files),
            starting_frame=list(range(len(files))),
            format="external",
            rate=1.0,
            num_samples=len(files),
        )
    )
    nwb.add_stimulus(
        IndexSeries(
            name="presentations",
            description="presentation times of unique stimuli",
            data=images.astype(np.uint64),
            indexed_images=unused,
            timestamps=onsets,
            unit="N/A",
        )
    )
    _add_presentations(nwb, onsets)
    fixations = TimeIntervals(name="fixations", description="detected fixations")
    fixations.add_column("x", "fixation x position in dva from screen center")
    fixations.add_interval(start_time=onsets[0], stop_time=onsets[0] + 0.2, x=1.5)
    nwb.create_processing_module("behavior", "fixations and saccades detected with ClusterFix").add(fixations)
    return nwb


def _add_presentations(nwb: NWBFile, onsets: np.ndarray) -> None:
    table = TimeIntervals(name="presentations", description="stimulus presentation periods")
    for column in ("trial_id", "order_in_trial", "position", "latency"):
        table.add_column(column, column)
    for i, onset in enumerate(onsets):
        latency = [14.5, np.nan if i % 3 else 20.8]  # ms
        row = {"trial_id": np.uint32(i + 1), "order_in_trial": np.uint16(0), "position": [0.0, 0.0], "latency": latency}
        table.add_interval(start_time=onset, stop_time=onset + 1.5, **row)
    nwb.add_time_intervals(table)
    nwb.add_trial_column("error_code", "MonkeyLogic error code")
    for i, onset in enumerate(onsets):
        nwb.add_trial(start_time=onset - 0.3, stop_time=onset + 1.8, error_code=float(i % 2))
