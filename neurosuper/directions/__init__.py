"""Find directions of a population: every finder has `fit`, `transform` and `inverse_transform`.

R (stimulus, unit) responses, D (direction, unit) directions, Z (stimulus, direction) codes, R ≈ Z D + mean.
"""

from neurosuper.directions.base import DirectionFinder
from neurosuper.directions.kmeans import KMeans
from neurosuper.directions.pca import PCA
from neurosuper.directions.random import Random
from neurosuper.directions.units import Units

__all__ = ["PCA", "DirectionFinder", "KMeans", "Random", "Units"]
