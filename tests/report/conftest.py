"""A comparison with hostile names and an item that has no index, and its page, read as a browser would."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

from neurosuper.report import make_report
from tests.plot.superposition_results import make_superposition_results

SYSTEMS = ("V4 <left> & right", 'net "fire8"')
FINDERS = ("Units", "KMeans")
N_ITEMS = 20
VOID = {"meta", "br"}


class Page(HTMLParser):
    """The elements of a page as (tag, attrs, text inside), after checking that tags nest."""

    def __init__(self, html: str):
        super().__init__()
        self.html, self.elements, self._open = html, [], []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {[tag for tag, *_ in self._open]}"

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs), [])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        opened, *_ = self._open.pop()
        assert opened == tag, f"<{opened}> closed by </{tag}>"

    def handle_data(self, data):
        for *_, inside in self._open:
            inside.append(data)

    def texts(self, tag):
        return ["".join(inside) for name, _, inside in self.elements if name == tag]

    def attributes(self, name):
        return [attrs[name] for _, attrs, _ in self.elements if name in attrs]


def make_images() -> xr.DataArray:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 8, 8, 3), np.uint8)
    labels = [f"s{i:04d}" for i in range(40)]
    return xr.DataArray(pixels, dims=("stimulus", "row", "column", "channel"), coords={"stimulus": labels})


def make_comparison() -> xr.Dataset:
    """Two systems × two finders × 20 items, two metrics; item 3 of the first has no index."""
    rng = np.random.default_rng(0)
    pairs = [(system, finder) for system in SYSTEMS for finder in FINDERS]
    system, finder = (np.repeat(names, N_ITEMS) for names in zip(*pairs, strict=True))
    index = np.stack([rng.normal(-0.6, 0.05, len(system)), rng.normal(-30, 5, len(system))], axis=1)
    index[3] = np.nan
    top = np.array([rng.choice([f"s{i:04d}" for i in range(40)], 3, replace=False) for _ in system])
    provenance = {
        "created": "2025-01-01 12:00 UTC",
        "command": "neurosuper run 'a <b>.toml'",
        "device": "cpu",
        "seeds": [0, 7],
        "versions": {"neurosuper": "0.1.0", "numpy": "2.0.0"},
        "datasets": {"V4 <array>": {"dataset": "cowley-v4", "dataset_version": "unverified", "doi": "10.1/x"}},
        "files": {"v4/responses & more.npy": "ab" * 32},
    }
    return xr.Dataset(
        {"interpretability": (("item", "metric"), index), "top_stimuli": (("item", "rank"), top)},
        {
            "system": ("item", system),
            "finder": ("item", finder),
            "direction": ("item", [f"d{i}" for i in range(len(system))]),
            "seed": ("item", np.zeros(len(system), int)),
            "metric": ["LPIPS-alex", "color"],
            "quantity": ("metric", ["−LPIPS distance (AlexNet)", "−distance of mean colour"]),
        },
        {
            "title": "<script>V4</script> & network",
            "note": "",
            "top": 3,
            "score_on": "held-out",
            "shared_stimuli": "40 stimuli in common",
            "provenance": json.dumps(provenance),
        },
    )


def make_tree() -> xr.DataTree:
    """Results of superposition as `measure_superposition` arranges them: /measure/system or /measure/system/finder."""
    nodes, systems = {}, dict(zip(("V4", "layer3"), SYSTEMS, strict=True))
    for measure, results in make_superposition_results().items():
        for name, values in results.items():
            system, _, finder = name.partition(" · ")
            nodes[f"{measure}/{systems[system]}/{finder}".rstrip("/")] = values
    return xr.DataTree.from_dict(nodes)


@pytest.fixture
def images() -> xr.DataArray:
    return make_images()


@pytest.fixture
def comparison() -> xr.Dataset:
    return make_comparison()


@pytest.fixture
def tested(comparison) -> xr.Dataset:
    """The comparison with what intervals need, a matched baseline, and K-means of the first system far above units."""
    rng = np.random.default_rng(0)
    comparison.interpretability[20:40] += [0.2, 20.0]
    finder = np.where(np.arange(80) % 40 >= 30, "Gaussian", comparison.finder)
    return (
        comparison.assign(
            difference_of_halves=(("item", "metric", "draw"), rng.normal(0, 0.01, (80, 2, 500))),
            influence=(("item", "metric", "rank"), rng.normal(0, 0.01, (80, 2, 3))),
        )
        .assign_coords(finder=("item", finder), baseline=("item", np.where(finder == "KMeans", "Gaussian", "")))
        .assign(n_stimuli=("item", np.full(80, 40)))
    )


@pytest.fixture
def no_figures(page, monkeypatch):
    """Leave out the figures of further pages, which take longest; `page` has them."""
    monkeypatch.setattr("neurosuper.report.page.draw_figures", lambda _: [])


@pytest.fixture
def read():
    """Parse a page."""
    return Page


@pytest.fixture(scope="session")
def page() -> Page:
    """The page of `comparison`."""
    return Page(make_report(make_comparison(), make_images()).html)
