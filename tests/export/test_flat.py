"""A flat table has every number of a comparison, and other readers get the same values and types."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neurosuper import Color, KMeans, Pixel, Units, compare
from neurosuper.export import tidy


@pytest.fixture
def comparison(responses, images):
    areas = responses.assign_coords(area=("unit", ["V1"] * 4 + ["V4"] * 4), depth=("unit", np.arange(8.0)))
    return compare({"mouse": areas}, images, [Units(), KMeans(3)], [Color(), Pixel()], top=3)


def labels_of(comparison, item):
    labels = comparison.top_stimuli.isel(item=item).values
    return str(labels).split(" | ") if labels.ndim == 0 else labels.tolist()


def test_every_number_of_an_item_and_metric_is_in_its_row(comparison):
    """By a loop over items and metrics."""
    table = tidy(comparison)
    numbers = [name for name in comparison.data_vars if {*comparison[name].dims} == {"item", "metric"}]
    assert {"interpretability", "corrected", "chance_level", "corrected_reliability"} <= set(numbers)
    assert len(table) == comparison.sizes["item"] * 2
    row = 0
    for item in range(comparison.sizes["item"]):
        for metric in comparison.metric.values:
            found = table.iloc[row]
            here = comparison.isel(item=item).sel(metric=metric)
            for name in [*numbers, "n_active", "system", "finder", "direction", "area", "metric", "quantity"]:
                np.testing.assert_equal(found[name], here[name].item(), err_msg=name)
            assert found[["top_1", "top_2", "top_3"]].tolist() == labels_of(comparison, item)
            assert found["item"] == item
            row += 1
    assert not {"draw", "rank", "influence", "difference_of_halves", "top_stimuli"} & set(table.columns)


def test_coords_come_first_and_counts_stay_whole_numbers(comparison):
    table = tidy(comparison)
    columns = table.columns.tolist()
    assert columns[0] == "item"
    assert columns.index("area") < columns.index("metric") < columns.index("interpretability") < columns.index("top_1")
    assert table.n_active.dtype.kind == "i"
    assert table.depth.isna().tolist() == [False] * 16 + [True] * (len(table) - 16)


def test_csv_gives_the_same_numbers_again(comparison, tmp_path):
    table = tidy(comparison)
    table.to_csv(tmp_path / "table.csv", index=False)
    again = pd.read_csv(tmp_path / "table.csv")
    texts = table.columns[[kind.kind not in "iufb" for kind in table.dtypes]]
    again[texts] = again[texts].fillna("")
    pd.testing.assert_frame_equal(again, table, rtol=1e-14, check_dtype=False)


def test_parquet_gives_the_same_numbers_and_types_again(comparison, tmp_path):
    """To pandas, and to the reader of Arrow, which other languages share."""
    parquet = pytest.importorskip("pyarrow.parquet")
    table = tidy(comparison)
    table.to_parquet(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), table)
    arrow = parquet.read_table(tmp_path / "table.parquet")
    assert arrow.column("interpretability").to_pylist() == table.interpretability.tolist()
    assert str(arrow.schema.field("n_active").type) == "int64"
    assert arrow.column("top_1").to_pylist() == table.top_1.tolist()


@pytest.mark.parametrize("wrong", [xr.Dataset({"a": ("unit", [1])}), 3], ids=["a Dataset", "a number"])
def test_what_is_not_a_comparison_is_refused(wrong):
    with pytest.raises(ValueError, match="a comparison has the dims item and metric, got"):
        tidy(wrong)
