"""Render a comparison as one self-contained HTML page, for screen and paper."""

from __future__ import annotations

import io
import itertools
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from html import escape
from importlib.resources import files

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib import rc_context
from matplotlib.figure import Figure

from neurosuper.comparison.contrast import contrast_finders, contrast_systems
from neurosuper.comparison.fitting import SEPARATOR
from neurosuper.comparison.table import headline, summarize
from neurosuper.plot import plot_distributions, plot_recovery
from neurosuper.plot.style import PLAIN
from neurosuper.report.hypotheses import section_of_hypotheses
from neurosuper.report.thumbnails import embed_thumbnails

__all__ = ["render_report"]

FORMAT_VERSION = 1  # of `study.nc`; `neurosuper/study/write.py` says what it covers
N_SHOWN = 3  # items per group: most, middle and least interpretable
MAX_SYSTEMS_WITHOUT_CONTENTS = 3  # more sections than these are hard to find by scrolling
NEEDED = ("title", "note", "top", "score_on", "shared_stimuli", "provenance", "seed")
SCORED = {
    "held-out": "directions found on one part of the stimuli, everything scored on the rest",
    "all": "directions found and everything scored on the same stimuli",
}
MARKS = (
    "Violins: distribution. Thick vertical line: interquartile range. Horizontal line and marker: median. "
    "n: number of points."
)
CHANCE = (
    " Dashed line: chance level, the mean index of random sets with the same number of stimuli; the band contains 95 % "
    "of these sets."
)
VARIANCE_FROM_HALVES = (
    "Intervals and p-values generalise to new stimuli and new units or directions; the variance over stimuli is "
    "estimated from random half-splits, with directions held fixed. This section compares means; the table above shows "
    "medians."
)
ITEMS_INDEPENDENT = "Items are treated as independent; they share stimuli, so p is too small."
CORRECTED = (
    " Corrected: the index less what the nearness of single images to all others explains; chance is 0. Floor: the "
    "index of a set that picks the same images as often, but at random."
)
NO_INDEX = "<p>No item has an index.</p>"
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
    >>> comparison = compare({"V4": brain}, images, [Units(), PCA(2)], [Color()]).assign_coords(seed=("item", [0] * 8))
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
    chosen = {pair: _choose(items) for pair, items in _by_finder(comparison)}
    css, thumbnails = embed_thumbnails(
        images,
        {
            label
            for groups in chosen.values()
            for items in groups.values()
            for label in _labels(items.top_stimuli.values)
        },
    )
    tests = _tests(comparison)
    style = files("neurosuper.report").joinpath("page.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(comparison.title)}</title>\n<style>\n{style}{css}\n</style>\n</head>\n<body>",
            _front(comparison),
            _contents(comparison, tests),
            section_of_hypotheses(comparison),
            _table(comparison, list(chosen)),
            *(section for _, section in tests.values()),
            _figures(comparison),
            _drivers(comparison, chosen, thumbnails),
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
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in headline(comparison))
    facts = (
        f"Top {comparison.top} stimuli of every unit and direction; {SCORED[comparison.score_on]}; "
        f"{comparison.shared_stimuli}."
    )
    return (
        f"<header><h1>{escape(comparison.title)}</h1>{note}</header>\n"
        f'<section id="headline"><h2>Headline</h2><ul class="headline">{sentences}</ul><p>{escape(facts)}</p></section>'
    )


def _contents(comparison: xr.Dataset, tests: dict[str, tuple[str, str]]) -> str:
    """Return a table of contents; empty if the page is short."""
    systems = _unique(comparison.system)
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


def _table(comparison: xr.Dataset, pairs: list[tuple[str, str]]) -> str:
    summary = summarize(comparison)
    metrics = comparison.metric.values.tolist()
    digits = {metric: _digits(summary.xs(metric, level="metric")["median"].to_numpy()) for metric in metrics}
    heads = "".join(
        f'<th scope="col">{escape(metric)}<small>{escape(quantity)}</small></th>'
        for metric, quantity in zip(metrics, comparison.quantity.values.tolist(), strict=True)
    )
    groups = "".join(
        _table_group(system, [finder for owner, finder in pairs if owner == system], summary.loc[system], digits)
        for system in _unique(comparison.system)
    )
    n_seeds = len(np.unique(comparison.seed))
    over_seeds = f" (over {n_seeds} seeds: an item counts once per seed)" if n_seeds > 1 else ""
    return (
        '<section id="table"><h2>Medians</h2>\n<table class="summary"><caption>Median interpretability index, with '
        f"quartiles and the number n of units or directions{over_seeds}. Higher is more interpretable; "
        f"bold marks each system’s best finder.{CORRECTED if 'median_corrected' in summary else ''}</caption>\n"
        f'<thead><tr><th scope="col">System</th><th scope="col">Finder</th>{heads}</tr>'
        f"</thead>{groups}</table></section>"
    )


