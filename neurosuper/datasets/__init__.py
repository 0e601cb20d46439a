"""Published datasets by id: downloaded, verified, cached, and read by the loader that their manifest names."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
