"""Confidence intervals, tests, effect sizes and power for scores of items, computed by scipy.stats.

Items are units or directions, each with a score, such as its interpretability index.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