def _table_group(system: str, finders: list[str], summary: pd.DataFrame, digits: dict[str, int]) -> str:
    best = {metric: summary.xs(metric, level="metric").max() for metric in digits}
    rows = [
        f'<th scope="row">{escape(finder)}</th>'
        + "".join(_cell(summary.loc[(finder, metric)], best[metric], digits[metric]) for metric in digits)
        for finder in finders
    ]
    head = f'<th scope="rowgroup" rowspan="{len(rows)}">{escape(system)}</th>'
    return f"\n<tbody><tr>{head}" + "</tr>\n<tr>".join(rows) + "</tr></tbody>"


def _cell(row: pd.Series, best: pd.Series, digits: int) -> str:
    if not row["n_items"]:
        return "<td>– <small>n 0</small></td>"
    lower, upper = (_number(row[name], digits) for name in ("lower_quartile", "upper_quartile"))
    cell = f"{_median(row, best, 'median', digits)} <small>{lower} to {upper} · n {int(row['n_items'])}</small>"
    if "median_corrected" in row:
        floor = _number(row["frequency_floor"], digits)
        cell += f"<br>{_median(row, best, 'median_corrected', digits)} <small>corrected · floor {floor}</small>"
    return f"<td>{cell}</td>"


def _median(row: pd.Series, best: pd.Series, column: str, digits: int) -> str:
    text = _number(row[column], digits)
    return f"<b>{text}</b>" if row[column] == best[column] else text


def _tests(comparison: xr.Dataset) -> dict[str, tuple[str, str]]:
    """Return heading and section of the tests of finders and of systems, by id; only those with tests."""
    caveat = f" Compare indices between systems only if they share images: {comparison.shared_stimuli}."
    blocks = {
        "tests": ("Tests against single units", _test_sentences(comparison, contrast_finders)),
        "system-tests": (
            f"Tests against {comparison.system.values[0]}",
            _test_sentences(comparison, contrast_systems, caveat),
        ),
    }
    return {
        name: (heading, f'<section id="{name}"><h2>{escape(heading)}</h2>{inner}</section>')
        for name, (heading, inner) in blocks.items()
        if inner
    }


def _test_sentences(comparison: xr.Dataset, contrast: Callable[[xr.Dataset], xr.Dataset], caveat: str = "") -> str:
    """Return one sentence per test by the first metric, as HTML; empty if there is nothing to test."""
    try:
        tests = contrast(comparison)
    except ValueError:  # no single units, or only single units; one system
        return ""
    own = tests.isel(test=(tests.metric == comparison.metric[0]).values)
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in own.sentence.values.tolist())
    seed = f", items of seed {comparison.seed.values[0]}" if len(np.unique(comparison.seed)) > 1 else ""
    assumptions = VARIANCE_FROM_HALVES if np.isfinite(own.difference_low).all() else ITEMS_INDEPENDENT
    method = (
        f"By {own.metric.values[0]}, the first metric{seed}. p is adjusted over the {tests.n_tests} tests of all "
        f"metrics (Benjamini–Hochberg). {assumptions}{caveat}"
    )
    return f"<p>{escape(method)}</p><ul>{sentences}</ul>"


def _figures(comparison: xr.Dataset) -> str:
    parts = [
        _figure(
            plot_distributions(comparison, metric),
            f"Interpretability index by {metric}",
            f"Points: units or directions. {MARKS}{CHANCE if 'chance_level' in comparison else ''}",
            f"metric{i}",
        )
        for i, metric in enumerate(comparison.metric.values.tolist())
    ]
    if "recovery" in comparison:
        caption = f"Points: planted directions; 1 means recovered exactly. {MARKS}"
        parts.append(_figure(plot_recovery(comparison.recovery), "Recovery of planted directions", caption, "recovery"))
    return '<section id="figures"><h2>Distributions</h2>' + "\n".join(parts) + "</section>"


def _figure(figure: Figure, title: str, caption: str, prefix: str) -> str:
    svg = _svg(figure, title, prefix)
    return f"<figure><h3>{escape(title)}</h3>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _svg(figure: Figure, title: str, prefix: str) -> str:
    """Return a figure as SVG for a page: text stays text, and every id is unique within the page."""
    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix} | PLAIN), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # text is drawn by the browser, with its own fonts
        figure.savefig(file, format="svg", dpi=200)
    svg = re.sub(r"<metadata>.*?</metadata>", "", file.getvalue(), flags=re.DOTALL)

    def prefix_ids(tag: re.Match[str]) -> str:
        return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", tag[0])

    svg = re.sub("<[^>]*>", prefix_ids, svg[svg.index("<svg") :])  # only inside tags, never in text
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)


