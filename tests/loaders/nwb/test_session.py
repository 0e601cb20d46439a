"""Sessions are opened from paths and streams; other objects are refused with a clear message."""

import io
import shutil

import h5py
import pytest
from pynwb import NWBHDF5IO

from neurosuper import load_nwb
from neurosuper.loaders import load_presentations
from neurosuper.loaders.external import refuse_cycles
from neurosuper.loaders.nwb import load_nwb_images

LOADERS = [
    lambda source: load_nwb(source, stimulus_column="image", window=(0.0, 0.2)),
    lambda source: load_presentations(source, stimulus_column="image"),
    load_nwb_images,
]


@pytest.fixture(scope="module")
def path(write_nwb):
    return write_nwb("ab", [1.0, 2.0], [{"spike_times": [1.1]}])


@pytest.mark.parametrize("load", LOADERS[:2])
def test_what_was_opened_is_read_from_its_path(path, load):
    with h5py.File(path) as file, NWBHDF5IO(path, "r") as door:
        for thing in (file, door, door.read()):
            assert load(thing).identical(load(path))
    assert load(door).identical(load(path))  # closed


@pytest.mark.parametrize("load", LOADERS)
def test_other_objects_are_refused_by_their_type(path, load):
    text, stream = path.open(errors="ignore"), io.BytesIO(path.read_bytes())
    with text, stream, h5py.File(stream) as streamed, NWBHDF5IO(file=streamed, mode="r") as door:
        things = {
            "of one file, .* got list; pass the path": [path, path],
            "of one file, .* got NoneType; pass": None,
            r"of one file, .* got _io\.TextIOWrapper;": text,
            r"this h5py\.File was opened from a stream; pass the stream, such as remfile": streamed,
            "this NWBHDF5IO was not read from a file of this machine; pass the stream": door,
            "this NWBFile was not read from a file of this machine; .* or write it": door.read(),
        }
        for message, thing in things.items():
            with pytest.raises(TypeError, match=message) as raised:
                load(thing)
            assert "\n" not in str(raised.value)
    with pytest.raises(TypeError, match=r"this h5py\.File is closed; pass the path of the file"):
        load(streamed)


def test_a_file_that_is_being_written_is_not_called_damaged(path, tmp_path):
    shutil.copy(path, tmp_path / "open.nwb")
    is_open = pytest.raises(OSError, match="open.nwb is open for writing; close it first")
    with h5py.File(tmp_path / "open.nwb", "r+") as file, is_open:
        LOADERS[0](file)


def test_a_companion_is_checked_like_a_session(path):
    with pytest.raises(TypeError, match="got int;"):
        load_nwb(path, stimulus_column="image", window=(0.0, 0.2), companion=3)


def test_an_error_of_several_lines_becomes_one(path, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("first\n  second")

    monkeypatch.setattr("neurosuper.loaders.nwb.loading.read_presentations", fail)
    with pytest.raises(ValueError, match=r"session\.nwb cannot be read as NWB: first second; it is damaged"):
        load_presentations(path, stimulus_column="image")


def test_a_stream_is_read_like_its_file(path):
    found = LOADERS[0](io.BytesIO(path.read_bytes()))
    assert found.values.tolist() == LOADERS[0](path).values.tolist()


@pytest.mark.parametrize("group", ["units", "intervals", "intervals/trials", "general/extracellular_ephys"])
def test_a_group_that_contains_itself_is_refused_before_a_reader_follows_it(path, group, tmp_path):
    shutil.copy(path, tmp_path / "circle.nwb")
    with h5py.File(tmp_path / "circle.nwb", "r+") as file:
        outer = file[group].parent
        del file[group]
        file[group] = outer
    with pytest.raises(ValueError, match=f"circle.nwb has the link '/{group}' to a group that contains it"):
        LOADERS[0](tmp_path / "circle.nwb")


def test_two_links_to_one_group_are_not_a_cycle(path, tmp_path):
    shutil.copy(path, tmp_path / "twice.nwb")
    with h5py.File(tmp_path / "twice.nwb", "r+") as file:
        file["scratch/again"] = file["units"]
    assert LOADERS[0](tmp_path / "twice.nwb").values.tolist() == LOADERS[0](path).values.tolist()
    with h5py.File(tmp_path / "twice.nwb", "r+") as file:
        file["scratch/again/back"] = file["scratch"]
        with pytest.raises(ValueError, match="twice.nwb has the link '/scratch/again/back' to a group that contains"):
            refuse_cycles(file, "twice.nwb")


TARGETS = {"soft": h5py.SoftLink("/gone/away"), "external": h5py.ExternalLink("gone.h5", "/x")}
BROKEN = {  # link: what its error says
    "units": "'units' is a broken link to '/",
    "units/spike_times": "'units/spike_times' is a broken link to '/",
    "units/spike_times_index": "'units/spike_times_index' is a broken link to '/",
    "intervals/trials": "'intervals/trials' is a broken link to '/",
    "intervals/trials/image": "column 'image' of table 'trials' is a broken link",
    "intervals/trials/start_time": "column 'start_time' of table 'trials' is a broken link",
}


@pytest.mark.filterwarnings("ignore:columns of table")
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("link", BROKEN)
def test_a_broken_link_is_named_as_what_it_is(path, link, target, tmp_path):
    shutil.copy(path, tmp_path / "broken.nwb")
    with h5py.File(tmp_path / "broken.nwb", "r+") as file:
        del file[link]
        file[link] = TARGETS[target]
    with pytest.raises(ValueError, match=BROKEN[link]) as raised:
        load_nwb(tmp_path / "broken.nwb", stimulus_column="image", window=(0.0, 0.2), allow_external=True)
    assert not any(word in str(raised.value) for word in ("companion", "damaged", "fetch", "\n"))
