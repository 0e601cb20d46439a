from .contrast import contrast_finders as contrast_finders
from .contrast import contrast_systems as contrast_systems
from .fitting import Fit as Fit
from .fitting import fit_systems as fit_systems
from .scoring import score_fits as score_fits
from .side_by_side import compare as compare
from .table import headline as headline
from .table import summarize as summarize