def _drivers(
    comparison: xr.Dataset, chosen: dict[tuple[str, str], dict[str, xr.Dataset]], thumbnails: dict[str, str]
) -> str:
    digits = _digits(comparison.interpretability.isel(metric=0).values)
    parts = []
    for i, system in enumerate(_unique(comparison.system)):
        finders = "\n".join(
            f'<section class="finder"><h4>{escape(finder)}</h4><div>'
            + ("".join(_driver_table(group, items, thumbnails, digits) for group, items in groups.items()) or NO_INDEX)
            + "</div></section>"
            for (owner, finder), groups in chosen.items()
            if owner == system
        )
        parts.append(f'<section id="system-{i}"><h3>{escape(system)}</h3>\n{finders}</section>')
    by = escape(comparison.metric.values[0])
    return (
        '<section id="drivers"><h2>What drives units and directions</h2>'
        f"<p>Top {comparison.top} stimuli, strongest first, of the most, middle and least interpretable items of each "
        f"finder by {by}; the number below a name is its index. Hover over an image for its label.</p>\n"
        + "\n".join(parts)
        + "</section>"
    )


def _driver_table(group: str, items: xr.Dataset, thumbnails: dict[str, str], digits: int) -> str:
    several = len(np.unique(items.seed)) > 1
    rows = []
    columns = (items.direction, items.seed, items.interpretability.isel(metric=0), items.top_stimuli)
    for direction, seed, value, joined in zip(*(column.values for column in columns), strict=True):
        name = f"{direction} (seed {seed})" if several else str(direction)
        row = "".join(thumbnails[label] for label in _labels([joined]))
        index = _number(value, digits)
        rows.append(f'<tr><th scope="row">{escape(name)}<small>{index}</small></th><td>{row}</td></tr>')
    return f"<table><caption>{group} interpretable</caption><tbody>{''.join(rows)}</tbody></table>"


def _provenance(provenance: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())
    facts = {name: str(provenance[name]) for name in ("created", "command", "device")}
    facts |= {"seeds": ", ".join(map(str, provenance["seeds"])), "versions": versions}
    for system, about in provenance["datasets"].items():
        facts[system] = f"{about['dataset']}, version {about['dataset_version']}, doi {about['doi']}"
    terms = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    rows = "".join(
        f'<tr><th scope="row">{escape(path)}</th><td><code>{escape(checksum)}</code></td></tr>'
        for path, checksum in provenance["files"].items()
    )
    table = f"<table><caption>Files read, with their SHA-256</caption><tbody>{rows}</tbody></table>" if rows else ""
    return f'<section id="provenance"><h2>How this was made</h2><dl>{terms}</dl>{table}</section>'


def _by_finder(comparison: xr.Dataset) -> Iterator[tuple[tuple[str, str], xr.Dataset]]:
    """Yield each system and finder with its items, in the order of the comparison."""
    shown = comparison.drop_dims(["draw", "rank"], errors="ignore")  # values on halves are large, and not shown
    names = [comparison[name].values.astype(str) for name in ("system", "finder")]
    places = pd.Series(np.arange(len(names[0]))).groupby(names, sort=False).indices
    for pair in itertools.product(*(dict.fromkeys(own.tolist()) for own in names)):
        if pair in places:
            yield pair, shown.isel(item=np.sort(places[pair]))


def _choose(items: xr.Dataset) -> dict[str, xr.Dataset]:
    """Return the most, middle and least interpretable items by the first metric, without overlap or missing indices."""
    index = items.interpretability.isel(metric=0).values
    order = np.argsort(-index, kind="stable")[: np.isfinite(index).sum()]  # NaN is sorted last
    most, rest = order[:N_SHOWN], order[N_SHOWN:]
    middle, least = rest[:-N_SHOWN], rest[-N_SHOWN:]
    start = max(0, (len(middle) - N_SHOWN) // 2)
    groups = {"most": most, "middle": middle[start : start + N_SHOWN], "least": least}
    return {name: items.isel(item=chosen) for name, chosen in groups.items() if len(chosen)}


def _labels(joined: Iterable[str]) -> list[str]:
    """Return the labels of the top stimuli of some items."""
    return [label for labels in joined for label in str(labels).split(SEPARATOR) if label]


def _unique(names: xr.DataArray) -> list[str]:
    return list(dict.fromkeys(names.values.astype(str).tolist()))


def _digits(values: np.ndarray) -> int:
    """Return the number of decimals that shows three significant digits of the largest value."""
    largest = np.abs(values[np.isfinite(values)]).max(initial=0)
    return int(np.clip(2 - np.floor(np.log10(largest)), 0, 6)) if largest else 2


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")
