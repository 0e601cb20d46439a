"""The catalogue says what there is, how big, under which licence, and what is in the cache."""

import pytest

import neurosuper as ns
from neurosuper.cli import main
from neurosuper.load.manifest import manifest_ids, read_manifest


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROSUPER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_datasets_are_a_table():
    table = ns.datasets()
    assert table.index.tolist() == manifest_ids()
    assert table.columns.tolist() == ["title", "species", "modality", "areas", "licence", "source", "cached"]
    assert (table.cached == 0).all()
    assert not table.isna().any().any()


@pytest.mark.parametrize("name", manifest_ids())
def test_info_names_licence_citation_size_and_place(name):
    told, manifest = ns.describe(name), read_manifest(name)
    for fact in (manifest.licence, manifest.citation, manifest.size, manifest.source.version, "nothing yet"):
        assert fact in told


@pytest.mark.parametrize("name", manifest_ids())
def test_cite_gives_citation_and_doi(name):
    manifest = read_manifest(name)
    assert manifest.citation in ns.cite(name)
    assert ("unverified" if manifest.doi == "unverified" else f"https://doi.org/{manifest.doi}") in ns.cite(name)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["datasets"], "cowley-v4"),
        (["info", "nsd"], "Homo sapiens"),
        (["cite", "nsd"], "https://doi.org/"),
        (["cache", "list"], "nothing is cached in"),
        (["cache", "clear"], "0.0 MB freed"),
    ],
)
def test_the_command_line_says_the_same(command, said, capsys):
    assert main(command) == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["info", "nds"], "did you mean 'nsd'"),
        (["fetch", "nsd", "--subset", "session"], "--subset takes KEY=VALUE, such as session=1,2, got 'session'"),
        (["fetch", "nsd", "--subset", "monkey=F"], "nsd is not cut by 'monkey'"),
        (["fetch", "nsd", "--subset", "session=x"], "session takes numbers, got 'x'"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(command, message, capsys):
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("neurosuper: ")
    assert message in line
