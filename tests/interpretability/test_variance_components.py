import numpy as np
import pytest

from neurosuper.interpretability.variance_components import ItemScores, _fall, variances_of


@pytest.mark.parametrize(("of_halves", "fall"), [(0.1, 0.5), (0.5, 0.5), (0.7, 0.7), (1.0, 1.0), (3.0, 1.0)])
def test_the_fall_of_variances_is_that_of_quarters_to_halves_and_bounded_by_theory(of_halves, fall):
    """A variance over stimuli at most halves when their number doubles, as for a mean, and never increases."""
    quarters = np.array([[0.0, 1.0, 0.0, 1.0]]) * 3**0.5  # variance 1 between groups
    assert _fall(of_halves, [quarters]) == pytest.approx(fall)
    assert np.isnan(_fall(of_halves, [None]))


def test_components_of_a_crossed_design_are_recovered(rng):
    """S, I and J are planted; 2,000 splits and 400 items estimate them to within 10 %."""
    n_draws, n_items, shared, interaction, of_items = 2000, 400, 0.5, 2.0, 1.0
    halves = rng.normal(0, shared**0.5, (n_draws, 2, 1)) + rng.normal(0, interaction**0.5, (n_draws, 2, n_items))
    scores = rng.normal(0, (interaction + of_items) ** 0.5, n_items)
    variances = variances_of([ItemScores(scores, halves)])
    components = variances.summary([n_items])
    assert components["var_stimuli"] == pytest.approx(shared, rel=0.1)
    assert components["var_interaction"] == pytest.approx(interaction, rel=0.1)
    assert components["var_items"] == pytest.approx(scores.var(ddof=1) - interaction, rel=0.1)
    assert variances.total([n_items]) == pytest.approx(shared + scores.var(ddof=1) / n_items, rel=0.1)
