"""One call leads from an id, or from a user's manifest, to labelled responses."""

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import neurosuper as ns
from neurosuper.datasets import loading as dataset_module

MANIFEST = """
schema_version = 1
id = "mine"
title = "Two days, two units each"
species = "Macaca mulatta"
modality = "spikes"
areas = ["V4"]
doi = "10.1234/abc"
licence = "CC0-1.0"
citation = "A. Person 2026"
homepage = "https://example.org"
loader = "load_array"
opens = "day {day}/rates.npy"
options = { dims = ["stimulus", "repetition", "unit"] }

[source]
kind = "local"
obtain = "ask me"
env_var = "MY_RECORDINGS"

[subset.day]
about = "day of recording"
default = [1]

[[files]]
path = "day {day}/rates.npy"

[[files]]
path = "photographs"
role = "images"

[stimulus]
label = "name of the photograph"

[response]
measure = "rate"
units = "spikes/s"
window_ms = { all = [50, 150] }
noise_ceiling = { rule = "split_half_spearman_brown" }

[images]
loader = "load_images"
opens = "photographs"
"""
DAYS = {1: np.arange(12.0).reshape(3, 2, 2), 2: 100 + np.arange(18.0).reshape(3, 3, 2)}


@pytest.fixture
def manifest(tmp_path):
    for day, rates in DAYS.items():
        (tmp_path / f"day {day}").mkdir()
        np.save(tmp_path / f"day {day}" / "rates.npy", rates)
    (tmp_path / "photographs").mkdir()
    for name in ("ant", "bee", "cat"):
        Image.new("RGB", (8, 8)).save(tmp_path / "photographs" / f"{name}.png")
    (tmp_path / "mine.toml").write_text(MANIFEST)
    return tmp_path / "mine.toml"


def load_day(manifest, day, labels=("ant", "bee", "cat"), **options):
    return ns.load(manifest, path=manifest.parent, subset={"day": day}, stimuli=list(labels), **options)


def test_a_users_manifest_is_read_by_its_loader(manifest):
    responses = load_day(manifest, 1)
    assert responses.dims == ("stimulus", "repetition", "unit")
    assert responses.values.tolist() == DAYS[1].tolist()
    assert responses.day.values.tolist() == ["1", "1"]
    assert responses.attrs["units"] == "spikes/s"


def test_attrs_name_the_source_of_responses(manifest):
    attrs = load_day(manifest, 1).attrs
    assert {key: attrs[key] for key in ("dataset", "doi", "licence", "citation", "dataset_version", "modality")} == {
        "dataset": "mine",
        "doi": "10.1234/abc",
        "licence": "CC0-1.0",
        "citation": "A. Person 2026",
        "dataset_version": "files of the user",
        "modality": "spikes",
    }
    assert attrs["noise_ceiling_rule"] == "split_half_spearman_brown"


def test_several_recordings_are_joined_along_units(manifest):
    both = load_day(manifest, [1, 2])
    assert both.unit.values.tolist() == ["1/0", "1/1", "2/0", "2/1"]
    assert both.day.values.tolist() == ["1", "1", "2", "2"]
    assert both.sizes["repetition"] == 3
    assert np.isnan(both.sel(unit=["1/0", "1/1"], stimulus="ant").values[2]).all()
    xr.testing.assert_equal(
        ns.average_repetitions(both).sel(unit="2/1").drop_vars(["unit", "day", "n_repetitions"]),
        ns.average_repetitions(load_day(manifest, 2)).sel(unit="1").drop_vars(["unit", "day", "n_repetitions"]),
    )


def test_recordings_of_other_stimuli_are_joined_by_label(manifest, monkeypatch):
    from neurosuper.datasets import loading as dataset

    parts = [
        load_day(manifest, 1, ("ant", "bee", "cat")).assign_coords(category=("stimulus", ["a", "b", "c"])),
        load_day(manifest, 2, ("dog", "cat", "bee")).assign_coords(category=("stimulus", ["d", "c", "b"])),
    ]
    joined = dataset._join_recordings(parts)
    assert joined.stimulus.values.tolist() == ["ant", "bee", "cat", "dog"]
    assert joined.category.values.tolist() == ["a", "b", "c", "d"]
    assert joined.sel(stimulus="cat", unit="2/0").values.tolist() == DAYS[2][1, :, 0].tolist()
    assert np.isnan(joined.sel(stimulus="dog", unit="1/0").values).all()


def test_recordings_with_one_label_for_different_photographs_are_refused(manifest, rng):
    stacks = [ns.load_images(rng.integers(0, 255, (3, 4, 4, 3), np.uint8)) for _ in range(2)]
    days = [
        xr.DataArray(
            np.eye(3), dims=("stimulus", "unit"), coords={"stimulus": stack.stimulus, "content": stack.content}
        )
        .assign_coords(unit=list("abc"))
        .assign_attrs(recording=str(day))
        for day, stack in enumerate(stacks)
    ]
    message = "stimulus '0', '1', '2' names different photographs in the two arrays"
    with pytest.raises(ValueError, match=message):
        dataset_module._join_recordings(days)
    with pytest.raises(ValueError, match=message):
        dataset_module._add_new_stimuli(*stacks)
    with pytest.raises(ValueError, match=message):
        ns.align(*days)
    same = dataset_module._join_recordings([days[0], days[0].assign_attrs(recording="again")])
    np.testing.assert_array_equal(same.content, stacks[0].content)


