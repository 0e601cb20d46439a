"""A comparison as one self-contained HTML page, for screen, phone and paper."""

from __future__ import annotations

import json
import tempfile
import webbrowser
from dataclasses import dataclass
from pathlib import Path

import xarray as xr
from jinja2 import Environment, PackageLoader, StrictUndefined

from neurosuper._files import whole_file
from neurosuper.comparison.headlines import headline
from neurosuper.comparison.selections import whole_comparison
from neurosuper.comparison.table import describe_scored
from neurosuper.report.examples import choose_examples, describe_examples, introduce_examples, labels_of
from neurosuper.report.figures import draw_figures
from neurosuper.report.forest import finder_tests, sections_of_tests
from neurosuper.report.hypotheses import describe_hypotheses
from neurosuper.report.means import describe_means
from neurosuper.report.methods import call_of, describe_methods
from neurosuper.report.numbers import unique_names
from neurosuper.report.population_section import describe_populations
from neurosuper.report.superposition_section import describe_superposition
from neurosuper.report.thumbnails import embed_thumbnails
from neurosuper.report.twin_section import describe_twins

__all__ = ["Report", "make_report"]

FORMAT_VERSION = 2  # of `study.nc`; `neurosuper/study/write.py` says what it covers
MAX_SYSTEMS_WITHOUT_CONTENTS = 3  # more sections than these are hard to find by scrolling
NEEDED = ("interpretability", "top_stimuli", "system", "finder", "direction", "metric", "quantity", "top")
TEST_NEEDED = ("difference", "p_adjusted", "detectable", "sentence", "finder", "against", "family", "n_family")
SCORED = {
    "held-out": "directions found on one part of the stimuli, everything scored on the rest",
    "all": "directions found and everything scored on the same stimuli",
}
GROUPS = " Stimuli of one {name} are dependent: its groups (scored on: {n}) are never divided, in no split into halves."


