"""Figures, one file each. They are `matplotlib.figure.Figure`s: no pyplot, no global state."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
