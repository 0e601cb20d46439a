"""Write session.zip: an NWB-Zarr folder of 4 units and 6 trials, as hdmf-zarr 0.13.0 writes it.

Run by hand, `python write.py`, in an environment with hdmf-zarr, which needs a zarr below 3 and so cannot be installed
with what tests need. Spikes are planted: unit i fires i + k times in the 0.2 s after an onset of image k.
"""

import datetime
import shutil
import tempfile
import zipfile
from pathlib import Path

from pynwb import NWBFile

SHOWN = ["owl", "cat", "eel", "cat", "owl", "eel"]
N_SPIKES = {"cat": 1, "eel": 2, "owl": 3}  # of unit 0


def write_session(path: Path) -> None:
    from hdmf_zarr.nwb import NWBZarrIO  # here, for pytest imports this file

    start = datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)
    nwb = NWBFile("planted spikes", "nwb-zarr", start)
    device = nwb.create_device("probe")
    group = nwb.create_electrode_group("shank", "a shank", "V4", device)
    for _ in range(2):
        nwb.add_electrode(location="V4", group=group)
    nwb.add_trial_column("image", "the image that was shown")
    for trial, image in enumerate(SHOWN):
        nwb.add_trial(start_time=float(trial + 1), stop_time=trial + 1.5, image=image)
    for unit in range(4):
        times = [trial + 1.01 + 0.02 * i for trial, image in enumerate(SHOWN) for i in range(unit + N_SPIKES[image])]
        nwb.add_unit(spike_times=times, electrodes=[unit // 2], electrode_group=group)
    with NWBZarrIO(str(path), mode="w") as file:
        file.write(nwb, cache_spec=False)  # the schema would be most of the folder


if __name__ == "__main__":
    session = Path(tempfile.mkdtemp()) / "session.nwb.zarr"
    write_session(session)
    with zipfile.ZipFile(Path(__file__).with_name("session.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(session.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(session.parent))
    shutil.rmtree(session.parent)