def test_labels_that_mean_other_images_in_other_recordings_are_not_joined(manifest):
    manifest.write_text(manifest.read_text().replace("[stimulus]", '[stimulus]\nown_to = ["day"]'))
    assert load_day(manifest, 2).sizes["unit"] == 2
    with pytest.raises(
        ValueError, match="every day of mine has its own images, .*; load one day at a time, got '1', '2'"
    ):
        load_day(manifest, [1, 2])
    with pytest.raises(ValueError, match="every day of mine has its own images"):
        ns.load_stimuli(manifest, path=manifest.parent, subset={"day": [1, 2]})


def test_options_replace_settings_of_the_manifest(manifest):
    rates = load_day(manifest, 1, measured_in="spike count")
    assert rates.attrs["units"] == "spike count"


def test_the_folder_may_be_named_by_the_environment(manifest, monkeypatch):
    monkeypatch.setenv("MY_RECORDINGS", str(manifest.parent))
    images = ns.load_stimuli(manifest)
    assert images.stimulus.values.tolist() == ["ant", "bee", "cat"]
    responses = ns.load(manifest, stimuli=images)
    assert responses.sizes["unit"] == 2
    assert responses.attrs["dataset_version"] == "unverified"


def test_images_are_loaded_with_the_labels_of_the_responses(manifest):
    images = ns.load_stimuli(manifest, path=manifest.parent, size=4)
    assert images.shape == (3, 4, 4, 3)
    ns.align(load_day(manifest, 1), images)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"subset": {"monkey": "F"}}, ValueError, "mine has no subset key 'monkey'; it has day"),
        ({"windows": 3}, ValueError, "load_array has no option 'windows'; it takes dims, stimuli"),
        ({"subset": {"day": 3}}, FileNotFoundError, r"mine needs one day 3/rates\.npy in .*, but it has none"),
        ({"path": "nowhere"}, FileNotFoundError, "no folder or file at nowhere"),
        ({"stream": True}, ValueError, "mine is not NWB and cannot be streamed"),
    ],
)
def test_wrong_requests_are_refused_in_one_line(manifest, wrong, error, message):
    with pytest.raises(error, match=message) as raised:
        ns.load(manifest, **{"path": manifest.parent} | wrong)
    assert "\n" not in str(raised.value)


def test_files_that_the_user_must_provide_are_asked_for(manifest):
    with pytest.raises((ValueError, FileNotFoundError), match="ask me"):
        ns.load(manifest)


def test_the_error_of_a_dataset_without_images_states_where_they_are(manifest):
    text = manifest.read_text().replace(
        'loader = "load_images"\nopens = "photographs"', 'loader = "none"\nobtain = "ask her"'
    )
    manifest.write_text(text)
    with pytest.raises(ValueError, match="the archive of mine has no images: ask her"):
        ns.load_stimuli(manifest, path=manifest.parent)


def test_an_unknown_loader_is_refused(manifest):
    manifest.write_text(manifest.read_text().replace('loader = "load_array"', 'loader = "cite"'))
    with pytest.raises(ValueError, match="manifest mine: no loader 'cite'; there are load_array, "):
        ns.load(manifest, path=manifest.parent)


JUDGEMENTS = (
    "model,layer,channel,batch,correct,confidence,is_demo,catch_trial\nresnet50,layer1,7,0,True,3,False,False\n"
)


def test_judgements_are_found_by_id_and_read_by_their_own_function(tmp_path, monkeypatch):
    (tmp_path / "responses_main.csv").write_text(JUDGEMENTS)
    monkeypatch.setenv("NEUROSUPER_IMI", str(tmp_path))
    (path,) = ns.datasets.fetch("imi-2023")
    assert ns.interpretability.read_judgements(path).channel.tolist() == ["7"]


def test_load_refuses_judgements_in_one_line_that_names_their_reader(tmp_path):
    message = r"imi-2023 contains human judgements, not .* with neurosuper\.interpretability\.read_judgements\(path\)"
    for path in (None, tmp_path):
        with pytest.raises(ValueError, match=message) as caught:
            ns.load("imi-2023", path=path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="the archive of imi-2023 has no images: .*ImageNet"):
        ns.load_stimuli("imi-2023")


def test_judgements_that_are_missing_are_asked_for(monkeypatch):
    monkeypatch.delenv("NEUROSUPER_IMI", raising=False)
    with pytest.raises(
        FileNotFoundError, match=r"download responses_main\.csv.*zenodo.*name their folder in NEUROSUPER_IMI"
    ):
        ns.datasets.fetch("imi-2023")


def test_a_pickle_needs_a_pinned_sha256(tmp_path):
    """The sha256 of the published file could not be checked, so the manifest pins none."""
    path = tmp_path / "data_binned_responses" / "cadena_ploscb_data.pkl"
    path.parent.mkdir()
    path.write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    with pytest.raises(ValueError, match="may run code when it is read, and its manifest pins no sha256: pass sha256="):
        ns.load("cadena-2019", path=tmp_path)
    with pytest.raises(ValueError, match="sha256"):
        ns.load("cadena-2019", path=tmp_path, sha256="0" * 64)
