"""The proposed call of an inspected file loads it as it is: published layouts, and layouts of single laboratories."""

import datetime
import warnings

import numpy as np
from pynwb import NWBHDF5IO, NWBFile
from pynwb.base import ImageReferences, Images
from pynwb.epoch import TimeIntervals
from pynwb.image import GrayscaleImage, ImageSeries, IndexSeries
from pynwb.misc import Units

from neurosuper import average_repetitions, inspect_nwb
from neurosuper.loaders import load_nwb_images
from tests.loaders import test_allen, test_free_viewing, test_human, test_v4_probes

START = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
N = 24
ONSETS = 1.0 + np.arange(N)
SHOWN = np.random.default_rng(0).permutation(np.repeat(np.arange(6), 4))


def run(contents):
    """Return what the proposed call returns, run as it is."""
    names = {}
    exec(contents.proposed_call, names)
    return names["responses"]


def train(image):
    """Return spikes after the presentations of one image only, and a few at other times."""
    return np.sort(np.concatenate([ONSETS[image == SHOWN] + 0.1, ONSETS[image == SHOWN] + 0.2, ONSETS + 0.9]))


def prefers_its_image(responses, names):
    """Whether unit i responds most to image i, for all units."""
    found = average_repetitions(responses).sel(stimulus=names)
    return found.argmax("stimulus").values.tolist() == list(range(found.sizes["unit"]))


def save(nwb, path):
    with NWBHDF5IO(path, "w") as file:
        file.write(nwb)
    return path


def session(labels, table="trials", **columns):
    nwb = NWBFile("a laboratory", "session", START)
    intervals = TimeIntervals(name=table, description="shown")
    columns = {"image": labels} | columns
    for name in columns:
        intervals.add_column(name, name)
    for i, onset in enumerate(ONSETS):
        intervals.add_row(start_time=onset, stop_time=onset + 0.4, **{name: each[i] for name, each in columns.items()})
    nwb.add_time_intervals(intervals)
    return nwb


