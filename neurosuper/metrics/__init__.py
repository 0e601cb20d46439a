"""Image metrics: each embeds images so that the (squared) distance between embeddings is the metric."""

from neurosuper.metrics.base import ImageMetric
from neurosuper.metrics.cache import Cached, cached
from neurosuper.metrics.color import Color
from neurosuper.metrics.features import Features
from neurosuper.metrics.label import Label
from neurosuper.metrics.lpips import LPIPS
from neurosuper.metrics.pairwise import pairwise
from neurosuper.metrics.pixel import Pixel
from neurosuper.metrics.precomputed import Precomputed

__all__ = ["LPIPS", "Cached", "Color", "Features", "ImageMetric", "Label", "Pixel", "Precomputed", "cached", "pairwise"]
