"""Find directions of a population: each finder has `fit`, `transform` and `inverse_transform`.

R (stimulus, unit) responses, D (direction, unit) directions, Z (stimulus, direction) codes, R ≈ Z D + mean.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
