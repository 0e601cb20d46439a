"""Figures of results, one per file, on a new `matplotlib.figure.Figure` without pyplot, or on given axes (`ax=`)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
