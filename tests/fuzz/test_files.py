"""Any damage to a file gives no crash, no hang, no error of many lines, and no different result without a warning."""

import random
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.fuzz.damage import damage_bytes, damage_object, plan, refuse_to_pynwb
from tests.fuzz.formats import FORMATS, NWB_CALLS
from tests.fuzz.sandbox import Sandbox, fault_of

BYTES = 10  # inputs per format
OBJECTS = 35  # inputs per call and reader
GROUPS_READ = {  # groups that a call reads; damage elsewhere need not be tried
    "_spikes": ("units", "intervals", "general/extracellular_ephys"),
    "_trials": ("units", "intervals", "general/extracellular_ephys"),
    "_rois": ("processing/ophys", "intervals", "general/optophysiology"),
    "_shown": ("stimulus", "units"),
    "load_nwb_images": ("stimulus",),
}


def copied(source: Path, folder: Path) -> Path:
    """Return a fresh copy of a file or folder."""
    target = folder / source.name
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        return Path(shutil.copytree(source, target))
    return Path(shutil.copyfile(source, target))


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_bytes_are_read_or_refused_in_one_line(name, sandbox: Sandbox, good_files, tmp_path, share):
    given, damaged, _ = FORMATS[name]
    good = sandbox.run(name, copied(good_files / given, tmp_path))
    assert good["kind"] == "ok", good
    rng, faults = random.Random(name), []
    for attempt in range(BYTES * share):
        copy = copied(good_files / given, tmp_path)
        files = sorted(path for path in copy.rglob(damaged) if path.is_file()) if damaged else [copy]
        target = rng.choice(files)
        target.write_bytes(damage_bytes(target.read_bytes(), rng))
        if fault := fault_of(sandbox.run(name, copy)):
            faults.append(f"input {attempt} ({target.name}): {fault}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("reader", ["pynwb", "h5py"])
@pytest.mark.parametrize("call", [f"{file} {call.__name__}" for file, calls in NWB_CALLS.items() for call in calls])
def test_nwb_files_that_contradict_themselves_change_nothing_silently(
    call, reader, sandbox: Sandbox, good_files, tmp_path, share
):
    name, _, function = call.partition(" ")
    base = copied(good_files / f"{name}.nwb", tmp_path)
    _write_other(base)
    if reader == "h5py":
        refuse_to_pynwb(base)
    good = sandbox.run(call, base)
    assert good["kind"] == "ok", good
    inputs = [own for own in plan(base) if own[0].startswith(GROUPS_READ[function])]
    random.Random(f"{call} {reader}").shuffle(inputs)
    faults, copy = [], tmp_path / "damaged.nwb"
    for path, kind in inputs[: OBJECTS * share]:
        shutil.copyfile(base, copy)
        damage_object(copy, path, kind)
        outcome = sandbox.run(call, copy)
        silent = outcome["kind"] == "ok" and outcome["digest"] != good["digest"] and not _reported(outcome, good)
        if fault := "another result, silently" if silent else fault_of(outcome):
            faults.append(f"{path}: {kind}: {fault}")
    assert not faults, "\n".join(faults)


def _reported(outcome: dict, good: dict) -> bool:
    """Return whether a call warns of the damage or counts it in attrs: differently from the undamaged file."""
    return bool(set(outcome["warnings"]) - set(good["warnings"])) or outcome["counts"] != good["counts"]


def _write_other(base: Path) -> None:
    """Write a file of the same layout and other numbers, to which links may lead."""
    shutil.copyfile(base, base.with_name("other.nwb"))
    with h5py.File(base.with_name("other.nwb"), "r+") as file:
        times = file["units/spike_times"]
        times[...] = np.sort(np.random.default_rng(9).uniform(0, 14, times.shape))
