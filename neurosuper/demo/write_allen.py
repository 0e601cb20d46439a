"""Write natural scenes in the layout of the Allen Institute: DANDI 000021 (Neuropixels) and 000728 (two-photon)."""

import datetime
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.base import Images
from pynwb.epoch import TimeIntervals
from pynwb.image import GrayscaleImage, IndexSeries
from pynwb.misc import Units
from pynwb.ophys import DfOverF, Fluorescence, ImageSegmentation, OpticalChannel, PlaneSegmentation, RoiResponseSeries

SCENES = "natural_scenes_presentations"
SECONDS = 0.2502  # per scene; scenes follow each other without a pause
EXTENSION = {
    "groups": [
        {
            "neurodata_type_def": "EcephysProbe",
            "neurodata_type_inc": "Device",
            "doc": "A neuropixels probe device",
            "attributes": [
                {"name": "sampling_rate", "dtype": "float64", "doc": "The sampling rate for the device"},
                {"name": "probe_id", "dtype": "text", "doc": "Unique ID of the neuropixels probe"},
            ],
        }
    ]
}
NAMESPACE = {
    "namespaces": [
        {
            "name": "ndx-aibs-ecephys",
            "version": "0.2.0",
            "doc": "Allen Institute Ecephys Extension",
            "author": "Allen Institute for Brain Science",
            "contact": "someone",
            "schema": [{"namespace": "core"}, {"source": "ndx-aibs-ecephys.extension"}],
        }
    ]
}