@dataclass(frozen=True, repr=False)
class Report:
    """A report as one HTML page: without scripts, and without anything that is loaded from elsewhere.

    In a notebook, a report that is the value of a cell is shown below it, in a frame whose style does not touch the
    notebook. The page is stored in the notebook (one to a few megabytes), and a notebook that is not trusted leaves it
    out: use `save` or `open` there.

    Parameters
    ----------
    html : str
        The page.

    See Also
    --------
    make_report : Returns the report of a comparison.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> report = Report("<!DOCTYPE html><title>V4</title>")
    >>> report.save(path := Path(tempfile.mkdtemp(), "v4.html"))
    >>> path.read_text()
    '<!DOCTYPE html><title>V4</title>'
    """

    html: str

    def save(self, path: str | Path) -> None:
        """Write the page to a file, whole or not at all.

        Parameters
        ----------
        path : path
            Such as "report.html"; a file of this name is replaced.

        Raises
        ------
        OSError
            The folder does not exist, or cannot be written to.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise FileNotFoundError(f"no folder {path.parent} to write {path.name} to; create it, or choose another")
        try:
            with whole_file(path) as partial:
                # A name that is not Unicode is escaped: better than no page.
                partial.write_text(self.html, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise type(error)(
                f"cannot write {path.name} to {path.parent.resolve()} ({error.strerror or error}); make room or get "
                "permission there, or save to another folder"
            ) from error

    def open(self) -> None:
        """Show the page in a web browser, from a temporary file.

        Raises
        ------
        RuntimeError
            There is no web browser, as on most servers.
        """
        folder = Path(tempfile.mkdtemp(prefix="neurosuper-"))  # stays, because the browser reads it later
        self.save(path := folder / "report.html")
        if not webbrowser.open(path.as_uri()):
            raise RuntimeError(f"no web browser was found; the report is in {path}, and `save` writes it elsewhere")

    def _repr_html_(self) -> str:
        return _templates().get_template("frame.html").render(html=self.html)

    def __repr__(self) -> str:
        return f"Report of {len(self.html.encode(errors='replace')) / 1e6:.1f} MB; .save(path) or .open() it"


def make_report(
    comparison: xr.Dataset,
    images: xr.DataArray,
    *,
    title: str | None = None,
    note: str | None = None,
    tests: xr.Dataset | None = None,
    superposition: xr.DataTree | None = None,
    populations: xr.Dataset | None = None,
    twins: xr.DataTree | None = None,
) -> Report:
    """Return a comparison as one self-contained HTML page, to save, open or show in a notebook.

    Parameters
    ----------
    comparison : Dataset (item, metric)
        From `neurosuper.compare` or `neurosuper.run_study`, or the contents of a `study.nc`.
    images : DataArray (stimulus, row, column, channel)
        Must include all top stimuli; only the images shown are read.
    title : str, optional
        By default that of the study, else the names of the systems.
    note : str, optional
        A sentence or two below the title. By default that of the study, else none.
    tests : Dataset (test,), optional
        From `neurosuper.contrast_finders` of this comparison, if you have them already or want others than the default.
    superposition : DataTree, optional
        From `neurosuper.superposition.measure_superposition`, of the same systems: the page then has a section with a
        figure per measure.
    populations : Dataset (pair, items, measure), optional
        From `neurosuper.comparison.compare_populations`, of the same systems: a section with a matrix per measure.
    twins : DataTree, optional
        From `neurosuper.study.read_twins`, of the same systems: a section with some twins as rows of images. Those of
        arrays in memory are results of `neurosuper.comparison.twins` at places such as "V4 | IT/units", with the attrs
        `system_a`, `system_b` and `items`.

    Returns
    -------
    Report
        Headline, tests as forest plots with sentences for a paper, table of means, distributions, measures of
        superposition and comparisons of populations if there are any, top stimuli of some items of each finder by the
        first metric, how to read the index, a paragraph of methods to paste, and provenance. The same input gives the
        same page.

    Raises
    ------
    TypeError
        `superposition` or `twins` is not a DataTree, or `populations` not a Dataset.
    ValueError
        Not a comparison or not its tests; measures of other systems; a comparison from a `study.nc` of another layout
        (`format_version`); or a top stimulus has no image.

    See Also
    --------
    neurosuper.compare : Returns a comparison.
    neurosuper.run_study : Runs a study, and writes its report.
    neurosuper.superposition.measure_superposition : Returns the measures of superposition.
    neurosuper.plot.plot_distributions : The figures of the report.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper import PCA, Color, Units, compare, load_images
    >>> rng = np.random.default_rng(0)
    >>> images = load_images(rng.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8))
    >>> brain = xr.DataArray(rng.gamma(1, 5, (40, 6)), dims=("stimulus", "unit"),
    ...                      coords={"stimulus": images.stimulus, "unit": list("abcdef")})
    >>> comparison = compare({"V4": brain}, images, [Units(), PCA(2)], [Color()], score_on="all")
    >>> report = make_report(comparison, images, title="Noise")
    >>> "<title>Noise</title>" in report.html
    True
    """
    comparison = _check(comparison, tests)
    chosen = choose_examples(comparison)
    paired, compared = describe_twins(twins, comparison), describe_populations(populations, comparison)
    shown = labels_of(chosen.values()) | (paired.labels if paired else set())
    css, thumbnails = embed_thumbnails(images, shown)
    tests, cautions = finder_tests(comparison) if tests is None else (tests, [])
    measured = describe_superposition(superposition, comparison)
    further = [*(measured.methods if measured else []), *(each.method for each in (compared, paired) if each)]
    methods = describe_methods(comparison, tests) + ([" ".join(further)] if further else [])
    attrs, systems = comparison.attrs, unique_names(comparison.system)
    page = {
        "title": title or attrs.get("title") or f"Interpretability of {', '.join(systems)}",
        "note": attrs.get("note", "") if note is None else note,
        "css": css,
        "has_contents": len(systems) > MAX_SYSTEMS_WITHOUT_CONTENTS,
        "headline": headline(comparison, tests),
        "facts": _facts(comparison),
        "hypotheses": describe_hypotheses(comparison),
        "sections": sections_of_tests(comparison, tests, cautions),
        "means": describe_means(comparison, tests),
        "figures": draw_figures(comparison),
        "superposition": measured,
        "populations": compared,
        "twins": paired,
        "introduction": introduce_examples(comparison),
        "examples": describe_examples(comparison, chosen),
        "thumbnails": thumbnails,
        "top": attrs["top"],
        "methods": methods,
        "facts_of_run": _facts_of_run(provenance := json.loads(attrs.get("provenance", "{}"))),
        "files": provenance.get("files", {}),
    }
    return Report(_templates().get_template("page.html").render(page))


def _templates() -> Environment:
    """Return the templates, which escape all text that is not marked as HTML."""
    return Environment(
        loader=PackageLoader("neurosuper.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _check(comparison: xr.Dataset, tests: xr.Dataset | None) -> xr.Dataset:
    """Return the whole comparison; refuse another `study.nc` layout, no comparison, or no tests of finders."""
    comparison = whole_comparison(comparison)
    # Comparisons straight from `compare` have no version, nor have files written before there was one; the latter are
    # recognised by `floor`, their name of `chance_level`.
    version = comparison.attrs.get("format_version", 0 if "floor" in comparison else FORMAT_VERSION)
    if version != FORMAT_VERSION:
        raise ValueError(
            f"the comparison is from a study.nc with format_version {version}, and this neurosuper reads version "
            f"{FORMAT_VERSION}; run its study again, or use the neurosuper that wrote it (see its attr provenance)"
        )
    if missing := [name for name in NEEDED if name not in {*comparison.variables, *comparison.attrs}]:
        raise ValueError(f"no comparison: it lacks {', '.join(missing)}; pass what neurosuper.compare returns")
    if tests is not None and (missing := [name for name in TEST_NEEDED if name not in tests.variables]):
        raise ValueError(f"no tests: they lack {', '.join(missing)}; pass what neurosuper.contrast_finders returns")
    return comparison


def _facts(comparison: xr.Dataset) -> str:
    """Return in a sentence or two what was scored on which stimuli."""
    parts = [f"Top {comparison.top} stimuli of every unit and direction"]
    parts += [SCORED[comparison.score_on]] if "score_on" in comparison.attrs else []
    parts += [comparison.shared_stimuli] if "shared_stimuli" in comparison.attrs else []
    groups = ""
    if "stimulus_groups" in comparison.attrs:
        groups = GROUPS.format(name=comparison.stimulus_groups, n=describe_scored(comparison, groups=True))
    return f"{'; '.join(parts)}.{groups}"


def _facts_of_run(provenance: dict) -> dict[str, str]:
    """Return what is known about how a comparison was made, by name."""
    facts = {name: str(provenance[name]) for name in ("created", "command", "device") if name in provenance}
    if "seeds" in provenance:
        facts["seeds"] = ", ".join(map(str, provenance["seeds"]))
    if "versions" in provenance:
        facts["versions"] = ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())
    for system, about in provenance.get("datasets", {}).items():
        facts[system] = f"{about['dataset']}, version {about['dataset_version']}, doi {about['doi']}"
    for finder, settings in provenance.get("finders", {}).items():
        facts[f"finder {finder}"] = call_of(settings)
    return facts
