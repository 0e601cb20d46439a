"""Compare brain and network, and units and directions, by the interpretability of each item."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
