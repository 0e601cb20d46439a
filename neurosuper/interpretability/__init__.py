"""How interpretable is a unit or direction, judged by the images that drive it most."""

from neurosuper.interpretability.cross_unit import separability
from neurosuper.interpretability.extrapolation import extrapolate_index
from neurosuper.interpretability.humans import agreement_with_humans, read_judgements, validate_against_humans
from neurosuper.interpretability.index import index_of_top, interpretability_index
from neurosuper.interpretability.nulls import (
    noise_floor,
    null_test,
    shuffle_stimuli,
    shuffle_units,
    surrogate_codes,
)
from neurosuper.interpretability.psychophysics import answer_trials, psychophysics
from neurosuper.interpretability.sampling import index_difference, index_interval, index_power
from neurosuper.interpretability.top_stimuli import top_stimuli
from neurosuper.interpretability.trials import make_trials

__all__ = [
    "agreement_with_humans",
    "answer_trials",
    "extrapolate_index",
    "index_difference",
    "index_interval",
    "index_of_top",
    "index_power",
    "interpretability_index",
    "make_trials",
    "noise_floor",
    "null_test",
    "psychophysics",
    "read_judgements",
    "separability",
    "shuffle_stimuli",
    "shuffle_units",
    "surrogate_codes",
    "top_stimuli",
    "validate_against_humans",
]
