"""A cache of its own for each test."""

from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty folder named in NEUROSUPER_CACHE, which does not exist yet."""
    monkeypatch.setenv("NEUROSUPER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
