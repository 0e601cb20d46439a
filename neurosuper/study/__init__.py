"""Studies: one TOML file names images, systems, finders and metrics, and a run writes numbers and a report."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
