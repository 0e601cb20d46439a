"""How interpretable is a unit or direction, judged by the images that drive it most."""

from neurosuper.interpretability.index import index_of_top, interpretability_index
from neurosuper.interpretability.top_stimuli import top_stimuli

__all__ = ["index_of_top", "interpretability_index", "top_stimuli"]
