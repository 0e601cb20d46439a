"""Ask whether the directions of a neural population are more interpretable than its single units.

Responses are `stimulus × unit` and codes `stimulus × direction`: every measure of interpretability takes either,
so units against directions, or brain against network, is the same call made twice.
"""

import importlib
from typing import Any

_ROOMS = {
    "responses": (
        "align",
        "average_repetitions",
        "check_responses",
        "drop_constant_units",
        "normalize",
        "split_stimuli",
    ),
    "repetitions": ("split_repetitions",),
    "images": ("check_images", "load_images"),
    "copies": ("average_copies", "find_copies"),
    "reliability": (
        "explainable_variance",
        "ncsnr",
        "noise_ceiling",
        "oracle_correlation",
        "select_units",
        "split_half",
    ),
    "load": (
        "activations",
        "cite",
        "datasets",
        "describe",
        "fetch",
        "load",
        "load_array",
        "load_nwb",
        "load_presentations",
        "load_stimuli",
    ),
    "directions": (
        "ICA",
        "NMF",
        "PCA",
        "Archetypal",
        "DictionaryLearning",
        "KMeans",
        "Random",
        "SparseAutoencoder",
        "Units",
        "direction_stability",
        "sweep",
    ),
    "metrics": ("LPIPS", "Color", "Features", "Label", "Pixel", "Precomputed", "cached", "pairwise"),
    "interpretability": (
        "agreement_with_humans",
        "answer_trials",
        "extrapolate_index",
        "index_difference",
        "index_interval",
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
    ),
    "inference": (
        "adjust_p_values",
        "bootstrap_interval",
        "cohens_d",
        "describe_test",
        "items_needed",
        "permutation_test",
        "probability_of_superiority",
        "statistical_power",
    ),
    "compare": ("compare", "contrast_finders", "contrast_systems", "match_directions"),
    "study": ("run_study",),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__version__ = "0.1.0"
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import neurosuper` stays light."""
    if name not in _HOME:
        raise AttributeError(f"module 'neurosuper' has no attribute {name!r}; it has {', '.join(__all__)}")
    room = importlib.import_module(f"neurosuper.{_HOME[name]}")
    return room if name == _HOME[name] else getattr(room, name)


def __dir__() -> list[str]:
    return __all__
