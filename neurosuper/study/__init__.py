"""A study: one TOML file that names systems, finders and metrics, and runs from data to report."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
