"""Render a comparison as one self-contained HTML page, for screen and paper."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files

import xarray as xr

from neurosuper.comparison.table import headline
from neurosuper.report.contrasts import sections_of_tests
from neurosuper.report.examples import choose_examples, labels_of, section_of_examples
from neurosuper.report.figures import section_of_figures
from neurosuper.report.hypotheses import section_of_hypotheses
from neurosuper.report.medians import section_of_medians
from neurosuper.report.numbers import unique_names
from neurosuper.report.thumbnails import embed_thumbnails

__all__ = ["render_report"]

FORMAT_VERSION = 2  # of `study.nc`; `neurosuper/study/write.py` says what it covers
MAX_SYSTEMS_WITHOUT_CONTENTS = 3  # more sections than these are hard to find by scrolling
NEEDED = ("title", "note", "top", "score_on", "shared_stimuli", "provenance", "seed")
SCORED = {
    "held-out": "directions found on one part of the stimuli, everything scored on the rest",
    "all": "directions found and everything scored on the same stimuli",
}
GROUPS = " Stimuli of one {name} are dependent: its {n} groups are never divided, in no split into halves."
READING = """
<p>The index of a unit or direction is minus the mean distance between its top {top} stimuli, over all pairs:
<span class="formula">−mean<sub>i&lt;j</sub> d(x<sub>i</sub>, x<sub>j</sub>)</span>; for labels it is the share of pairs
with the same label. A higher index is more interpretable: the images that drive the item look more similar. Compare
indices only within a metric, and between systems only if they were shown the same images.</p>
<p>Plain images are near to all others, so an item that picks them has a high index though its images share nothing
else. The corrected index subtracts from each distance what the two images’ mean distances to all others explain; a gain
of the raw index alone is no evidence of features that were found.</p>
<p>Klindt, Sanborn, Acosta, Poitevin &amp; Miolane (2023), Identifying interpretable visual features in artificial and
biological neural systems, <a href="https://arxiv.org/abs/2310.11431">arXiv:2310.11431</a>.</p>"""


def render_report(comparison: xr.Dataset, images: xr.DataArray) -> str:
    """Return a comparison as one self-contained HTML page.

    Parameters
    ----------
    comparison : Dataset (item, metric)
        Results of `neurosuper.run_study`, or the contents of its `study.nc`; or a comparison from `neurosuper.compare`
        with the item coord `seed` and the attrs `title`, `note` and `provenance` (JSON) added.
    images : DataArray (stimulus, row, column, channel)
        Must include all top stimuli; only the images shown are read.

    Returns
    -------
    str
        HTML without scripts or external resources: headline, table, tests, a figure per metric, the recovery of planted
        directions where these are known, the top stimuli of each finder's most, middle and least interpretable items by
        the first metric, and the provenance. The same input gives the same page.

    Raises
    ------
    ValueError
        The comparison lacks something that the report states, or is from a `study.nc` of another layout
        (`format_version`); or a top stimulus has no image.

    See Also
    --------
    neurosuper.run_study : run a study, and write its report.
    neurosuper.plot.plot_distributions : the figures of the report.

    Examples
    --------
    >>> import json
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import PCA, Color, Units, compare, load_images
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8))
    >>> brain = xr.DataArray(rng.gamma(1, 5, (40, 6)), dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": list("abcdef")})
    >>> comparison = compare({"V4": brain}, images, [Units(), PCA(2)], [Color()]).assign_coords(seed=("item", [0] * 14))
    >>> made = {"created": "today", "command": "compare", "device": "cpu", "seeds": [0]}
    >>> made |= {"versions": {}, "datasets": {}, "files": {}}
    >>> comparison.attrs |= {"title": "V4", "note": "noise", "provenance": json.dumps(made)}
    >>> render_report(comparison, images)[:15]
    '<!DOCTYPE html>'
    """
    _check_format_version(comparison)
    if missing := [name for name in NEEDED if name not in {*comparison.attrs, *comparison.coords}]:
        raise ValueError(
            f"a report states {', '.join(missing)}, which the comparison lacks; neurosuper.run_study adds them"
        )
    chosen = choose_examples(comparison)
    css, thumbnails = embed_thumbnails(images, labels_of(chosen.values()))
    tests = sections_of_tests(comparison)
    style = files("neurosuper.report").joinpath("page.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(comparison.title)}</title>\n<style>\n{style}{css}\n</style>\n</head>\n<body>",
            _front(comparison),
            _contents(comparison, tests),
            section_of_hypotheses(comparison),
            section_of_medians(comparison, list(chosen)),
            *(section for _, section in tests.values()),
            section_of_figures(comparison),
            section_of_examples(comparison, chosen, thumbnails),
            f'<section id="reading"><h2>How to read the index</h2>{READING.format(top=comparison.top)}</section>',
            _provenance(json.loads(comparison.provenance)),
            "</body>\n</html>\n",
        ]
    )


def _check_format_version(comparison: xr.Dataset) -> None:
    """Refuse a comparison from a `study.nc` of another layout."""
    # Comparisons straight from `compare` have no version, nor have files written before there was one; the latter are
    # recognised by `floor`, their name of `chance_level`.
    version = comparison.attrs.get("format_version", 0 if "floor" in comparison else FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise ValueError(
            f"the comparison is from a study.nc with format_version {version}, and this neurosuper reads version "
            f"{FORMAT_VERSION}; run its study again, or use the neurosuper that wrote it (see its attr provenance)"
        )


def _front(comparison: xr.Dataset) -> str:
    note = f'<p class="note" role="note">{escape(comparison.note)}</p>' if comparison.note else ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in headline(comparison))
    facts = (
        f"Top {comparison.top} stimuli of every unit and direction; {SCORED[comparison.score_on]}; "
        f"{comparison.shared_stimuli}."
    )
    if "stimulus_groups" in comparison.attrs:
        facts += GROUPS.format(name=comparison.stimulus_groups, n=comparison.n_stimulus_groups)
    return (
        f"<header><h1>{escape(comparison.title)}</h1>{note}</header>\n"
        f'<section id="headline"><h2>Headline</h2><ul class="headline">{items}</ul><p>{escape(facts)}</p></section>'
    )


def _contents(comparison: xr.Dataset, tests: dict[str, tuple[str, str]]) -> str:
    """Return a table of contents; empty if the page is short."""
    systems = unique_names(comparison.system)
    if len(systems) <= MAX_SYSTEMS_WITHOUT_CONTENTS:
        return ""
    entries = "".join(f'<li><a href="#{name}">{escape(heading)}</a></li>' for name, (heading, _) in tests.items())
    stated = '<li><a href="#hypotheses">Stated beforehand</a></li>' if "registry" in comparison.attrs else ""
    inner = "".join(f'<li><a href="#system-{i}">{escape(system)}</a></li>' for i, system in enumerate(systems))
    return (
        f'<nav aria-label="Contents"><h2>Contents</h2><ol>{stated}<li><a href="#table">Medians</a></li>{entries}'
        '<li><a href="#figures">Distributions</a></li>'
        f'<li><a href="#drivers">What drives units and directions</a><ol>{inner}</ol></li>'
        '<li><a href="#reading">How to read the index</a></li>'
        '<li><a href="#provenance">How this was made</a></li></ol></nav>'
    )


def _provenance(provenance: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())
    facts = {name: str(provenance[name]) for name in ("created", "command", "device")}
    facts |= {"seeds": ", ".join(map(str, provenance["seeds"])), "versions": versions}
    for system, about in provenance["datasets"].items():
        facts[system] = f"{about['dataset']}, version {about['dataset_version']}, doi {about['doi']}"
    for finder, settings in provenance.get("finders", {}).items():
        others = ", ".join(f"{name}={value!r}" for name, value in settings.items() if name != "finder")
        facts[f"finder {finder}"] = f"{settings['finder']}({others})"
    terms = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    rows = "".join(
        f'<tr><th scope="row">{escape(path)}</th><td><code>{escape(checksum)}</code></td></tr>'
        for path, checksum in provenance["files"].items()
    )
    table = f"<table><caption>Files read, with their SHA-256</caption><tbody>{rows}</tbody></table>" if rows else ""
    return f'<section id="provenance"><h2>How this was made</h2><dl>{terms}</dl>{table}</section>'
