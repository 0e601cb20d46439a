import itertools
import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import neurosuper as ns
from neurosuper.report import make_report
from neurosuper.report import page as page_module
from neurosuper.report.page import FORMAT_VERSION
from tests.report.conftest import make_tree


def test_the_page_needs_nothing_from_outside(page):
    assert {"script", "link", "iframe", "object", "embed", "base"}.isdisjoint(tag for tag, *_ in page.elements)
    links = [attrs["href"] for tag, attrs, _ in page.elements if tag == "a"]
    loaded = [url for name in ("src", "srcset", "href", "xlink:href") for url in page.attributes(name)]
    assert [url for url in loaded if not url.startswith(("data:", "#"))] == [u for u in links if not u.startswith("#")]
    assert all(url.startswith(("data:", "#")) for url in re.findall(r"url\((.*?)\)", page.html))
    assert "@import" not in page.html


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    references = [url[1:] for name in ("href", "xlink:href") for url in page.attributes(name) if url.startswith("#")]
    assert set(references + re.findall(r"url\(#(.*?)\)", page.html)) <= set(ids)


def test_what_users_named_is_escaped(page):
    assert page.texts("h1") == page.texts("title") == ["<script>V4</script> & network"]
    assert "neurosuper run 'a <b>.toml'" in page.texts("dd")
    assert "v4/responses & more.npy" in page.texts("th")


def test_sections_are_in_the_order_in_which_they_are_read(page):
    sections = [attrs["id"] for tag, attrs, _ in page.elements if tag == "section" and "id" in attrs]
    sections = [name for name in sections if not name.startswith("system-") or name == "system-tests"]
    assert sections == [
        *("headline", "tests", "system-tests", "table", "figures", "drivers", "reading", "methods", "provenance")
    ]


def test_headings_go_down_one_level_at_a_time(page):
    levels = [int(tag[1]) for tag, *_ in page.elements if tag in ("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_everything_drawn_has_a_text_for_those_who_do_not_see_it(page):
    """Figures and images have a label; bars of forest plots are hidden, as their numbers are in the row."""
    hidden = [attrs for tag, attrs, _ in page.elements if tag == "svg" and attrs.get("class") in ("bar", "axis")]
    assert hidden
    assert all(attrs["aria-hidden"] == "true" for attrs in hidden)
    frames = [attrs for _, attrs, _ in page.elements if attrs.get("class") == "plot-frame"]
    assert len(frames) == page.html.count("<figure ") == 2
    drawn = [attrs for tag, attrs, _ in page.elements if tag == "i"] + frames
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in drawn)
    assert "text-anchor" in page.html, "the axes of forest plots have ticks"


def test_templates_escape_all_but_the_figures_and_the_images():
    templates = files("neurosuper.report").joinpath("templates").iterdir()
    unescaped = [name for each in templates for name in re.findall(r"(\S+) \| safe", each.read_text(encoding="utf-8"))]
    assert sorted(unescaped) == ["css", "figure.svg"]
    code = [path.read_text(encoding="utf-8") for path in Path(page_module.__file__).parent.glob("*.py")]
    assert len(code) > 5
    assert not [text for text in code if "escape(" in text or "Markup" in text]


def test_datasets_are_named_with_version_and_doi(page):
    assert "cowley-v4, version unverified, doi 10.1/x" in page.texts("dd")


def test_every_system_finder_and_metric_is_there(page):
    assert [text for text in page.texts("h3") if "y LPIPS" not in text and "y color" not in text] == [
        "V4 <left> & right",
        'net "fire8"',
    ]
    assert page.texts("h4") == ["Units", "KMeans"] * 2
    assert [text for text in page.texts("h3") if " by " in text] == [
        "Interpretability index by LPIPS-alex",
        "Interpretability index by color",
    ]
    assert "interpretability index: −LPIPS distance (AlexNet)" in page.texts("text")


def test_the_note_is_shown_where_there_is_one(page, comparison, images, read):
    assert "note" not in page.attributes("role")
    noted = read(make_report(comparison.assign_attrs(note="The population is simulated."), images).html)
    assert ("p", {"class": "note", "role": "note"}, ["The population is simulated."]) in noted.elements


def test_recovery_is_shown_where_the_truth_is_known(page, comparison, images, read):
    assert "Recovery of planted directions" not in page.texts("h3")
    recovery = xr.DataArray(
        np.full((2, 3), 0.5),
        dims=("fit", "planted"),
        coords={"fit_system": ("fit", ["V4"] * 2), "fit_finder": ("fit", ["Units", "KMeans"])},
    )
    known = read(make_report(comparison.assign(recovery=recovery), images).html)
    assert "Recovery of planted directions" in known.texts("h3")
    assert "max |cosine| with a planted direction" in known.texts("text")


def test_many_systems_get_a_table_of_contents(page, comparison, images, read):
    assert not page.texts("nav")
    more = comparison.assign_coords(system=comparison.system + " again")
    long = read(make_report(xr.concat([comparison, more], "item", combine_attrs="override"), images).html)
    assert 'net "fire8" again' in long.texts("a")
    assert {"Tests of finders", "Tests of systems", "Methods, to paste"} <= set(long.texts("a"))


def test_the_same_input_gives_the_same_page_in_memory_or_lazy(page, comparison, images):
    assert make_report(comparison, images.chunk(stimulus=7)).html == page.html


def test_a_comparison_straight_from_compare_becomes_a_report(images, read):
    rng = np.random.default_rng(0)
    labels = {"stimulus": images.stimulus.values, "unit": list("abcdef")}
    brain = xr.DataArray(rng.gamma(1, 5, (40, 6)), labels, ("stimulus", "unit"))
    table = ns.compare({"V4": brain}, images, [ns.Units(), ns.PCA(2)], [ns.Color()], score_on="all")
    page = read(ns.make_report(table, images).html)
    assert page.texts("h1") == page.texts("title") == ["Interpretability of V4"]
    assert "note" not in page.attributes("role")
    named = read(ns.make_report(table, images, title="A < B", note="Made up & noisy.").html)
    assert named.texts("h1") == ["A < B"]
    assert ("p", {"class": "note", "role": "note"}, ["Made up & noisy."]) in named.elements


def test_a_study_read_from_its_file_gives_the_same_page(tested, images, tmp_path):
    tested.to_netcdf(tmp_path / "study.nc")
    with xr.open_dataset(tmp_path / "study.nc") as opened:
        assert make_report(opened, images).html == make_report(tested, images).html


def test_what_is_no_comparison_and_what_are_no_tests_is_refused(comparison, images):
    with pytest.raises(ValueError, match=r"no comparison: it lacks top_stimuli, quantity; pass what .*compare"):
        make_report(comparison.drop_vars(["top_stimuli", "quantity"]), images)
    with pytest.raises(ValueError, match=r"no tests: they lack difference.*; pass what .*contrast_finders returns"):
        make_report(comparison, images, tests=comparison)


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1])
def test_a_study_of_another_layout_is_refused_in_one_line(version, comparison, images):
    other = comparison.assign_attrs(format_version=version) if version else comparison.assign(floor=("item", [0] * 80))
    with pytest.raises(
        ValueError, match=rf"format_version {version}, .* reads version 2; run its study again"
    ) as caught:
        make_report(other, images)
    assert "\n" not in str(caught.value)


