"""The page on exports can be followed line by line."""

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.export.session import UNITS, write_session

PAGE = Path(__file__).parents[2] / "docs/how-to/export.md"


def test_the_page_on_exports_can_be_followed(responses, images, tmp_path, monkeypatch, rng):
    for package in ("pyarrow", "safetensors"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    write_session(tmp_path / "session.nwb", rng)
    names = {"responses": responses.assign_coords(unit=[str(unit) for unit in UNITS]), "images": images}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(code, names)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("sae_weights.safetensors", "scores.csv", "scores.parquet", "session.nwb")
    ]
    assert_array_equal(names["weights"]["W_dec"], names["sae"].directions_)
    codes = names["again"].transform(names["responses"]).values
    largest = np.sort(names["before"], axis=1)[:, [-4]]
    np.testing.assert_allclose(codes, np.where(names["before"] >= largest, names["before"], 0).clip(0), atol=1e-4)
    assert len(names["scores"]) == 8
