"""Spike times as Kilosort and phy write them: a folder of .npy files and tables of clusters.

Layout: the documentation of phy ("Sorting data format") and `save_to_phy` of Kilosort 4.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from neurosuper._checks import one_line
from neurosuper._labels import name_some
from neurosuper.loaders.spike_trains import SpikeTrains

__all__ = ["load_phy"]

SAMPLE_RATE = re.compile(r"^\s*sample_rate\s*=\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*(?:#.*)?$", re.MULTILINE)
# Tables of clusters, from the one that phy writes when it saves to the one that Kilosort writes.
TABLES = ("cluster_info.tsv", "cluster_group.tsv", "cluster_groups.csv", "cluster_KSLabel.tsv")


def load_phy(
    path: str | Path, *, group: str | Collection[str] | None = "good", sample_rate: float | None = None
) -> SpikeTrains:
    r"""Return the spike times of the clusters in a folder of Kilosort or phy.

    Parameters
    ----------
    path : path of a folder
        With spike_times.npy (sample numbers), spike_clusters.npy (without phy: spike_templates.npy) and, unless `group`
        is None, a table of clusters: cluster_info.tsv, cluster_group.tsv or cluster_KSLabel.tsv.
    group : str, collection of str or None, optional
        Keep the clusters of these groups: by the column `group`, which people set in phy, or by `KSLabel` of Kilosort
        if no group was set. None keeps all clusters, noise too.
    sample_rate : float, optional
        Samples per second. By default the number in params.py, which is read as text and never run.

    Returns
    -------
    SpikeTrains
        Spike times in seconds since the first sample, by the number of the cluster. Columns of the table of clusters
        (`depth`, `ch`, `group`, …) become coords of the units. Clusters without spikes are left out.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        Arrays that do not belong together, no sample rate, or no cluster in these groups (the error counts those there
        are).

    See Also
    --------
    count_spikes : Count spikes in windows after onsets.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> np.save(folder / "spike_times.npy", np.array([3000, 4500, 6000], np.uint64))
    >>> np.save(folder / "spike_clusters.npy", np.array([7, 2, 7], np.int32))
    >>> _ = (folder / "params.py").write_text("sample_rate = 30000.")
    >>> _ = (folder / "cluster_group.tsv").write_text("cluster_id\tgroup\n2\tmua\n7\tgood\n")
    >>> load_phy(folder).times["7"].tolist()
    [0.1, 0.2]
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; check the path")
    samples = _read(folder, "spike_times.npy")
    has_clusters = (folder / "spike_clusters.npy").is_file() or not (folder / "spike_templates.npy").is_file()
    clusters = _read(folder, "spike_clusters.npy" if has_clusters else "spike_templates.npy")
    if samples.shape != clusters.shape:
        raise ValueError(
            f"{folder} has {len(samples)} spike_times for {len(clusters)} spike_clusters; the files differ in origin"
        )
    times = samples / (_sample_rate(folder) if sample_rate is None else sample_rate)
    order = np.argsort(clusters, kind="stable")
    ids, first = np.unique(clusters[order], return_index=True)
    trains = dict(zip(ids.tolist(), np.split(times[order], first[1:]), strict=True))
    table = _read_clusters(folder).reindex(ids)
    if group is not None:
        table = table[_in_group(table, [group] if isinstance(group, str) else list(group), folder)]
    return SpikeTrains({str(cluster): trains[cluster] for cluster in table.index}, table.reset_index(drop=True))


def _read(folder: Path, name: str) -> np.ndarray:
    """Return a flat array of whole numbers; phy writes them as one column or flat."""
    if not (folder / name).is_file():
        raise FileNotFoundError(f"no {name} in {folder}; pass the folder that Kilosort or phy wrote")
    try:
        values = np.load(folder / name, allow_pickle=False)
    except Exception as error:  # broken bytes can raise any type of exception
        raise ValueError(f"cannot read {folder / name}: {one_line(error)}; copy it again") from error
    if values.dtype.kind not in "iu" or values.size != max(values.shape, default=0):
        raise ValueError(f"{folder / name} must contain whole numbers, got {values.dtype} of shape {values.shape}")
    return values.ravel()


def _sample_rate(folder: Path) -> float:
    """Return the sample rate in params.py, read as text."""
    params = folder / "params.py"
    found = SAMPLE_RATE.search(params.read_text(encoding="utf-8", errors="replace")) if params.is_file() else None
    if found is None or not float(found[1]) > 0:
        raise ValueError(f"no number sample_rate = … in {params}; pass sample_rate= in samples per second")
    return float(found[1])


def _read_clusters(folder: Path) -> pd.DataFrame:
    """Return the facts about clusters, by their number; an empty table if there is no file of them."""
    for name in TABLES:
        if (folder / name).is_file():
            try:
                table = pd.read_csv(folder / name, sep="\t")
            except Exception as error:
                raise ValueError(f"cannot read {folder / name}: {one_line(error)}; copy it again") from error
            column = next((known for known in ("cluster_id", "id") if known in table), None)
            if column is None:
                raise ValueError(f"{folder / name} has no column cluster_id; it has {name_some(list(table), 10)}")
            if len(repeated := table[column][table[column].duplicated()]):
                raise ValueError(
                    f"{folder / name} has {len(repeated)} clusters twice, such as {repeated.iloc[0]}; keep one"
                )
            return table.set_index(column)
    return pd.DataFrame()


def _in_group(table: pd.DataFrame, groups: list[str], folder: Path) -> np.ndarray:
    """Return a mask of the clusters in one of these groups."""
    column = next((name for name in ("group", "KSLabel") if name in table and table[name].notna().any()), None)
    if column is None:
        raise ValueError(f"{folder} has no table of groups of clusters; pass group=None to keep all clusters")
    labels = table[column].fillna("unsorted").astype(str)
    kept = labels.isin(groups).to_numpy()
    if not kept.any():
        counts = ", ".join(f"{n} {name!r}" for name, n in labels.value_counts().items())
        raise ValueError(f"no cluster of {folder} is in group {name_some(groups)}; there are {counts}: pass group=")
    return kept
