from .contrasts import plot_contrasts as plot_contrasts
from .difficulty import plot_difficulty as plot_difficulty
from .distributions import plot_distributions as plot_distributions
from .finders import plot_finders as plot_finders
from .quality_curve import plot_sweep as plot_sweep
from .recovered_directions import plot_recovery as plot_recovery
from .stimulus_grid import plot_top_stimuli as plot_top_stimuli
from .unit_reliability import plot_reliability as plot_reliability
