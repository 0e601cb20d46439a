"""NWB files with planted responses."""

import datetime
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.base import ImageReferences, Images
from pynwb.epoch import TimeIntervals
from pynwb.image import GrayscaleImage, IndexSeries
from pynwb.ophys import DfOverF, ImageSegmentation, OpticalChannel, RoiResponseSeries

START = datetime.datetime(2024, 5, 6, 7, 8, tzinfo=datetime.UTC)


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
    predefined = {"id", "spike_times", "electrodes", "waveform_mean", "obs_intervals"}
    for column in {name: None for unit in units for name in unit if name not in predefined}:
        nwb.add_unit_column(column, column)
    for unit in units:
        nwb.add_unit(**unit)


def _write(nwb: NWBFile, path: Path) -> Path:
    with NWBHDF5IO(path, "w") as file:
        file.write(nwb)
    return path


@pytest.fixture(scope="session")
def write_nwb(tmp_path_factory) -> Callable[..., Path]:
    """Write a session: presentations with a column `image`, electrodes in V1, V1, V4 and V4, and units."""

    def write(
        labels: Sequence[object],
        onsets: Sequence[float],
        units: Sequence[dict],
        table: str = "trials",
        invalid: Sequence[tuple[float, float]] = (),
    ) -> Path:
        nwb = NWBFile("planted", "session 7", START)
        _add_presentations(nwb, table, labels, onsets)
        _add_units(nwb, units)
        for start, stop in invalid:
            nwb.add_invalid_time_interval(start_time=start, stop_time=stop)
        return _write(nwb, tmp_path_factory.mktemp("nwb") / "session.nwb")

    return write


@dataclass(frozen=True, repr=False)
class Mouse:
    """A small session as dandisets 000021 and 000728 lay it out: scenes as numbers and by an IndexSeries, probe, ROIs.

    Windows are 0.25 s; counts (presentation, unit) and dff (presentation, ROI) is what was planted in them.
    """

    path: Path
    onsets: np.ndarray
    indices: np.ndarray  # of the image shown; −1: a blank
    counts: np.ndarray
    dff: np.ndarray
    window: tuple[float, float] = (0.0, 0.25)
    table: str = "natural_scenes_presentations"

    def damaged(self, damage: Callable[[h5py.File], None]) -> "Mouse":
        """Return a copy of the file that was tampered with."""
        path = self.path.with_name(f"damaged{len(list(self.path.parent.iterdir()))}.nwb")
        shutil.copy(self.path, path)
        with h5py.File(path, "r+") as file:
            damage(file)
        return replace(self, path=path)


N_IMAGES, N_SHOWN = 12, 60
RATE = 32.0  # frames per second: eight in a window, at times that are exact


def _planted_train(onsets: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.concatenate([onset + (np.arange(count) + 0.5) / 64 for onset, count in zip(onsets, counts, strict=True)])


def _add_probe(nwb: NWBFile, onsets: np.ndarray, counts: np.ndarray) -> None:
    """Units refer to electrodes by the id of their peak channel only."""
    group = nwb.create_electrode_group("A", description="probe", location="", device=nwb.create_device("probe"))
    for electrode, area in zip((850, 851, 900), ("VISp", "VISl", "VISp"), strict=True):
        nwb.add_electrode(id=electrode, group=group, location=area)
    nwb.add_unit_column("peak_channel_id", "electrode")
    nwb.add_unit_column("quality", "good or noise")
    for unit, (column, channel) in enumerate(zip(counts.T, (900, 851, 850, 851), strict=True)):
        nwb.add_unit(
            id=950 + unit,
            spike_times=_planted_train(onsets, column),
            peak_channel_id=channel,
            quality="noise" if unit == 2 else "good",
        )


def _add_scenes(nwb: NWBFile, onsets: np.ndarray, indices: np.ndarray, table: str) -> None:
    intervals = TimeIntervals(name=table, description="natural scenes")
    intervals.add_column("frame", "number of the scene")
    for onset, index in zip(onsets, indices, strict=True):
        intervals.add_row(start_time=onset, stop_time=onset + 0.25, frame=float(index))
    nwb.add_time_intervals(intervals)
    images = [GrayscaleImage(name=f"scene{i}", data=np.full((5, 7), i, np.uint8)) for i in range(N_IMAGES)]
    order = ImageReferences(name="order_of_images", data=images)
    scenes = Images(name="scenes", images=images, order_of_images=order, description="natural scenes")
    nwb.add_stimulus_template(scenes)
    wrapped = indices.astype(np.uint32)
    nwb.add_stimulus(IndexSeries(name="shown", data=wrapped, unit="N/A", indexed_images=scenes, timestamps=onsets))


def _add_rois(nwb: NWBFile, onsets: np.ndarray, dff: np.ndarray) -> None:
    """The series has two of three ROIs, in another order than their table."""
    channel = OpticalChannel(name="green", description="green", emission_lambda=500.0)
    plane = nwb.create_imaging_plane(
        name="plane",
        optical_channel=channel,
        description="plane",
        device=nwb.create_device("microscope"),
        excitation_lambda=900.0,
        indicator="GCaMP",
        location="VISp",
    )
    ophys, segmentation = nwb.create_processing_module("ophys", "imaging"), ImageSegmentation()
    ophys.add(segmentation)
    rois = segmentation.create_plane_segmentation(name="rois", description="cells", imaging_plane=plane)
    rois.add_column("layer", "layer")
    for roi, layer in ((517, "L2"), (23, "L4"), (301, "L5")):
        rois.add_roi(id=roi, pixel_mask=[(0, 0, 1.0)], layer=layer)
    frames = np.full((int(RATE * (onsets.max() + 2)), 2), 99.0, np.float32)
    for onset, value in zip(onsets, dff, strict=True):
        frames[int(onset * RATE) : int((onset + 0.25) * RATE)] = value
    region = rois.create_roi_table_region(region=[2, 0], description="all but one")
    ophys.add(DfOverF(name="DfOverF"))
    series = RoiResponseSeries(name="DfOverF", data=frames, unit="a.u.", rois=region, rate=RATE, starting_time=0.0)
    ophys["DfOverF"].add_roi_response_series(series)


@pytest.fixture(scope="session")
def mouse(tmp_path_factory) -> Mouse:
    """A session with spikes and dF/F that depend on the image alone."""
    rng = np.random.default_rng(3)
    indices = np.concatenate([rng.permutation(np.tile(np.arange(N_IMAGES), 4)), np.full(12, -1)])
    onsets = rng.permutation(N_SHOWN) * 0.75 + 1.0
    by_image = rng.poisson(4, (N_IMAGES + 1, 4)), rng.normal(size=(N_IMAGES + 1, 2)).round(3)
    path = tmp_path_factory.mktemp("mouse") / "mouse.nwb"
    planted = Mouse(path, np.sort(onsets), indices[np.argsort(onsets)], np.empty(0), np.empty(0))
    planted = replace(planted, counts=by_image[0][planted.indices], dff=by_image[1][planted.indices])
    nwb = NWBFile("planted", "mouse 1", START)
    _add_probe(nwb, planted.onsets, planted.counts)
    _add_scenes(nwb, planted.onsets, planted.indices, planted.table)
    _add_rois(nwb, planted.onsets, planted.dff)
    speed = TimeSeries(name="running_speed", data=np.arange(9.0), unit="cm/s", timestamps=np.arange(9.0))
    nwb.create_processing_module("running", "running").add(speed)
    _write(nwb, path)
    return planted
