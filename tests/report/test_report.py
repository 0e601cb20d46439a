"""A report can be saved, opened, and shown in a notebook."""

import dataclasses
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import pytest

from neurosuper.report import Report

HTML = '<!DOCTYPE html>\n<title>a "b" & c</title>\n<style>p { color: red }</style>'


@pytest.fixture
def report():
    return Report(HTML)


def test_a_report_is_saved_as_it_is(report, tmp_path):
    report.save(tmp_path / "a.html")
    report.save(str(tmp_path / "b.html"))
    assert (
        (tmp_path / "a.html").read_text(encoding="utf-8") == (tmp_path / "b.html").read_text(encoding="utf-8") == HTML
    )


def test_what_cannot_be_written_whole_leaves_the_file_of_before(report, tmp_path, monkeypatch):
    report.save(path := tmp_path / "a.html")

    def full(self, *_args, **_settings):
        self.open("w").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        Report("another").save(path)
    assert path.read_bytes().decode() == HTML
    assert [each.name for each in tmp_path.iterdir()] == ["a.html"]


def test_a_folder_that_cannot_be_written_to_is_named_with_what_to_do(report, tmp_path, monkeypatch):
    def refuse(self, *_args, **_settings):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_text", refuse)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PermissionError) as caught:
        report.save("a.html")
    expected = f"cannot write a.html to {tmp_path.resolve()} (Permission denied); make room or get permission there, or"
    assert str(caught.value) == f"{expected} save to another folder"


def test_a_folder_that_does_not_exist_is_named(report, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*absent to write a\.html to; create it") as caught:
        report.save(tmp_path / "absent" / "a.html")
    assert "\n" not in str(caught.value)


def test_a_name_that_is_not_unicode_is_escaped(tmp_path):
    Report("photo\udce9").save(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == "photo\\udce9"
    assert "MB" in repr(Report("photo\udce9"))


def test_open_shows_the_page_in_a_browser(report, monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("webbrowser.open", lambda url: shown.append(url) or True)
    report.open()
    assert Path(url2pathname(urlparse(shown[0]).path)).read_text(encoding="utf-8") == HTML


def test_without_a_browser_open_says_where_the_page_is(report, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    with pytest.raises(RuntimeError, match="no web browser was found; the report is in") as caught:
        report.open()
    assert str(next(tmp_path.glob("*/report.html"))) in str(caught.value)


def test_a_notebook_shows_the_page_in_a_frame_of_its_own(report, read):
    """Its style does not reach the notebook, and it can run no script there."""
    frame = read(report._repr_html_())
    ((tag, attrs, inside),) = frame.elements
    assert (tag, inside) == ("iframe", [])
    assert attrs["srcdoc"] == HTML
    assert "allow-scripts" not in attrs["sandbox"]
    assert "allow-same-origin" not in attrs["sandbox"]
    assert attrs["title"] == "Report"


def test_a_report_has_a_short_repr_and_does_not_change(report):
    assert repr(report) == "Report of 0.0 MB; .save(path) or .open() it"
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.html = ""
