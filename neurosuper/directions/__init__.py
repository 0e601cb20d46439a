"""Find directions of a population: every finder has `fit`, `transform` and `inverse_transform`.

R (stimulus, unit) responses, D (direction, unit) directions, Z (stimulus, direction) codes, R ≈ Z D + mean.
"""

from neurosuper.directions.archetypal import Archetypal
from neurosuper.directions.base import DirectionFinder
from neurosuper.directions.dictionary import DictionaryLearning
from neurosuper.directions.family import sweep
from neurosuper.directions.ica import ICA
from neurosuper.directions.kmeans import KMeans
from neurosuper.directions.nmf import NMF
from neurosuper.directions.pca import PCA
from neurosuper.directions.random import Random
from neurosuper.directions.sae import SparseAutoencoder
from neurosuper.directions.stability import direction_stability
from neurosuper.directions.units import Units

__all__ = [
    "ICA",
    "NMF",
    "PCA",
    "Archetypal",
    "DictionaryLearning",
    "DirectionFinder",
    "KMeans",
    "Random",
    "SparseAutoencoder",
    "Units",
    "direction_stability",
    "sweep",
]
