"""Activations of network layers as responses `(stimulus, unit)`; networks by name, and with random weights."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
