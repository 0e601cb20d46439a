"""Results for other programs: flat tables, NWB files, and weights of sparse autoencoders as safetensors."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
