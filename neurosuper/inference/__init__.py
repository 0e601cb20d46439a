"""Is one set of scores higher than another, by how much, and how sure is that: labelled skins over scipy.stats.

Items are units or directions, each with a score, such as its interpretability index.
"""

from neurosuper.inference.bootstrap import bootstrap_interval
from neurosuper.inference.effect import cohens_d, probability_of_superiority
from neurosuper.inference.multiplicity import adjust_p_values
from neurosuper.inference.permutation import describe_test, permutation_test
from neurosuper.inference.power import items_needed, statistical_power

__all__ = [
    "adjust_p_values",
    "bootstrap_interval",
    "cohens_d",
    "describe_test",
    "items_needed",
    "permutation_test",
    "probability_of_superiority",
    "statistical_power",
]
