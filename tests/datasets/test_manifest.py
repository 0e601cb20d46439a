"""Errors in a manifest are named by key, and no path in it can leave the dataset's folder."""

import inspect
import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from neurosuper import interpretability, loaders
from neurosuper.datasets.loading import _recipe
from neurosuper.datasets.manifest import Manifest, Template, expand, manifest_ids, read_manifest

FOLDER = Path(__file__).parents[2] / "data_manifests"
MINE = """
schema_version = 1
id = "mine"
title = "Two units"
species = "Macaca mulatta"
modality = "spikes"
areas = ["V4"]
doi = "10.1234/abc"
licence = "unverified"
citation = "A. Person 2026"
homepage = "https://example.org"
loader = "load_array"
opens = "{session}/rates.npy"

[source]
kind = "local"
obtain = "ask me"

[subset.session]
about = "day of recording"
values = ["a", "b"]
default = ["a"]

[[files]]
path = "{session}/rates.npy"

[stimulus]
label = "name of the image"

[response]
measure = "rate"
units = "spikes/s"
window_ms = { V4 = [50, 150] }
noise_ceiling = { rule = "none" }

[images]
loader = "load_images"
"""


@pytest.fixture
def write(tmp_path):
    def write(text=MINE, name="mine.toml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_there_are_three_kinds_of_brain_data_and_judgements():
    kinds = {read_manifest(name).modality for name in manifest_ids()}
    assert kinds >= {"fMRI", "spikes", "calcium imaging", "human judgements"}


@pytest.mark.parametrize("name", manifest_ids())
def test_a_shipped_manifest_fits_its_loader(name):
    manifest = read_manifest(name)
    judged = manifest.modality == "human judgements"
    signature = inspect.signature(getattr(interpretability if judged else loaders, manifest.loader))
    keys = {key: values for key, values in manifest.choose().items() if key in signature.parameters}
    found = {"companion": "file"} if manifest.companion else {}
    found |= {"sha256": "0" * 64} if "sha256" in signature.parameters else {}
    given = {*_recipe(manifest, signature.parameters), *keys, *found}
    first, *others = signature.parameters.values()
    assert first.name not in given
    assert given <= set(signature.parameters), "the loader takes all that the manifest gives"
    assert {p.name for p in others if p.default is p.empty and p.kind is not p.VAR_KEYWORD} <= given, (
        "and needs no more"
    )


@pytest.mark.parametrize("name", manifest_ids())
def test_a_shipped_manifest_names_files_for_its_defaults(name):
    manifest = read_manifest(name)
    assert all("{" not in path for path in manifest.paths(manifest.choose()))
    assert manifest.paths(manifest.choose(), "responses")


def test_the_schema_for_editors_is_that_of_the_model():
    assert json.loads((FOLDER / "schema.json").read_text()) == Manifest.model_json_schema(), "run: make schema"
    assert all(path.read_text().startswith("#:schema ./schema.json\n") for path in FOLDER.glob("*.toml"))


def test_a_users_manifest_works_instead_of_an_id(write):
    manifest = read_manifest(write())
    assert manifest.paths(manifest.choose()) == ["a/rates.npy"]
    assert manifest.paths(manifest.choose({"session": ["b", "a"]})) == ["b/rates.npy", "a/rates.npy"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema_version = 1", "schema_version = 2", "schema_version: Input should be 1"),
        ('title = "Two units"', "", "title: Field required"),
        ('title = "Two units"', 'titel = "Two units"', "titel: Extra inputs are not permitted"),
        ('doi = "10.1234/abc"', 'doi = "abc"', "doi: String should match pattern"),
        ('modality = "spikes"', 'modality = "EEG"', "modality: Input should be 'spikes', "),
        ("[50, 150]", "[150, 50]", "window_ms.V4 must end after it starts"),
        ("[50, 150]", "[150]", "window_ms.V4: List should have at least 2 items"),
        ("[50, 150]", '["50", 150]', "window_ms.V4.0: Input should be a valid number"),
        ('kind = "local"', 'kind = "ftp"', "source: Input tag 'ftp' found using 'kind'"),
        (
            'kind = "local"\nobtain = "ask me"',
            'kind = "dandi"\nversion = "1"\ndandiset = 21',
            "source.dandi.dandiset: Input should be a valid string",
        ),
        ('path = "{session}/rates.npy"', 'path = "../rates.npy"', "files.0.path: .*must be a relative path"),
        ('path = "{session}/rates.npy"', 'path = "/etc/passwd"', "files.0.path: .*must be a relative path"),
        ('path = "{session}/rates.npy"', 'path = "a\\\\b"', "files.0.path: .*must be a relative path"),
        ('path = "{session}/rates.npy"', 'path = "{monkey}.npy"', r"needs \[subset.monkey\]"),
        ('path = "{session}/rates.npy"', 'path = "{session.__class__}"', "has the placeholder 'session.__class__'"),
        ('{ rule = "none" }', '{ rule = "guess" }', "noise_ceiling.rule: Input should be"),
        ('label = "name of the image"', 'label = "x"\nown_to = ["day"]', "own_to names 'day', which is not a key"),
        ('loader = "load_images"', 'loader = "none"', "images.obtain must state where"),
        ('id = "mine"', 'id = "yours"', r"has id = 'yours'; name the file yours\.toml"),
        ("[source]", "[source", "is not valid TOML"),
    ],
)
def test_errors_are_named_by_key_in_one_line(write, old, new, message):
    assert old in MINE
    with pytest.raises(ValueError, match=message) as raised:
        read_manifest(write(MINE.replace(old, new)))
    assert "mine.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_unknown_id_names_the_nearest_and_all():
    with pytest.raises(ValueError, match=r"no dataset 'nds'; did you mean 'nsd'\? There are .*cowley-v4"):
        read_manifest("nds")


