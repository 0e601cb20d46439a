"""The catalogue of datasets: a table of all, the facts about one, and how to cite it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd

from neurosuper.datasets.cache import list_cache
from neurosuper.datasets.manifest import Dandi, Http, Local, Manifest, manifest_ids, read_manifest

__all__ = ["cite", "info", "list_datasets"]

CEILINGS = {
    "ncsnr_file": "from ncsnr.nii.gz of the archive",
    "ncsnr_repeats": "from the noise-ceiling signal-to-noise ratio over repeats",
    "split_half_spearman_brown": "split-half correlation over repeats, Spearman–Brown corrected",
    "provided": "provided by the archive",
    "none": "none",
}


def list_datasets() -> pd.DataFrame:
    """Return a table of all datasets with an id: recordings for `load`, and human judgements.

    Returns
    -------
    DataFrame
        One row per dataset, indexed by id: title, species, modality, areas, licence, the archive (`source`), and the
        number of bytes in the cache (`cached`).

    See Also
    --------
    neurosuper.load : load the responses of a dataset.
    neurosuper.interpretability.read_judgements : read human judgements.
    info : the main facts about one dataset.

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
    """Return the citation, DOI and licence of a dataset.

    Parameters
    ----------
    dataset : str or path
        An id, or the path of a manifest.

    Returns
    -------
    str
        Three lines.

    See Also
    --------
    info : all facts about a dataset.

    Examples
    --------
    >>> print(cite("cowley-v4").splitlines()[0][:6])
    Cowley
    """
    manifest = read_manifest(dataset)
    doi = "DOI unverified" if manifest.doi == "unverified" else f"https://doi.org/{manifest.doi}"
    return f"{manifest.citation}\n{doi}\nLicence: {manifest.licence}"


def info(dataset: str | Path) -> str:
    """Return the main facts about a dataset as text: recording, archive, size, subsets, licence, citation.

    Parameters
    ----------
    dataset : str or path
        An id, or the path of a manifest.

    Returns
    -------
    str
        One fact per line.

    See Also
    --------
    neurosuper.list_datasets : a table of all datasets.
    read_manifest : everything that is known about a dataset.
    cite : how to cite a dataset.

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
    yield "noise ceiling", CEILINGS[response.noise_ceiling.rule]
    yield "source", f"{_place(manifest)}, version {manifest.source.version}"
    yield "size", manifest.size
    table = list_cache()
    rows = table[table.dataset == manifest.id].itertuples()
    cached = "; ".join(f"{row.n_files} files, {row.size / 1e6:.1f} MB in {row.folder}" for row in rows)
    yield "cached", cached or "nothing yet"
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
    texts = [f"{'' if area == 'all' else area + ' '}{start:g}–{stop:g} ms" for area, (start, stop) in windows.items()]
    return f", {', '.join(texts)} after onset" if texts else ""


def _place(manifest: Manifest) -> str:
    source = manifest.source
    if isinstance(source, Dandi):
        return f"DANDI {source.dandiset}"
    if isinstance(source, Http):
        return str(urlsplit(source.url).hostname)
    return "files that you provide" if isinstance(source, Local) else f"s3://{source.bucket}"


def _notes(manifest: Manifest) -> Iterator[str]:
    if isinstance(manifest.source, Local):
        yield f"To get the files: {manifest.source.obtain}"
    if agreement := getattr(manifest.source, "agreement_url", None):
        yield f"Terms to accept before use: {agreement}"
    if manifest.images.loader == "none":
        yield f"Images: {manifest.images.obtain}"
    if manifest.notes:
        yield manifest.notes
