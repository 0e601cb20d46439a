"""TOML files are read in UTF-8 of any editor; other files give one-line errors with a remedy."""

import pytest

from neurosuper._toml import parse_toml
from neurosuper.datasets.manifest import read_manifest
from neurosuper.study import read_study


@pytest.mark.parametrize("content", [b"\xef\xbb\xbftop = 5", b"top = 5\r\n", "top = 5 # größer".encode()])
def test_byte_order_marks_and_line_ends_of_editors_are_accepted(content):
    assert parse_toml(content, "a.toml") == {"top": 5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("top = 5".encode("utf-16"), "a.toml is saved as UTF-16, or not as text; save it as UTF-8"),
        ("top = 5".encode("utf-16-be"), "a.toml is saved as UTF-16"),
        ("title = 'größer'".encode("cp1252"), "a.toml is not UTF-8 .*; save it as UTF-8"),
        (rb'path = "D:\units\v4.npy"', r"not valid TOML: .*; write paths with / .*, or in single quotes"),
        (rb'path = "D:\v4.npy"', "or in single quotes: in double quotes a backslash starts an escape"),
        (b'path = "D:\\photos\\"\ntop = 5', "or in single quotes"),
        (b"n = " + b"7" * 9000, "a.toml is not valid TOML: Exceeds the limit"),
        (b"[" + b"b." * 60 + b"c]", "a.toml is nested too deeply; at most 50 levels are read"),
        (b"[" + b".".join([b"a"] * 50_000) + b"]\n", "a.toml is nested too deeply"),
        (b"[" + b" . ".join([b'"a"', b"b"] * 25_000) + b"]\n", "a.toml is nested too deeply"),
        (b"x = { " + b".".join([b"a"] * 50_000) + b" = 1 }", "a.toml is nested too deeply"),
        (b"n = " + b"[" * 90 + b"]" * 90, "a.toml is nested too deeply"),
        (b"n = " + b"[" * 60000 + b"]" * 60000, "a.toml is nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_read_gives_a_one_line_error_with_a_remedy(content, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_toml(content, "a.toml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_an_error_that_no_backslash_caused_is_not_blamed_on_one():
    with pytest.raises(ValueError, match="twice") as caught:
        parse_toml(b'[a."\\u00e9"]\n[a."\\u00e9"]', "a.toml")
    assert "single quotes" not in str(caught.value)


def test_study_files_and_manifests_are_read_by_the_same_rules(study, tmp_path):
    study.write_bytes(b"\xef\xbb\xbf" + study.read_bytes())
    assert read_study(study).title
    (tmp_path / "mine.toml").write_bytes("id = 'mine'".encode("utf-16"))
    with pytest.raises(ValueError, match=r"mine\.toml is saved as UTF-16"):
        read_manifest(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('"brain.npy"', r'"data\today\brain.npy"', r"\[systems.brain\] path = .*\\t"),
        ('"planted.nc"', r'"data\new.nc"', r"\[systems.brain\] truth"),
        ("channels = 6", r'channels = 6, weights = "runs\best.pth"', r"\[systems.net\] weights"),
        ("top = 3", 'top = 3\noutput = "runs\\\\u0007"'.replace("\\\\", "\\"), r"\[study\] output"),
    ],
)
def test_a_path_with_an_escape_in_it_is_refused(old, new, where, study):
    assert old in study.read_text()
    study.write_text(study.read_text().replace(old, new))
    with pytest.raises(ValueError, match=rf"{where}.* contains a control character; write paths with /"):
        read_study(study)


def test_a_note_may_have_lines(study):
    study.write_text(study.read_text().replace("Made up.", "first\\nsecond\\tthird"))
    assert read_study(study).note == "first\nsecond\tthird"


def test_long_words_and_sentences_are_read():
    files = ", ".join(["'a.b.png'"] * 1000)
    text = f"note = '{'Two words. ' * 1000}'\nkey = '{'a' * 10**6}'\nfiles = [{files}]"
    assert len(parse_toml(text.encode(), "a.toml")["files"]) == 1000
