"""Differences between sets of scores, with intervals and tests: labelled skins over scipy.stats.

Items are units or directions, each with a score, such as its interpretability index.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
