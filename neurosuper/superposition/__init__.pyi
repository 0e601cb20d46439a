from .feature_counts import count_features as count_features
from .interpolation import between_directions as between_directions
from .interpretable_halves import clustered_apart as clustered_apart
from .interpretable_halves import split_units as split_units
from .sparsified import sparsify as sparsify
from .sparsified import sparsity_curve as sparsity_curve
from .synergies import synergy as synergy
from .weights import weight_interference as weight_interference
