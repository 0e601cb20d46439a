"""Figures, one file each. They are `matplotlib.figure.Figure`s: no pyplot, no global state."""

from neurosuper.plot.difficulty import plot_difficulty
from neurosuper.plot.distributions import plot_distributions
from neurosuper.plot.finders import plot_finders
from neurosuper.plot.recovery import plot_recovery
from neurosuper.plot.reliability import plot_reliability
from neurosuper.plot.sweep import plot_sweep
from neurosuper.plot.top_stimuli import plot_top_stimuli

__all__ = [
    "plot_difficulty",
    "plot_distributions",
    "plot_finders",
    "plot_recovery",
    "plot_reliability",
    "plot_sweep",
    "plot_top_stimuli",
]
