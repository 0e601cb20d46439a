"""Conditions select presentations as they select units."""

import numpy as np
import pytest
import xarray as xr

from neurosuper import load_nwb
from neurosuper.loaders import load_presentations
from neurosuper.loaders.nwb.conditions import rows_that_meet

TABLE = {
    "correct": np.array([True, False, True, True]),
    "block": np.array([1, 1, 2, 3]),
    "contrast": np.array([0.5, 1.0, np.nan, 1.0]),
    "task": np.array(["view", "view", "count", "view"]),
    "size": np.array(["2.0", "null", "4.0", ""]),  # as AllenSDK writes numbers
}


def met(where):
    kept = rows_that_meet(where, TABLE.__getitem__, 4, setting="presentations_where", what="presentation")
    return np.flatnonzero(kept).tolist()


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ({}, [0, 1, 2, 3]),
        ({"correct": True}, [0, 2, 3]),
        ({"task": "view", "correct": True}, [0, 3]),
        ({"block": [1, 3]}, [0, 1, 3]),
        ({"block": ("<", 2)}, [0, 1]),
        ({"block": ["<", 2]}, [0, 1]),  # as in a study file
        ({"block": [(">", 1), ("<", 3)]}, [2]),
        ({"block": [[">", 1], ["<=", 3]]}, [2, 3]),
        ({"block": ((">", 1), ("!=", 3))}, [2]),
        ({"contrast": (">=", 0.5)}, [0, 1, 3]),  # NaN meets no comparison
        ({"size": (">", 1)}, [0, 2]),
        ({"size": [4, "null"]}, [1, 2]),
    ],
)
def test_rows_meet_all_conditions(where, rows):
    assert met(where) == rows


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"task": "read"}, "no presentation left of 4: task keeps 0 .it has 'count', 'view'.; loosen presentations_w"),
        ({"task": "count", "block": 1}, "task keeps 1, block keeps 2; loosen"),
        ({"task": (">", 1)}, r"presentations_where\['task'\] compares <U5 with 1; operators compare numbers"),
        ({"block": ("=>", 1)}, "a value, a list of values, or .operator, number. with one of == != < <= > >="),
        ({"block": []}, "block keeps 0 .it has '1', '2', '3'."),
    ],
)
def test_conditions_that_nothing_meets_say_what_there_is(where, message):
    with pytest.raises(ValueError, match=message) as raised:
        met(where)
    assert "\n" not in str(raised.value)


def test_conditions_are_a_mapping():
    with pytest.raises(
        ValueError, match="presentations_where must map columns to conditions, such as .* got 'correct'"
    ):
        met("correct")


@pytest.fixture(scope="module")
def path(mouse):
    """The mouse, with two more columns in its table of presentations: `running` and the time of a photodiode."""

    def add(file):
        table = file[f"intervals/{mouse.table}"]
        n = len(mouse.onsets)
        added = {"running": np.arange(n) % 3 == 0, "photodiode_on": mouse.onsets + 0.03125}
        for name, values in added.items():
            table[name] = values
            table[name].attrs.update({"namespace": "hdmf-common", "neurodata_type": "VectorData", "description": name})
            table[name].attrs["object_id"] = f"00000000-0000-0000-0000-00000000000{len(name) % 10}"
        table.attrs["colnames"] = [*table.attrs["colnames"], *added]

    return mouse.damaged(add).path


SCENES = {"presentations": "natural_scenes_presentations", "stimulus_column": "frame", "blanks": [-1]}
SHOWN = {"presentations": "natural_scenes_presentations", "index_series": "shown", "blanks": [-1]}


@pytest.mark.parametrize("request_", [SCENES, SHOWN], ids=["column", "index"])
def test_presentations_are_those_whose_rows_meet_the_conditions(path, mouse, request_):
    where = {"running": True, "start_time": [(">=", mouse.onsets[10]), ("<", mouse.onsets[40])]}
    shown = load_presentations(path, **request_, presentations_where=where)
    rows = [i for i in range(10, 40) if i % 3 == 0]
    expected = [i for i in rows if mouse.indices[i] >= 0]
    np.testing.assert_array_equal(shown.onset, mouse.onsets[expected])
    counts = [shown.attrs[name] for name in ("n_presentations", "n_excluded", "n_blanks", "n_missing")]
    assert counts == [len(expected), 60 - len(rows), len(rows) - len(expected), 0]


def test_responses_to_some_presentations_are_those_of_all_at_the_same_times(path, mouse):
    window = {"window": mouse.window, "measure": "count"}
    some = load_nwb(path, **SCENES, **window, presentations_where={"running": True})
    assert some.attrs["presentations_where"] == "{'running': True}"
    rows = np.flatnonzero((np.arange(60) % 3 == 0) & (mouse.indices >= 0))
    for stimulus in some.stimulus.values:
        own = [i for i in rows if mouse.indices[i] == int(stimulus)]
        np.testing.assert_array_equal(some.sel(stimulus=stimulus)[: len(own)], mouse.counts[own])
        assert some.sel(stimulus=stimulus)[len(own) :].isnull().all()


def test_another_column_gives_the_onsets(path, mouse):
    shown = load_presentations(path, **SCENES, onset_column="photodiode_on")
    np.testing.assert_array_equal(shown.onset, mouse.onsets[mouse.indices >= 0] + 0.03125)
    start, stop = mouse.window
    by_start = load_nwb(path, **SCENES, window=(start + 0.03125, stop + 0.03125), measure="count")
    by_photodiode = load_nwb(path, **SCENES, window=mouse.window, measure="count", onset_column="photodiode_on")
    xr.testing.assert_equal(by_photodiode, by_start)
    assert by_photodiode.attrs["onset_column"] == "photodiode_on"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"presentations_where": {"speed": 1}}, "no column 'speed' in table 'natural_scenes_presentations'; it has "),
        ({"onset_column": "pdOn"}, "no column 'pdOn' in table 'natural_scenes_presentations'; it has 'start_time'"),
        ({"onset_column": "running"}, "column 'running' .* must contain numbers of seconds, got bool"),
        (
            {"presentations_where": {"running": "yes"}},
            "no presentation of table .* left of 60: running keeps 0 .it has",
        ),
    ],
)
def test_wrong_columns_are_named_with_what_there_is(path, settings, message):
    with pytest.raises(ValueError, match=message) as raised:
        load_presentations(path, **SCENES, **settings)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("settings", [{"onset_column": "photodiode_on"}, {"presentations_where": {"running": True}}])
def test_columns_need_a_table_of_presentations(path, settings):
    with pytest.raises(
        ValueError, match="presentations is None, .* these name columns of a table; name a table of int"
    ):
        load_presentations(path, presentations=None, index_series="shown", **settings)
