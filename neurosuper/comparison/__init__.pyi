from .contrast import contrast_finders as contrast_finders
from .contrast import contrast_systems as contrast_systems
from .side_by_side import compare as compare
from .table import headline as headline
from .table import summarize as summarize