def test_a_study_of_this_layout_gives_the_same_page(page, comparison, images):
    assert make_report(comparison.assign_attrs(format_version=FORMAT_VERSION), images).html == page.html


HOSTILE = [
    r"$\frac{",
    r"cost in $ and $\sum",
    "<script>alert(1)</script>",
    '"onmouseover=alert(1) x="',
    "<img src=x onerror=alert(1)>",
    ' id="x href="#y url(#z',
    "]]><!-- {} %s",
    "\x01\x1b[31m",
    "字 🧠",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_is_markup_or_mathematics(name, comparison, images, read):
    """A system, a finder, metrics, a quantity, images and all other texts: each is shown as it is written."""
    label = f"photo {name}"
    images = images.assign_coords(stimulus=[label, *images.stimulus.values[1:].tolist()])
    renamed = comparison.assign_coords(
        metric=[f"m {name}", name],
        quantity=("metric", [f"q {name}", name]),
        **{
            key: ("item", np.where(comparison[key] == comparison[key][0], f"{key} {name}", comparison[key]))
            for key in ("system", "finder", "direction")
        },
    ).assign(top_stimuli=(("item", "rank"), np.array([[label, "s0002", "s0003"]] * comparison.sizes["item"])))
    provenance = json.loads(comparison.provenance) | {"command": name, "files": {name: name}, "versions": {name: name}}
    renamed.attrs |= {"title": name, "note": name, "shared_stimuli": name, "provenance": json.dumps(provenance)}
    page = read(make_report(renamed, images).html)
    assert not {"script", "img"} & {tag for tag, *_ in page.elements}
    assert not [key for _, attrs, _ in page.elements for key in attrs if key.startswith("on")]
    assert page.texts("h1") == [name]
    assert f"interpretability index: q {name}" in [text.strip() for text in page.texts("text")]
    assert {f"system {name}", f"finder {name}"} <= {text.strip() for text in page.texts("th")}
    assert label in page.attributes("title")
    ids = page.attributes("id")
    assert len(set(ids)) == len(ids)


WIDTH = """<iframe id=page src="{page}" style="width:{width}px;height:2000px;border:0"></iframe>
<script>onload = () => {{
const root = document.getElementById("page").contentDocument.documentElement;
document.title = root.scrollWidth + " of " + root.clientWidth;
}}</script>"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs the browser chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(tested, images, tmp_path, width):
    """Also of names without blanks, and of many metrics, on a phone."""
    finder = np.where(tested.finder == "KMeans", "KMeansWithAVeryLongNameOfItsOwn" * 3, tested.finder)
    renamed = tested.assign_coords(finder=("item", finder))
    make_report(renamed, images, title="T" * 60, superposition=make_tree()).save(tmp_path / "page.html")
    (tmp_path / "frame.html").write_text(WIDTH.format(page=(tmp_path / "page.html").as_uri(), width=width))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
    command = ["chromium", *flags, f"--user-data-dir={tmp_path}/browser", (tmp_path / "frame.html").as_uri()]
    dom = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    needed, there = re.search(r"<title>(\d+) of (\d+)</title>", dom).groups()
    assert int(needed) <= int(there) <= width