def test_units_of_two_probes_whose_ids_restart(tmp_path):
    nwb = session([f"im{i}.png" for i in SHOWN], correct=[True] * N)
    nwb.add_unit_column("probe", "probe")
    for i in range(6):
        nwb.add_unit(id=i % 3, spike_times=train(i), probe="AB"[i // 3])
    responses = run(inspect_nwb(save(nwb, tmp_path / "a.nwb")))
    assert responses.unit.values.tolist() == ["A/0", "A/1", "A/2", "B/0", "B/1", "B/2"]
    assert prefers_its_image(responses, [f"im{i}.png" for i in range(6)])


def test_two_tables_of_units_in_a_module_and_a_photodiode(tmp_path):
    nwb = session([f"  im{i}  " for i in SHOWN], table="flashes", stimulus_on=ONSETS + 0.05)
    module = nwb.create_processing_module("ecephys", "sorted")
    for name in ("curated", "raw"):
        units = Units(name=name, description=name)
        for i in range(6):
            units.add_unit(spike_times=train(i))
        module.add(units)
    contents = inspect_nwb(save(nwb, tmp_path / "a.nwb"))
    assert contents.arguments["onset_column"] == "stimulus_on"
    assert prefers_its_image(run(contents), [f"im{i}" for i in range(6)])


def test_images_by_index_without_a_table_and_with_an_order(tmp_path):
    nwb = NWBFile("a laboratory", "session", START)
    images = [
        GrayscaleImage(name=f"photo {name}", data=np.full((4, 4), i, np.uint8)) for i, name in enumerate("fbdace")
    ]
    order = ImageReferences(name="order_of_images", data=images)
    photos = Images(name="photos", images=images, order_of_images=order, description="shown")
    nwb.add_stimulus_template(photos)
    shown = IndexSeries(name="shown", data=SHOWN.astype("u4"), unit="N/A", indexed_images=photos, timestamps=ONSETS)
    nwb.add_stimulus(shown)
    for i in range(6):
        nwb.add_unit(spike_times=train(i))
    path = save(nwb, tmp_path / "a.nwb")
    responses = run(inspect_nwb(path))
    names = [f"photo {name}" for name in "fbdace"]
    assert prefers_its_image(responses, names)
    assert load_nwb_images(path).stimulus.values.tolist() == names


def test_a_stack_of_images_in_acquisition_that_a_column_counts(tmp_path):
    nwb = session(SHOWN, trial_type=["view"] * N)
    nwb.add_acquisition(ImageSeries(name="photos", data=np.zeros((6, 4, 4), "u1"), unit="n.a.", rate=1.0))
    for i in range(6):
        nwb.add_unit(spike_times=train(i))
    contents = inspect_nwb(save(nwb, tmp_path / "a.nwb"))
    assert contents.images.loc["photos"].tolist() == [6, True]
    assert prefers_its_image(run(contents), [str(i) for i in range(6)])


def test_an_enumeration_with_a_blank_and_areas_of_electrode_groups(tmp_path):
    nwb = NWBFile("a laboratory", "session", START)
    table = TimeIntervals(name="presentations", description="shown")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "EnumData is experimental")
        table.add_column("stimulus_name", "shown", enum=True)
    for onset, image in zip(ONSETS, SHOWN, strict=True):
        table.add_row(start_time=onset, stop_time=onset + 0.4, stimulus_name="grey" if image == 5 else f"im{image}")
    nwb.add_time_intervals(table)
    device = nwb.create_device("array")
    groups = [nwb.create_electrode_group(area, description="a", location=area, device=device) for area in ("V4", "IT")]
    for i in range(5):
        nwb.add_unit(spike_times=train(i), electrode_group=groups[i % 2])
    contents = inspect_nwb(save(nwb, tmp_path / "a.nwb"))
    responses = run(contents)
    assert contents.arguments["blanks"] == ["grey"]
    assert responses.area.values.tolist() == ["V4", "IT", "V4", "IT", "V4"]
    assert prefers_its_image(responses, [f"im{i}" for i in range(5)])


def test_natural_scenes_of_the_allen_institute(tmp_path):
    path = test_allen.ecephys(tmp_path)
    contents = inspect_nwb(path, labels=test_allen.SCENES)
    assert contents.arguments["blanks"] == [-1]
    responses = run(contents).sel(unit=[str(950911000 + 7 * i) for i in range(5)])
    assert test_allen.correlation(responses, test_allen.COUNTS[:, :5]) > 0.8
    (tmp_path / "imaging").mkdir()
    responses = run(inspect_nwb(test_allen.ophys(tmp_path / "imaging"))).sel(stimulus=test_allen.NAMES[1:])
    assert test_allen.correlation(responses, test_allen.PLANTED[1:], test_allen.NAMES[1:]) > 0.9


def test_free_viewing_with_its_companion(tmp_path):
    main, companion = test_free_viewing.write(tmp_path)
    alone = inspect_nwb(main)
    assert f"of session {companion.stem!r} (such as {companion.name}): pass companion= its path" in alone.remark
    names = {}
    exec(alone.proposed_call, names)
    assert names["shown"].sizes["presentation"] == len(test_free_viewing.SHOWN)
    both = inspect_nwb(main, companion=companion)
    assert both.n_units == len(test_free_viewing.NAMES)
    responses = run(both)
    assert responses.unit.values.tolist() == test_free_viewing.NAMES
    assert test_free_viewing.correlation(responses) > 0.9


def test_human_recognition_and_working_memory(tmp_path):
    contents = inspect_nwb(test_human.write_memory(tmp_path))
    assert contents.arguments["stimulus_column"] == "external_image_file"
    assert contents.images.loc["StimulusPresentation"].tolist() == [len(test_human.SHOWN), True]
    assert sorted(run(contents).stimulus.values) == test_human.FILES
    for subject in ("1", "2"):
        test_human.write_sternberg(tmp_path, subject)
        contents = inspect_nwb(tmp_path / "sub-1" / f"sub-1_ses-{subject}_ecephys+image.nwb")
        assert contents.arguments["index_series"] == "StimulusPresentation"
        assert set(run(contents).stimulus.values) <= set(test_human.NAMES)


def test_shapes_and_textures_in_v4(tmp_path):
    contents = inspect_nwb(test_v4_probes.write(tmp_path))
    assert contents.arguments["onset_column"] == "pdOnTS"
    assert set(run(contents).unit.values) == {"0", "1", "2", "3"}
