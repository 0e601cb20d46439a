import json
import re

import numpy as np
import pytest
import xarray as xr

from neurosuper.report import render_report
from neurosuper.report.html import FORMAT_VERSION


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


def test_datasets_are_named_with_version_and_doi(page):
    assert "cowley-v4, version unverified, doi 10.1/x" in page.texts("dd")


def test_every_system_finder_and_metric_is_there(page):
    assert [text for text in page.texts("h3") if " by " not in text] == ["V4 <left> & right", 'net "fire8"']
    assert page.texts("h4") == ["Units", "KMeans"] * 2
    assert [text for text in page.texts("h3") if " by " in text] == [
        "Interpretability index by LPIPS-alex",
        "Interpretability index by color",
    ]
    assert "interpretability index: −LPIPS distance (AlexNet)" in page.texts("text")


def test_the_note_is_shown_where_there_is_one(page, comparison, images, read):
    assert "note" not in page.attributes("role")
    noted = read(render_report(comparison.assign_attrs(note="The population is simulated."), images))
    assert ("p", {"class": "note", "role": "note"}, ["The population is simulated."]) in noted.elements


def test_recovery_is_shown_where_the_truth_is_known(page, comparison, images, read):
    assert "Recovery of planted directions" not in page.texts("h3")
    recovery = xr.DataArray(
        np.full((2, 3), 0.5),
        dims=("fit", "planted"),
        coords={"fit_system": ("fit", ["V4"] * 2), "fit_finder": ("fit", ["Units", "KMeans"])},
    )
    known = read(render_report(comparison.assign(recovery=recovery), images))
    assert "Recovery of planted directions" in known.texts("h3")
    assert "max |cosine| with a planted direction" in known.texts("text")


def test_many_systems_get_a_table_of_contents(page, comparison, images, read):
    assert not page.texts("nav")
    more = comparison.assign_coords(system=comparison.system + " again")
    long = read(render_report(xr.concat([comparison, more], "item", combine_attrs="override"), images))
    assert 'net "fire8" again' in long.texts("a")
    assert {"Tests against single units", "Tests against V4 <left> & right"} <= set(long.texts("a"))


def test_the_same_input_gives_the_same_page_in_memory_or_lazy(page, comparison, images):
    assert render_report(comparison, images.chunk(stimulus=7)) == page.html


def test_what_a_report_must_state_is_asked_for(comparison, images):
    del comparison.attrs["note"], comparison.coords["seed"]
    with pytest.raises(ValueError, match="a report states note, seed, which the comparison lacks"):
        render_report(comparison, images)


@pytest.mark.parametrize("version", [0, FORMAT_VERSION + 1])
def test_a_study_of_another_layout_is_refused_in_one_line(version, comparison, images):
    other = comparison.assign_attrs(format_version=version) if version else comparison.assign(floor=("item", [0] * 80))
    with pytest.raises(
        ValueError, match=rf"format_version {version}, .* reads version 2; run its study again"
    ) as caught:
        render_report(other, images)
    assert "\n" not in str(caught.value)


def test_a_study_of_this_layout_gives_the_same_page(page, comparison, images):
    assert render_report(comparison.assign_attrs(format_version=FORMAT_VERSION), images) == page.html


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
    page = read(render_report(renamed, images))
    assert not {"script", "img"} & {tag for tag, *_ in page.elements}
    assert not [key for _, attrs, _ in page.elements for key in attrs if key.startswith("on")]
    assert page.texts("h1") == [name]
    assert f"interpretability index: q {name}" in [text.strip() for text in page.texts("text")]
    assert {f"system {name}", f"finder {name}"} <= {text.strip() for text in page.texts("th")}
    assert label in page.attributes("title")
    ids = page.attributes("id")
    assert len(set(ids)) == len(ids)
