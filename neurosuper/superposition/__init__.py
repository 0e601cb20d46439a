"""Measure superposition: more features than units, on directions that are not orthogonal."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
