"""Brain and network side by side, units against directions.

The room and its main function share a name, and a package has one attribute of a name: so the room can be called.
`neurosuper.compare(...)` and `neurosuper.compare.compare(...)` are the same.
"""

import sys
from types import ModuleType

from neurosuper.compare.contrast import contrast_finders, contrast_systems
from neurosuper.compare.matching import match_directions
from neurosuper.compare.side_by_side import compare
from neurosuper.compare.table import headline, summarize

__all__ = ["compare", "contrast_finders", "contrast_systems", "headline", "match_directions", "summarize"]


class _Room(ModuleType):
    __call__ = staticmethod(compare)


sys.modules[__name__].__class__ = _Room