def test_a_missing_manifest(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no manifest at .*gone\.toml"):
        read_manifest(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        ({"subject": "x"}, r"mine has no subset key 'subject'; it has session \(day of recording\)"),
        ({"session": "c"}, "mine has no session 'c'; it has a, b"),
        ({"session": []}, "no session was given; name at least one, such as 'a'"),
    ],
)
def test_an_unknown_subset_is_refused(write, subset, message):
    with pytest.raises(ValueError, match=message):
        read_manifest(write()).choose(subset)


@given(st.text(min_size=1, max_size=12))
def test_no_subset_value_leaves_the_folder(value):
    text = MINE.replace('values = ["a", "b"]\n', "").replace('id = "mine"', 'id = "any"')
    manifest = Manifest.model_validate(tomllib.loads(text))
    try:
        (path,) = manifest.paths(manifest.choose({"session": value}))
    except ValueError:
        return
    assert path == f"{value}/rates.npy"
    assert ".." not in path
    assert path.count("/") == 1


def test_numbers_may_be_given_as_text_and_are_padded_as_the_file_names_are(write):
    text = MINE.replace('values = ["a", "b"]', "").replace('default = ["a"]', "default = [1]")
    manifest = read_manifest(write(text.replace("{session}", "{session:02d}")))
    assert manifest.paths(manifest.choose({"session": ["3", 12]})) == ["03/rates.npy", "12/rates.npy"]
    with pytest.raises(ValueError, match="session takes numbers, got 'x'"):
        manifest.choose({"session": "x"})


def test_expand_names_the_values_of_every_path():
    paths = list(expand("{a}/{b}", {"a": ["x"], "b": [1, 2], "c": ["unused", "twice"]}))
    assert paths == [("x/1", {"a": "x", "b": 1}), ("x/2", {"a": "x", "b": 2})]


@pytest.mark.parametrize("spec", [":09999999999", ":99d", ":>9999999", "!r", ":{session}", ":9999999d"])
def test_a_placeholder_is_at_most_nine_wide(spec):
    with pytest.raises(ValueError, match="session.*(has the format|must be a relative path)") as caught:
        TypeAdapter(Template).validate_python(f"run{{session{spec}}}.h5")
    assert "Value error" in str(caught.value)
