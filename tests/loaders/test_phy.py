"""Folders of Kilosort and phy: planted spikes come back by cluster, in seconds, and nothing in them is run."""

import numpy as np
import pandas as pd
import pytest

from neurosuper import count_spikes
from neurosuper.loaders import load_phy

RATE = 30_000.0
GROUPS = {2: "good", 5: "mua", 9: "good", 11: "noise"}
PARAMS = """dat_path = r'C:/data/temp_wh.dat'
n_channels_dat = 385
dtype = 'int16'
sample_rate = 30000.
hp_filtered = True
"""


@pytest.fixture(scope="module")
def spikes():
    """Sample numbers of each cluster; cluster 5 fires most."""
    rng = np.random.default_rng(0)
    return {cluster: np.sort(rng.integers(0, 60 * RATE, 50 * cluster)) for cluster in GROUPS}


def write(folder, spikes, *, table="cluster_info.tsv", column="group", flat=True):
    samples = np.concatenate(list(spikes.values())).astype(np.uint64)
    clusters = np.repeat(list(spikes), [len(train) for train in spikes.values()]).astype(np.int32)
    order = np.argsort(samples, kind="stable")
    np.save(folder / "spike_times.npy", samples[order] if flat else samples[order][:, None])
    np.save(folder / "spike_clusters.npy", clusters[order])
    (folder / "params.py").write_text(PARAMS)
    facts = pd.DataFrame({"cluster_id": list(GROUPS), "depth": [40.0, 60.0, 80.0, 0.0], column: list(GROUPS.values())})
    facts.to_csv(folder / table, sep="\t", index=False)


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("cluster_info.tsv", "group"),
        ("cluster_group.tsv", "group"),
        ("cluster_group.tsv", "KSLabel"),
        ("cluster_KSLabel.tsv", "KSLabel"),
    ],
)
def test_good_clusters_come_back_in_seconds(table, column, spikes, tmp_path):
    write(tmp_path, spikes, table=table, column=column, flat=column == "group")
    trains = load_phy(tmp_path)
    assert list(trains.times) == ["2", "9"]
    for cluster in (2, 9):
        np.testing.assert_array_equal(trains.times[str(cluster)], spikes[cluster] / RATE)
    assert trains.units.depth.tolist() == [40.0, 80.0]


def test_groups_are_chosen(spikes, tmp_path):
    write(tmp_path, spikes)
    assert list(load_phy(tmp_path, group=["good", "mua"]).times) == ["2", "5", "9"]
    assert list(load_phy(tmp_path, group=None).times) == ["2", "5", "9", "11"]
    with pytest.raises(
        ValueError, match=r"no cluster of .* is in group 'best'; there are 2 'good', 1 'mua', 1 'noise'"
    ):
        load_phy(tmp_path, group="best")


def test_groups_of_kilosort_count_where_nobody_set_one(spikes, tmp_path):
    write(tmp_path, spikes, column="KSLabel")
    table = pd.read_csv(tmp_path / "cluster_info.tsv", sep="\t").assign(group=np.nan)
    table.to_csv(tmp_path / "cluster_info.tsv", sep="\t", index=False)
    assert list(load_phy(tmp_path).times) == ["2", "9"]


def test_kilosort_without_phy(spikes, tmp_path):
    write(tmp_path, spikes)
    (tmp_path / "spike_clusters.npy").rename(tmp_path / "spike_templates.npy")
    assert list(load_phy(tmp_path).times) == ["2", "9"]


def test_params_are_read_as_text_and_never_run(spikes, tmp_path):
    write(tmp_path, spikes)
    (tmp_path / "params.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\nsample_rate = 3e4  # Hz\n")
    assert load_phy(tmp_path).times["2"][0] == spikes[2][0] / RATE
    assert not (tmp_path / "run").exists()
    (tmp_path / "params.py").write_text("sample_rate = 10 * 3000\n")
    with pytest.raises(ValueError, match="no number sample_rate"):
        load_phy(tmp_path)
    assert load_phy(tmp_path, sample_rate=60_000).times["2"][0] == spikes[2][0] / 60_000


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda f: (f / "spike_times.npy").unlink(), FileNotFoundError, "no spike_times.npy in"),
        (lambda f: (f / "cluster_info.tsv").unlink(), ValueError, "no table of groups of clusters; pass group=None"),
        (lambda f: np.save(f / "spike_clusters.npy", np.arange(3)), ValueError, "spike_times for 3 spike_clusters"),
        (lambda f: np.save(f / "spike_times.npy", np.ones(9)), ValueError, "must contain whole numbers, got float64"),
        (lambda f: (f / "spike_times.npy").write_bytes(b"cut"), ValueError, "cannot read .*spike_times.npy"),
        (lambda f: (f / "cluster_info.tsv").write_text("x\ty\n1\t2\n"), ValueError, "has no column cluster_id"),
        (
            lambda f: np.save(f / "spike_times.npy", np.array([{}], dtype=object), allow_pickle=True),
            ValueError,
            "cannot read .*spike_times.npy: Object arrays",
        ),
    ],
)
def test_folders_that_are_incomplete_are_refused_in_one_line(spoil, error, message, spikes, tmp_path):
    write(tmp_path, spikes)
    spoil(tmp_path)
    with pytest.raises(error, match=message) as raised:
        load_phy(tmp_path)
    assert "\n" not in str(raised.value)


def test_clusters_become_units_with_their_facts(spikes, tmp_path):
    write(tmp_path, spikes)
    onsets = np.arange(1.0, 59.0)
    table = pd.DataFrame({"onset": onsets, "stimulus": np.tile(["a", "b"], 29)})
    responses = count_spikes(load_phy(tmp_path), table, window=(0.0, 0.5), measure="count")
    assert responses.unit.values.tolist() == ["2", "9"]
    assert responses.depth.values.tolist() == [40.0, 80.0]
    assert responses.group.values.tolist() == ["good", "good"]
    assert responses.n_spikes.values.tolist() == [100, 450]
    train = spikes[9] / RATE
    expected = [((train >= onset) & (train < onset + 0.5)).sum() for onset in onsets[::2]]
    assert responses.sel(stimulus="a", unit="9").values.tolist() == expected


def test_a_cluster_that_is_listed_twice_is_refused(spikes, tmp_path):
    write(tmp_path, spikes)
    with (tmp_path / "cluster_info.tsv").open("a") as table:
        table.write((tmp_path / "cluster_info.tsv").read_text().splitlines()[1] + "\n")
    with pytest.raises(ValueError, match=r"cluster_info.tsv has 1 clusters twice, such as 2; keep one$"):
        load_phy(tmp_path)
