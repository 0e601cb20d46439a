import json
import re

import numpy as np
import pytest
import xarray as xr

from neurosuper import contrast_finders, contrast_systems
from neurosuper.report import render_report
from neurosuper.report.html import FORMAT_VERSION


def drivers(page):
    """Return the items shown, in order."""
    return [re.match(r"d\d+", text).group() for text in page.texts("th") if re.match(r"d\d+−", text)]


def sentences_of(page):
    """Return the sentences of tests, in order."""
    return [text for text in page.texts("li") if "permutation test" in text]


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


def test_the_table_shows_medians_and_marks_the_best_finder(page, comparison):
    first = comparison.isel(metric=0).to_dataframe().groupby(["system", "finder"], sort=False).interpretability
    medians = first.median()
    cells = [text.split()[0] for text in page.texts("td") if " · n " in text]
    assert cells[::2] == [f"{median:.3f}".replace("-", "−") for median in medians]
    assert [text.split(" · n ")[1] for text in page.texts("td") if " · n " in text][::2] == ["19", "20", "20", "20"]
    best = {f"{value:.3f}".replace("-", "−") for value in medians.groupby("system").max()}
    assert best <= set(page.texts("b"))
    assert len(page.texts("b")) == 4  # two systems × two metrics


def test_finders_are_tested_against_single_units_in_sentences(page, comparison, images, read):
    assert "Tests against single units" in page.texts("h2")
    assert sentences_of(page)[:2] == contrast_finders(comparison).sel(test=[0, 2]).sentence.values.tolist()
    only_units = read(render_report(comparison.isel(item=(comparison.finder == "Units").values), images))
    assert "Tests against single units" not in only_units.html


def test_systems_are_tested_against_the_first_in_sentences(page, comparison, images, read):
    assert "Tests against V4 <left> & right" in page.texts("h2")
    assert sentences_of(page)[2:] == contrast_systems(comparison).sel(test=[0, 1]).sentence.values.tolist()
    assert "between systems only if they share images: 40 stimuli in common." in page.html
    one = read(render_report(comparison.isel(item=(comparison.system == comparison.system[0]).values), images))
    assert len(sentences_of(one)) == 1
    assert "Tests against V4" not in one.html


def test_most_middle_and_least_interpretable_items_are_shown(page, comparison):
    shown = drivers(page)
    index = comparison.interpretability.values[20:40, 0]
    ranked = [f"d{20 + i}" for i in np.argsort(-index)]
    assert shown[9:18] == ranked[:3] + ranked[8:11] + ranked[-3:]


def test_items_without_an_index_are_never_shown(page):
    shown = drivers(page)
    assert len(shown) == 4 * 9
    assert "d3" not in shown


@pytest.mark.parametrize("n_items", [0, 2, 5, 7])
def test_few_items_are_each_shown_once(comparison, images, read, n_items):
    comparison["interpretability"][n_items:20] = np.nan
    comparison["interpretability"][:n_items] = np.linspace(-1, 0, 2 * n_items).reshape(n_items, 2)
    page = read(render_report(comparison.isel(metric=[0]), images))
    shown = [name for name in drivers(page) if int(name[1:]) < 20]
    assert sorted(shown) == [f"d{i}" for i in range(n_items)]


def test_top_stimuli_are_shown_in_order_and_each_is_embedded_once(page, comparison):
    most = comparison.interpretability.values[20:40, 0].argmax() + 20
    labels = [attrs["aria-label"] for tag, attrs, _ in page.elements if tag == "i"]
    assert labels[27:30] == comparison.top_stimuli.values[most].split(" | ")
    assert page.html.count("background-image:url(data:image/png") == len(set(labels)) < len(labels)


def test_seeds_distinguish_items_of_equal_name(comparison, images, read):
    comparison.seed[20:30] = 7
    names = read(render_report(comparison.isel(metric=[0]), images)).texts("th")
    assert {re.search(r"\(seed .\)", name).group() for name in names if "seed" in name} == {"(seed 0)", "(seed 7)"}
    assert not any("seed" in name for name in names if name.startswith("d4"))  # of a finder with one seed


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
        ValueError, match=rf"format_version {version}, .* reads version 1; run its study again"
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
    ).assign(top_stimuli=("item", np.array([f"{label} | s0002 | s0003"] * comparison.sizes["item"])))
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


def test_raw_and_corrected_medians_stand_side_by_side(comparison, images, read):
    corrected = comparison.interpretability + 1
    both = comparison.assign(corrected=corrected, frequency_floor=0 * corrected - 0.5)
    cells = [text for text in read(render_report(both, images)).texts("td") if "corrected · floor −0.5" in text]
    plain = [text for text in read(render_report(comparison, images)).texts("td") if " to " in text]
    assert len(cells) == len(plain)
    for cell, raw in zip(cells, plain, strict=True):
        first, second = raw.split()[0], cell.removeprefix(raw).split()[0]
        assert cell.startswith(raw)
        assert float(second.replace("−", "-")) == pytest.approx(float(first.replace("−", "-")) + 1, abs=0.01)