def scene_onsets(n: int, first: float = 5.0, block: int = 40) -> np.ndarray:
    """Return onsets (s) of n scenes, in blocks separated by a minute."""
    return first + SECONDS * np.arange(n) + 60.0 * (np.arange(n) // block)


def trains(counts: np.ndarray, onsets: np.ndarray, window: tuple[float, float]) -> list[np.ndarray]:
    """Return spike times of units: `counts` (presentation, unit) in the window after each onset, and one just after."""
    start, stop = window

    def train(unit: np.ndarray) -> np.ndarray:
        inside = [onset + np.linspace(start, stop, n + 2)[1:-1] for onset, n in zip(onsets, unit, strict=True)]
        return np.sort(np.concatenate([*inside, onsets + stop]))

    return [train(unit) for unit in counts.T]


def write_allen_ecephys(
    path: Path,
    spikes: Sequence[np.ndarray],
    frames: np.ndarray,
    onsets: np.ndarray,
    areas: Sequence[str],
    *,
    quality: Sequence[str] | None = None,
    invalid: Sequence[tuple[float, float]] = (),
    observed: Sequence[tuple[float, float]] | None = None,
    cache_extension: bool = True,
) -> Path:
    """Write a session of DANDI 000021: `frame` is a float, -1 a blank; units refer to their electrode only by its id.

    `invalid` becomes the table `invalid_times`; `observed`, if given, the `obs_intervals` of every unit.
    """
    nwb = _new("715093703", "Data and metadata for an Ecephys session")
    module = nwb.create_processing_module("stimulus", "Stimulus Times processing")
    module.add(TimeSeries(name="timestamps", data=onsets, timestamps=onsets, unit="s"))
    _add_intervals(nwb, SCENES, onsets, onsets + SECONDS, {"frame": frames.astype(float)}, module["timestamps"])
    flashes = onsets.max() + 10 + np.arange(5.0)
    _add_intervals(nwb, "flashes_presentations", flashes, flashes + 0.25, {"color": ["1.0"] * 5}, module["timestamps"])
    if len(invalid):
        nwb.invalid_times = TimeIntervals(name="invalid_times", description="experimental intervals")
        for start, stop in invalid:
            nwb.invalid_times.add_interval(start_time=start, stop_time=stop, tags=["EcephysProbe", "1", "all_probes"])
    electrodes = _add_electrodes(nwb, areas)
    nwb.units = _units(spikes, electrodes, quality or ["good"] * len(spikes), observed)
    with NWBHDF5IO(path, "w") as file:
        file.write(nwb)
    with h5py.File(path, "r+") as file:
        _add_waveforms(file)
        _as_extension(file, cache_extension)
    return path


def write_allen_ophys(
    path: Path,
    responses: np.ndarray,
    scenes: np.ndarray,
    onsets: np.ndarray,
    *,
    images: np.ndarray,
    window: tuple[float, float] = (-0.016, 0.217),
    rate: float = 30.0,
    blanks_clipped: bool = True,
) -> Path:
    """Write a session of DANDI 000728: dF/F is `responses` (presentation, ROI) within the window of each onset.

    `scenes` are the numbers of the images (image, row, column) that were shown, -1 for a blank. The authors' converter
    cast them to unsigned numbers, and h5py then writes a blank as 0 (`blanks_clipped`).
    """
    nwb = _new("496908818", "Data from a two-photon session")
    template = Images(
        name="natural_scenes_template",
        description="A collection of natural scenes presented to the subject.",
        images=[GrayscaleImage(name=f"NaturalScene{i}", data=image) for i, image in enumerate(images)],
    )
    nwb.add_stimulus_template(template)
    shown = np.clip(scenes, 0, None) if blanks_clipped else np.where(scenes < 0, 2**32 - 1, scenes)
    nwb.add_stimulus(
        IndexSeries(
            name="natural_scenes_stimulus",
            description="The order and timing for presentation of the natural scene templates.",
            data=shown.astype(np.uint32),
            indexed_images=template,
            unit="N/A",
            timestamps=onsets,
        )
    )
    times = 0.1 + np.arange(0, onsets.max() + window[1] + 2, 1 / rate)
    traces = np.zeros((len(times), responses.shape[1]))
    for onset, row in zip(onsets, responses, strict=True):
        traces[(times >= onset + window[0]) & (times < onset + window[1])] = row
    _add_ophys(nwb, traces, times)
    with NWBHDF5IO(path, "w") as file:
        file.write(nwb)
    return path


def _new(session: str, description: str) -> NWBFile:
    start = datetime.datetime(2019, 1, 19, 0, 54, 18, tzinfo=datetime.timezone(datetime.timedelta(hours=-8)))
    return NWBFile(description, session, start, session_id=session, institution="Allen Institute for Brain Science")


def _add_intervals(
    nwb: NWBFile, name: str, starts: np.ndarray, stops: np.ndarray, columns: dict[str, Any], series: TimeSeries
) -> None:
    table = TimeIntervals(name=name, description=f"Presentation times and stimuli details for '{name}' stimuli")
    columns = columns | {
        "stimulus_name": [name.removesuffix("_presentations")] * len(starts),
        "stimulus_block": np.arange(len(starts)) // 40 + 3.0,
        "stimulus_index": np.full(len(starts), 4.0),
    }
    for column in columns:
        table.add_column(column, "No description")
    for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        row = {column: values[i] for column, values in columns.items()}
        table.add_interval(
            start_time=start, stop_time=stop, tags=["stimulus_time_interval"], timeseries=[series], **row
        )
    nwb.add_time_intervals(table)


def _add_electrodes(nwb: NWBFile, areas: Sequence[str]) -> list[int]:
    """Add the channels of two probes; return the ids of the channels that are the peak of a unit."""
    probes = {}
    for name in ("probeA", "probeB"):
        device = nwb.create_device(name=name, description="Neuropixels 1.0 Probe")
        probes[name] = nwb.create_electrode_group(
            name, description="Ecephys Electrode Group", location="See electrode locations", device=device
        )
    columns = ("probe_vertical_position", "probe_horizontal_position", "probe_id", "local_index", "valid_data")
    for column in columns:
        nwb.add_electrode_column(column, column)
    ids = []
    for i, area in enumerate(areas):
        for offset, location in ((0, "TH"), (1, area)):
            ids.append(850261194 + 4 * (len(areas) - i) + offset)
            row = dict(zip(columns, (20 * i, 43, 810755797 + i % 2, i, True), strict=True))
            group = probes["probeA" if i % 2 else "probeB"]
            nwb.add_electrode(
                id=ids[-1], x=0.0, y=0.0, z=0.0, imp=np.nan, location=location, filtering="", group=group, **row
            )
    return ids[1::2]


def _units(
    spikes: Sequence[np.ndarray],
    peaks: Sequence[int],
    quality: Sequence[str],
    observed: Sequence[tuple[float, float]] | None,
) -> Units:
    n = len(spikes)
    units = Units(name="units", description="units")
    numbers = {
        "peak_channel_id": np.asarray(peaks),
        "presence_ratio": np.full(n, 0.99),
        "isi_violations": np.linspace(0, 0.4, n),
        "amplitude_cutoff": np.linspace(0.01, 0.05, n),
        "snr": np.linspace(1, 4, n),
        "cluster_id": np.arange(n),
        "quality": list(quality),
    }
    seen = {} if observed is None else {"obs_intervals": np.asarray(observed, float)}
    for i, train in enumerate(spikes):
        units.add_unit(id=950911000 + 7 * i, spike_times=train, **seen)
    for name, values in numbers.items():
        units.add_column(name, "no description", data=values)
    stops = np.cumsum([len(train) for train in spikes]).tolist()
    amplitudes = np.random.default_rng(0).gamma(9.0, 1e-5, stops[-1])
    units.add_column("spike_amplitudes", "amplitude (s) of detected spiking events", data=amplitudes, index=stops)
    return units


def _add_waveforms(file: h5py.File, channels: int = 6) -> None:
    """Add the ragged column `waveform_mean`, several channels per unit, which pynwb would not write."""
    units, n = file["units"], len(file["units/id"])
    waveforms = units.create_dataset("waveform_mean", data=np.zeros((channels * n, 82)), compression="gzip")
    index = units.create_dataset("waveform_mean_index", data=channels * np.arange(1, n + 1))
    for column, kind in ((waveforms, "VectorData"), (index, "VectorIndex")):
        column.attrs.update({"namespace": "hdmf-common", "neurodata_type": kind, "object_id": str(uuid.uuid4())})
        column.attrs["description"] = "mean waveforms on peak channels (and over samples)"
    index.attrs["target"] = waveforms.ref
    units.attrs["colnames"] = [*units.attrs["colnames"], "waveform_mean"]


def _as_extension(file: h5py.File, cache: bool) -> None:
    """Change the probes to devices of the Institute's own extension, as in the published files."""
    for name, device in file["general/devices"].items():
        device.attrs["namespace"], device.attrs["neurodata_type"] = "ndx-aibs-ecephys", "EcephysProbe"
        device.attrs["probe_id"], device.attrs["sampling_rate"] = f"8107557{name}", 29999.97
    if cache:
        specification = file.create_group("specifications/ndx-aibs-ecephys/0.2.0")
        specification["namespace"] = json.dumps(NAMESPACE)
        specification["ndx-aibs-ecephys.extension"] = json.dumps(EXTENSION)


def _add_ophys(nwb: NWBFile, traces: np.ndarray, times: np.ndarray) -> None:
    """Add the traces as dF/F, three times as large as events, and inverted as fluorescence."""
    plane = nwb.create_imaging_plane(
        name="ImagingPlane",
        optical_channel=OpticalChannel(name="channel", description="channel", emission_lambda=520.0),
        description="plane",
        device=nwb.create_device(name="Microscope"),
        excitation_lambda=910.0,
        indicator="GCaMP6",
        location="VISp",
    )
    cells = PlaneSegmentation(
        name="PlaneSegmentation", description="Segmented regions of interest (ROI).", imaging_plane=plane
    )
    cells.add_column("global_roi_id", "The global ID assigned to each unique ROI across sessions.")
    for i in range(traces.shape[1]):
        cells.add_roi(id=517472300 + 11 * i, pixel_mask=[(i, i, 1.0)], global_roi_id=517472300 + 11 * i)
    module = nwb.create_processing_module("ophys", "Contains processed optical physiology data.")
    module.add(ImageSegmentation(name="ImageSegmentation", plane_segmentations=cells))
    rois = cells.create_roi_table_region(region=list(range(traces.shape[1])), description="all ROIs")

    def series(name: str, data: np.ndarray, clock: object, unit: str) -> RoiResponseSeries:
        return RoiResponseSeries(name=name, data=data, timestamps=clock, unit=unit, rois=rois)

    corrected = series("Corrected", 100 - traces, times, "n.a.")
    neuropil = series("Neuropil", np.zeros_like(traces), corrected, "n.a.")
    dff = series("DfOverF", traces, corrected, "a.u.")
    events = series("DfOverFEvents", 3 * traces, corrected, "a.u.")
    for container, members in (
        (Fluorescence(name="Fluorescence"), [neuropil, corrected]),
        (DfOverF(name="DfOverF"), [dff, events]),
    ):
        module.add(container)
        for member in members:
            container.add_roi_response_series(member)
