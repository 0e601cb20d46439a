"""Interpretability of units and directions, scored from the images that drive each of them most."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
