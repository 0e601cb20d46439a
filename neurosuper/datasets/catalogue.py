"""The catalogue: which datasets there are, what each is, and how to cite it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd

from neurosuper.datasets.cache import list_cache
from neurosuper.datasets.manifest import Dandi, Http, Local, Manifest, manifest_ids, read_manifest

__all__ = ["cite", "info", "list_datasets"]


def list_datasets() -> pd.DataFrame:
    """Return a table of the datasets that are known by id: recordings for `load`, judgements for `read_judgements`.

    Returns
    -------
    DataFrame
        One row a dataset, indexed by id: title, species, modality, areas, licence, where it lies (`source`), and
        how many bytes of it are in the cache.

    Examples
    --------
    >>> list_datasets().loc["nsd", "species"]
    'Homo sapiens'
    """
    cached = list_cache().groupby("dataset")["size"].sum()
    rows = [_row(read_manifest(name), int(cached.get(name, 0))) for name in manifest_ids()]
    return pd.DataFrame(rows).set_index("id")


def _row(manifest: Manifest, cached: int) -> dict[str, object]:
    return {
        "id": manifest.id,
        "title": manifest.title,
        "species": manifest.species,
        "modality": manifest.modality,
        "areas": ", ".join(manifest.areas),
        "licence": manifest.licence,
        "source": _place(manifest),
        "cached": cached,
    }


def cite(dataset: str | Path) -> str:
    """Return how to cite a dataset.

    Parameters
    ----------
    dataset : str or path
        An id, or the path of a manifest.

    Examples
    --------
    >>> print(cite("cowley-v4").splitlines()[0][:6])
    Cowley
    """
    manifest = read_manifest(dataset)
    doi = "DOI unverified" if manifest.doi == "unverified" else f"https://doi.org/{manifest.doi}"
    return f"{manifest.citation}\n{doi}\nLicence: {manifest.licence}"


def info(dataset: str | Path) -> str:
    """Return what a dataset is: where it lies, how big, how it is cut, how it is read, licence, citation.

    Parameters
    ----------
    dataset : str or path
        An id, or the path of a manifest.

    Examples
    --------
    >>> "Homo sapiens" in info("nsd")
    True
    """
    manifest = read_manifest(dataset)
    lines = list(_facts(manifest)) + list(_subset_facts(manifest))
    width = max(len(name) for name, _ in lines)
    return "\n".join([manifest.title, *(f"  {name:<{width}}  {text}" for name, text in lines), *_notes(manifest)])


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    response = manifest.response
    yield "id", manifest.id
    yield "recording", ", ".join([manifest.modality, manifest.species, *manifest.areas])
    yield "responses", f"{response.measure} ({response.units}){_windows(manifest)}"
    yield "stimuli", manifest.stimulus.label
    yield "ceiling", response.noise_ceiling.rule.replace("_", " ")
    yield "source", f"{_place(manifest)}, version {manifest.source.version}"
    yield "size", manifest.size
    yield "cached", _cached(manifest)
    yield "licence", manifest.licence
    yield "citation", manifest.citation
    yield "DOI", manifest.doi
    yield "homepage", manifest.homepage


def _subset_facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    for key, entry in manifest.subset.items():
        values = f": {', '.join(map(str, entry.values))}" if entry.values and len(entry.values) <= 12 else ""
        yield f"subset {key}", f"{entry.about}{values} (default {', '.join(map(str, entry.default))})"


def _windows(manifest: Manifest) -> str:
    windows = manifest.response.window_ms or {}
    told = [f"{'' if area == 'all' else area + ' '}{start:g}–{stop:g} ms" for area, (start, stop) in windows.items()]
    return f", {', '.join(told)} after onset" if told else ""


def _place(manifest: Manifest) -> str:
    source = manifest.source
    if isinstance(source, Dandi):
        return f"DANDI {source.dandiset}"
    if isinstance(source, Http):
        return str(urlsplit(source.url).hostname)
    return "files that you bring" if isinstance(source, Local) else f"s3://{source.bucket}"


def _cached(manifest: Manifest) -> str:
    table = list_cache()
    mine = table[table.dataset == manifest.id]
    told = [f"{row.n_files} files, {row.size / 1e6:.1f} MB in {row.folder}" for row in mine.itertuples()]
    return "; ".join(told) or "nothing yet"


def _notes(manifest: Manifest) -> Iterator[str]:
    if isinstance(manifest.source, Local):
        yield f"To get the files: {manifest.source.obtain}"
    if agreement := getattr(manifest.source, "agreement_url", None):
        yield f"Terms to accept before use: {agreement}"
    if manifest.images.loader == "none":
        yield f"Images: {manifest.images.obtain}"
    if manifest.notes:
        yield manifest.notes
