from .bootstrap import bootstrap_interval as bootstrap_interval
from .effect import cohens_d as cohens_d
from .effect import probability_of_superiority as probability_of_superiority
from .multiplicity import adjust_p_values as adjust_p_values
from .permutation import permutation_test as permutation_test
from .permutation import test_sentence as test_sentence
from .power import items_needed as items_needed
from .power import statistical_power as statistical_power
