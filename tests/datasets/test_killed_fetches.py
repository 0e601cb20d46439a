"""A fetch that is killed at any moment leaves nothing wrong, and the next one ends as if nothing had been."""

import pytest

from tests.datasets.killed_fetches import kill_fetches


@pytest.mark.slow
def test_fetches_that_are_killed_go_on_to_the_same_end(tmp_path):
    counts = kill_fetches(tmp_path, kills=10)
    assert counts["kills"] >= 10
    assert counts["wrong"] == counts["unequal"] == counts["left_over"] == 0
