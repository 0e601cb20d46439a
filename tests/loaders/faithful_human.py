"""Single neurons of the human medial temporal lobe, in the layouts of DANDI 000004 and 000469."""

import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.base import ImageReferences, Images
from pynwb.image import IndexSeries, OpticalSeries, RGBImage

START = datetime.datetime(2018, 9, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=-7)))


def write_recognition(
    path: Path,
    spikes: Sequence[np.ndarray],
    *,
    files: Sequence[str],
    phases: Sequence[str],
    frames: np.ndarray,
    onsets: np.ndarray,
    areas: Sequence[str],
) -> Path:
    """Write a session of DANDI 000004: the table of trials names the file of each image, a series has one frame each.

    As in the authors' converter, `start_time` is the onset of the image, and the label of new and old images is text.
    """
    nwb = NWBFile("New/Old recognition task for ID: 98.", "TWH098", START)
    columns = ("stim_on_time", "stim_off_time", "delay1_time", "delay2_time", "stim_phase", "stimCategory")
    for column in (*columns, "category_name", "external_image_file", "new_old_labels_recog", "response_value"):
        nwb.add_trial_column(column, column)
    for onset, phase, file in zip(onsets, phases, files, strict=True):
        times = dict(zip(columns, onset + np.array([0.0, 1.0, 1.5, 2.5]), strict=False))
        nwb.add_trial(
            start_time=onset,
            stop_time=onset + 2.5,
            **times,
            stim_phase=phase,
            stimCategory=np.uint8(1),
            category_name="animals",
            external_image_file=file,
            new_old_labels_recog="NA" if phase == "learn" else "0",
            response_value=33.0,
        )
    settings = {"orientation": "lower left", "unit": "meters", "field_of_view": [0.2, 0.3, 0.7], "distance": 0.7}
    nwb.add_stimulus(
        OpticalSeries(
            name="StimulusPresentation",
            data=frames,
            timestamps=onsets,
            format="raw",
            dimension=[300, 400, 3],
            **settings,
        )
    )
    for column in ("origClusterID", "IsolationDist", "SNR"):
        nwb.add_unit_column(column, column)
    _add_units(nwb, spikes, areas, origClusterID=7, IsolationDist=20.0, SNR=2.5)
    return _write(nwb, path)


def write_working_memory(
    path: Path,
    spikes: Sequence[np.ndarray],
    *,
    images: dict[str, np.ndarray],
    shown: np.ndarray,
    onsets: np.ndarray,
    areas: Sequence[str],
    per_trial: int,
) -> Path:
    """Write a session of DANDI 000469: images (column, row, channel) by name, and the index of each that was shown.

    Session 1 has one presentation per trial, session 2 four, of which those without an image show a placeholder.
    """
    nwb = NWBFile("SBID: 1", "SBID_1_P42CS", START)
    stored = [RGBImage(name=name, data=pixels) for name, pixels in images.items()]
    order = ImageReferences(name="order_of_images", data=stored)
    template = Images(name="StimulusTemplates", images=stored, order_of_images=order, description="shown")
    nwb.add_stimulus_template(template)
    nwb.add_stimulus(
        IndexSeries(
            name="StimulusPresentation",
            data=shown.astype(np.uint32),
            indexed_images=template,
            unit="N/A",
            timestamps=onsets,
            description="Presentation order of the stimulus. Indexes 'StimulusTemplates'.",
        )
    )
    nwb.add_acquisition(TimeSeries(name="events", data=np.arange(9), timestamps=np.arange(9.0), unit="NA"))
    by_trial = onsets.reshape(-1, per_trial)
    if per_trial == 4:
        columns = [f"timestamps_{name}" for name in ("Encoding1", "Encoding2", "Encoding3", "Probe")]
        for column in (*columns, "loadsEnc1_PicIDs", "probe_in_out"):
            nwb.add_trial_column(column, column)
    for i, times in enumerate(by_trial):
        row = {}
        if per_trial == 4:
            picture = int(list(images)[shown[4 * i]].removeprefix("image_"))
            row = dict(zip(columns, times, strict=True)) | {"loadsEnc1_PicIDs": picture, "probe_in_out": np.uint8(1)}
        nwb.add_trial(start_time=times[0] - 1.0, stop_time=times[-1] + 1.5, **row)
    nwb.add_unit_column("clusterID_orig", "number of the cluster")
    _add_units(nwb, spikes, areas, clusterID_orig=3)
    return _write(nwb, path)


def _add_units(nwb: NWBFile, spikes: Sequence[np.ndarray], areas: Sequence[str], **columns: float) -> None:
    """Add units that refer to one electrode each, by region."""
    device = nwb.create_device("Neuralynx-cheetah")
    nwb.add_electrode_column("origChannel", "channel")
    for i, (train, area) in enumerate(zip(spikes, areas, strict=True)):
        group = nwb.create_electrode_group(f"microwires-{i}", description="wires", location=area, device=device)
        nwb.add_electrode(x=1.0, y=2.0, z=3.0, imp=np.nan, location=area, filtering="", group=group, origChannel=i)
        nwb.add_unit(id=i, spike_times=train, electrodes=[i], **columns)


def _write(nwb: NWBFile, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(path, "w") as file:
        file.write(nwb)
    return path
