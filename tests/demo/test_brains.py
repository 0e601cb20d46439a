"""The three small datasets are read through the manifests of the real ones, and contain the planted responses."""

import numpy as np
import pytest
import xarray as xr

import neurosuper as ns
from neurosuper.comparison import concatenate_systems
from neurosuper.demo.brains import draw_gratings, planted_drives, write_brains

MOUSE = "allen-neuropixels-natural-scenes"


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    return write_brains(tmp_path_factory.mktemp("brains"), monkeys=("F", "N"))


def match(responses, images, seed):
    """Return the correlation over stimuli of every unit with its planted drive, NaN if it has none."""
    gratings, features = draw_gratings()
    drives = planted_drives(features, seed)
    known = {image.tobytes(): row for image, row in zip(gratings.values, drives, strict=True)}
    mean, images = ns.align(ns.average_repetitions(responses), images)
    planted = np.array([known[image.tobytes()] for image in images.compute().values])
    with np.errstate(invalid="ignore"):
        return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(mean.values.T, planted.T, strict=True)])


def test_human_voxels(brains):
    human = ns.load("nsd", path=brains["nsd"], subset={"session": [1, 2]})
    assert dict(human.sizes) == {"stimulus": 500, "repetition": 3, "unit": 24}
    assert set(human.area.values) == {"V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"}
    planted = [f"{x:03d}-{y:03d}-001" for x in range(1, 7) for y in range(1, 5)]
    found = match(human.sel(unit=planted), ns.load_stimuli("nsd", path=brains["nsd"], stimuli=human), 0)
    assert found[:16].min() > 0.4
    assert np.isnan(found[16:]).all()


def test_macaque_channels(brains):
    test = ns.load("tvsd", path=brains["tvsd"])
    train = ns.load("tvsd", path=brains["tvsd"], part="train")
    gratings = ns.load_images(brains["tvsd"].parent / "gratings")
    assert (test.shape, train.shape) == ((100, 30, 1024), (420, 1024))
    reliable = ns.reliability.split_half_reliability(test) > 0.7
    assert int(reliable.sum()) == 16
    chosen = train.sel(unit=reliable.values)
    _, features = draw_gratings()
    drives = planted_drives(features, 1)[:, :16]
    rows = [int(label.removeprefix("grating_")) for label in chosen.stimulus.values]
    best = np.corrcoef(chosen.values.T, drives[rows].T)[:16, 16:].max(axis=1)
    assert best.min() > 0.6, "single presentations are noisy"
    assert set(chosen.stimulus.values) | set(test.stimulus.values) == set(gratings.stimulus.values)


def test_both_monkeys_saw_the_same_images_and_are_side_by_side(brains):
    train = ns.load("tvsd", path=brains["tvsd"], part="train", subset={"monkey": ["F", "N"]})
    one, other = ns.by_subject(train).values()
    assert train.unit.values[[0, -1]].tolist() == ["F/0000", "N/1023"]
    xr.testing.assert_identical(concatenate_systems({"F": one, "N": other}).unit, train.unit)
    _, features = draw_gratings()
    rows = [int(label.removeprefix("grating_")) for label in other.stimulus.values]
    assert (one.stimulus == other.stimulus).all()
    for monkey, seed in ((one, 1), (other, 3)):
        drives = planted_drives(features, seed)[rows, :16]
        best = np.corrcoef(monkey.values.T, drives.T)[:1024, 1024:].max(axis=0)
        assert best.min() > 0.6, "single presentations are noisy"
    with pytest.raises(ValueError, match="monkeys must be one of 'F', 'N'; got 'M'"):
        write_brains(brains["tvsd"], monkeys="M")


def test_mouse_units(brains):
    mouse = ns.load(MOUSE, path=brains[MOUSE])
    assert dict(mouse.sizes) == {"stimulus": 118, "repetition": 20, "unit": 24}
    found = match(mouse, ns.load_images(brains[MOUSE] / "scenes"), 2)
    assert found[:16].min() > 0.8
    assert np.isnan(found[16:]).all()
