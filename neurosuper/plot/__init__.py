"""Figures of results, one per file, as `matplotlib.figure.Figure`, without pyplot and its global state."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
