"""Image metrics: each embeds images so that the (squared) distance between embeddings is the metric."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
