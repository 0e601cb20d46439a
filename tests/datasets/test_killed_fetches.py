"""A fetch that is killed at any moment leaves no wrong file, and the next one completes it."""

import pytest

from tests.datasets.killed_fetches import kill_fetches


@pytest.mark.slow
def test_killed_fetches_continue_to_the_same_result(tmp_path):
    counts = kill_fetches(tmp_path, kills=10)
    assert counts["kills"] >= 10
    assert counts["wrong"] == counts["unequal"] == counts["left_over"] == 0
