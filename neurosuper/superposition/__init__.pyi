from .axes import axis_alignment as axis_alignment
from .axes import rotate_units as rotate_units
from .geometry import interference as interference
from .matched_units import privileged_axes as privileged_axes
from .matched_units import soft_matching as soft_matching
from .sparse_codes import sparseness as sparseness
from .spectra import spectrum as spectrum
