"""Files in the cache are verified on request; damaged files are fetched again."""

import hashlib
import io
import os

import numpy as np
import pytest

import neurosuper as ns
from neurosuper.cli import main
from neurosuper.datasets import transfer, verify_cache
from tests.datasets.dandi_server import Archive, Fault

PAGE = b"<!DOCTYPE html><html>Please log in</html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
OPTIONS = {"dims": ["stimulus", "unit"], "stimuli": ["cat", "owl", "elk"]}


def saved(values):
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


RATES = saved(np.arange(12.0).reshape(3, 4))
BIG = np.random.default_rng(0).bytes(300_000)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "BACKOFF", 0.001)
    monkeypatch.setenv("NEUROSUPER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def archive():
    with Archive({"rates.npy": RATES, "big.bin": BIG}) as archive:
        yield archive


def manifest(archive, *paths, pinned=False, **changes):
    pins = [{"path": path, "value": hashlib.sha256(archive.files[path]).hexdigest()} for path in paths if pinned]
    return archive.http_manifest(
        *paths, checksums=pins, loader="load_array", opens=paths[0], options=OPTIONS, **changes
    )


def flip(path, at):
    """Flip one bit, and keep size and date."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("pinned", [True, False])
def test_a_flipped_bit_is_detected_and_repaired_on_request(archive, pinned):
    asked = manifest(archive, "big.bin", pinned=pinned)
    (path,) = ns.datasets.fetch(asked)
    flip(path, 1000)
    assert ns.datasets.fetch(asked)[0].read_bytes() != BIG, "its receipt vouches for it"
    assert ns.datasets.fetch(asked, verify="always")[0].read_bytes() == BIG
    archive.forget()
    ns.datasets.fetch(asked, verify="always")
    assert archive.requests == []


def test_files_of_a_dandiset_are_verified_again_without_the_network():
    with Archive({"a.bin": BIG, "b.bin": RATES}) as archive:
        asked = archive.manifest("a.bin", "b.bin")
        first, _ = ns.datasets.fetch(asked)
        flip(first, 5)
        assert ns.datasets.fetch(asked, verify="always")[0].read_bytes() == BIG
    assert ns.datasets.fetch(asked, verify="always")[0].read_bytes() == BIG


def test_there_are_two_ways_to_verify(archive):
    with pytest.raises(ValueError, match="verify must be 'receipt' or 'always', got True"):
        ns.datasets.fetch(manifest(archive, "big.bin"), verify=True)


def states(dataset=None):
    return {row.path: row.state for row in verify_cache(dataset).itertuples()}


def test_a_table_shows_which_files_are_undamaged(archive):
    first, second = ns.datasets.fetch(manifest(archive, "rates.npy", "big.bin", pinned=True))
    (third,) = ns.datasets.fetch(manifest(archive, "big.bin", id="other"))
    (third.parent / "mine.bin").write_bytes(b"put there by hand")
    assert states("other") == {"big.bin": "unverified", "mine.bin": "unverified"}
    assert states("planted") == {"rates.npy": "ok", "big.bin": "ok"}
    flip(second, 7)
    flip(third, 7)
    first.write_bytes(RATES[:-1])
    table = verify_cache().set_index(["dataset", "path"])
    assert (
        table.state[[("planted", "rates.npy"), ("planted", "big.bin"), ("other", "big.bin")]].tolist()
        == ["damaged"] * 3
    )
    assert table.why["other", "big.bin"] == "its sha256 differs from the receipt"
    assert table.why["other", "mine.bin"] == "it has no receipt"


def test_an_empty_cache_has_nothing_to_verify(capsys):
    assert verify_cache().empty
    assert main(["cache", "verify"]) == 0
    assert "nothing is cached in" in capsys.readouterr().out


def test_the_command_line_verifies_and_shows_how_to_repair(archive, capsys):
    (path,) = ns.datasets.fetch(manifest(archive, "big.bin"))
    assert main(["cache", "verify"]) == 0
    assert "unverified" in capsys.readouterr().out
    flip(path, 3)
    assert main(["cache", "verify", "planted"]) == 2
    out, err = capsys.readouterr()
    assert "damaged" in out
    assert err.splitlines()[-1] == (
        "neurosuper: 1 of 1 files are damaged; to fetch them again: neurosuper fetch planted --verify always"
    )


@pytest.mark.parametrize("sent", [PAGE, POINTER, RATES[:100], b'{"error": "not logged in"}', b""])
def test_other_content_never_gets_the_name_of_an_array(archive, cache, sent):
    archive.files["rates.npy"] = sent
    with pytest.raises(ValueError, match="as rates.npy was deleted: it .*pin its sha256") as raised:
        ns.load(manifest(archive, "rates.npy"))
    assert "\n" not in str(raised.value)
    assert not list(cache.rglob("rates.npy"))
    archive.files["rates.npy"] = RATES
    assert ns.load(manifest(archive, "rates.npy")).shape == (3, 4)


@pytest.mark.parametrize("content", [PAGE, POINTER, RATES[:100]])
def test_other_content_under_the_name_of_an_array_is_fetched_again_on_the_next_call(
    archive, cache, monkeypatch, content
):
    """An earlier version of the package would have fetched it without checking its content."""
    archive.files["rates.npy"] = content
    with monkeypatch.context() as patch:
        patch.setattr(transfer, "content_fault", lambda *_: "")
        ns.datasets.fetch(manifest(archive, "rates.npy"))
    archive.files["rates.npy"] = RATES
    with pytest.raises(ValueError, match="rates.npy.*; the same call fetches 'rates.npy' again"):
        ns.load(manifest(archive, "rates.npy"))
    assert ns.load(manifest(archive, "rates.npy")).shape == (3, 4)


def test_a_mistake_of_the_caller_deletes_no_receipt(archive):
    asked = manifest(archive, "rates.npy")
    ns.datasets.fetch(asked)
    archive.forget()
    with pytest.raises(ValueError, match="dims") as raised:
        ns.load(asked, dims=["stimulus", "neuron"])
    assert "again" not in str(raised.value)
    assert ns.load(asked).shape == (3, 4)
    assert archive.requests == []


def test_the_receipt_of_a_file_with_a_digest_is_not_deleted(archive):
    """The file is as published; fetching it again would not help."""
    archive.files["rates.npy"] = PAGE
    asked = manifest(archive, "rates.npy", pinned=True)
    with pytest.raises(ValueError, match="rates.npy") as raised:
        ns.load(asked)
    assert "the same call" not in str(raised.value)
    archive.forget()
    ns.datasets.fetch(asked)
    assert archive.requests == []


def test_the_error_of_damage_that_only_a_reader_detects_shows_how_to_repair(archive, monkeypatch):
    def read(path, **_):
        raise ValueError(f"{path.name} is damaged in its middle; fetch it again")

    asked = manifest(archive, "rates.npy")
    monkeypatch.setattr("neurosuper.datasets.loading._loader_by_name", lambda _: read)
    with pytest.raises(
        ValueError, match=r"fetch it again, by fetch\(…, verify='always'\) or `neurosuper fetch … --ver"
    ):
        ns.load(asked)


@pytest.mark.parametrize(
    ("name", "content", "sound"),
    [
        ("a.csv", b"caf\xe9,1\n", True),
        ("a.csv", PAGE, False),
        ("a.html", PAGE, True),
        ("a.txt", b"", True),
        ("a.txt", POINTER, False),
        ("a.csv", b"../.git/annex/objects/x/y/MD5E-s1--0.csv", False),
        ("a.png", b"\xff\xd8\xff\xe0 misnamed, but an image", True),
        ("a.png", b"not found", False),
        ("a.zip", b"PK\x03\x04 cut", False),
        ("a.h5", RATES, False),
        ("a.mat", b"oops", False),
        ("a.json", b'{"a": 1', False),
        ("a.npy", saved(np.zeros((0, 3))), True),
        ("a.npy", saved(np.array([None, "text"], dtype=object)), True),
        ("a", b"anything", True),
    ],
)
def test_files_must_have_the_format_of_their_name(tmp_path, name, content, sound):
    from neurosuper.datasets.content import content_fault

    (tmp_path / "part").write_bytes(content)
    assert (content_fault(tmp_path / "part", name) == "") == sound


def test_a_transfer_that_fails_keeps_the_earlier_file(archive):
    """A damaged file is replaced by an undamaged one, or stays."""
    asked = manifest(archive, "big.bin")
    (path,) = ns.datasets.fetch(asked)
    flip(path, 3)
    archive.blobs.faults.append(Fault(404))
    with pytest.raises(FileNotFoundError):
        ns.datasets.fetch(asked, verify="always")
    assert ns.datasets.fetch(asked)[0].read_bytes() == BIG
