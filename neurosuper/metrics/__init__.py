"""Image metrics: each embeds images, and the (squared) distance between embeddings is the distance of the images."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
