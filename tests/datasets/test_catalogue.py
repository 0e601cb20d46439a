"""The catalogue lists datasets with their sizes, licences and cached files."""

import re

import pytest

import neurosuper as ns
from neurosuper.cli import main
from neurosuper.datasets.manifest import manifest_ids, read_manifest
from tests.datasets.dandi_server import BUCKET, Archive

MANIFEST = """
schema_version = 1
id = "mine"
title = "Two days"
species = "Macaca mulatta"
modality = "spikes"
areas = ["V4"]
doi = "unverified"
licence = "unverified"
citation = "unpublished"
homepage = "http://localhost"
loader = "load_array"
source = SOURCE
subset = { day = { about = "day", default = [1] } }
files = [{ path = "day {day}.bin" }, { path = "a.bmp", role = "images" }]
stimulus.label = "name of the photograph"
response = { measure = "rate", units = "spikes/s", noise_ceiling = { rule = "none" } }
images = { loader = "load_images", opens = "." }
"""


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROSUPER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_datasets_are_a_table():
    table = ns.list_datasets()
    assert table.index.tolist() == manifest_ids()
    assert table.columns.tolist() == ["title", "species", "modality", "areas", "licence", "source", "cached"]
    assert (table.cached == 0).all()
    assert not table.isna().any().any()


@pytest.mark.parametrize("name", manifest_ids())
def test_info_names_licence_citation_size_and_archive(name):
    text, manifest = ns.datasets.info(name), read_manifest(name)
    for fact in (manifest.licence, manifest.citation, manifest.size, manifest.source.version, "nothing yet"):
        assert fact in text


@pytest.mark.parametrize("name", manifest_ids())
def test_cite_gives_citation_and_doi(name):
    manifest = read_manifest(name)
    assert manifest.citation in ns.datasets.cite(name)
    doi = "unverified" if manifest.doi == "unverified" else f"https://doi.org/{manifest.doi}"
    assert doi in ns.datasets.cite(name)


def test_info_of_judgements_states_what_was_judged_and_how_to_get_them():
    text = ns.datasets.info("imi-2023")
    assert re.search(r"recording +human judgements, Homo sapiens\n", text)
    assert "To get the files: download responses_main.csv" in text
    assert "read_judgements reads the table" in text


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (["datasets"], "cowley-v4"),
        (["info", "nsd"], "Homo sapiens"),
        (["cite", "nsd"], "https://doi.org/"),
        (["cache", "list"], "nothing is cached in"),
        (["cache", "clear"], "0.0 MB freed"),
    ],
)
def test_the_command_line_prints_the_same(command, output, capsys):
    assert main(command) == 0
    assert output in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["info", "nds"], "did you mean 'nsd'"),
        (["fetch", "nsd", "--subset", "session"], "--subset takes KEY=VALUE, such as session=1,2, got 'session'"),
        (["fetch", "nsd", "--subset", "monkey=F"], "nsd has no subset key 'monkey'"),
        (["cache", "verify", "nds"], "no dataset 'nds'; did you mean 'nsd'"),
        (["fetch", "nsd", "--subset", "session=x"], "session takes numbers, got 'x'"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(command, message, capsys):
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("neurosuper: ")
    assert message in line


def test_what_the_command_line_fetches_it_lists_and_clears(tmp_path, empty_cache, capsys):
    with Archive({"day 1.bin": b"1" * 2_000_000, "day 2.bin": b"2" * 3_000_000, "a.bmp": b"BM..."}) as archive:
        source = f'{{ kind = "http", url = "{archive.blobs.url}/{BUCKET}" }}'
        (tmp_path / "mine.toml").write_text(MANIFEST.replace("SOURCE", source))
        assert main(["fetch", str(tmp_path / "mine.toml"), "--subset", "day=1,2", "--images"]) == 0
    paths = [empty_cache / "mine" / "unverified" / name for name in ("day 1.bin", "day 2.bin", "a.bmp")]
    assert set(capsys.readouterr().out.splitlines()) == {str(path) for path in paths}
    assert main(["cache", "list"]) == 0
    assert re.search(r"mine +unverified +3 +5\.0 MB", capsys.readouterr().out)
    assert "3 files, 5.0 MB" in ns.datasets.info(tmp_path / "mine.toml")
    assert main(["cache", "clear", "mine"]) == 0
    assert "5.0 MB freed" in capsys.readouterr().out
    assert not paths[0].exists()
