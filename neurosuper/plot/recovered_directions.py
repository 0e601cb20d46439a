"""Figure of how well finders recover planted directions."""

from __future__ import annotations

from typing import overload

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosuper.plot.distributions import draw_groups

__all__ = ["plot_recovery"]


@overload
def plot_recovery(recovery: xr.DataArray, *, ax: None = None) -> Figure: ...
@overload
def plot_recovery(recovery: xr.DataArray, *, ax: Axes) -> Axes: ...
def plot_recovery(recovery: xr.DataArray, *, ax: Axes | None = None) -> Figure | Axes:
    """Return a figure of the recovery of each planted direction, by system and finder.

    Parameters
    ----------
    recovery : DataArray (fit, planted)
        The largest |cosine| of each planted direction with any found one, in [0, 1]; with the coords `fit_system` and
        `fit_finder` on `fit`.
    ax : Axes, optional
        Draw here instead of on a new figure.

    Returns
    -------
    Figure, or `ax`
        Like that of `plot_distributions`, with one point per planted direction and fit; bars and markers are means.

    See Also
    --------
    neurosuper.directions.recovery : Returns the recovery of one fit.
    plot_distributions : The interpretability index in the same form.

    Examples
    --------
    >>> import xarray as xr
    >>> recovery = xr.DataArray([[0.4, 0.5], [0.8, 0.9]], dims=("fit", "planted"),
    ...     coords={"fit_system": ("fit", ["V4"] * 2), "fit_finder": ("fit", ["Units", "KMeans"])})
    >>> plot_recovery(recovery).axes[0].get_ylabel()
    'max |cosine| with a planted direction'
    """
    recovery = recovery.transpose("fit", "planted")
    systems, finders = (
        np.repeat(recovery[name].values.astype(str), recovery.sizes["planted"]) for name in ("fit_system", "fit_finder")
    )
    values, label = recovery.values.ravel(), "max |cosine| with a planted direction"
    means = pd.DataFrame({"mean": pd.Series(values).groupby([systems, finders]).mean()})
    drawn = draw_groups(values, systems, finders, label=label, marks=means, ax=ax)
    axes = drawn.axes[0] if isinstance(drawn, Figure) else drawn
    axes.set_ylim(0, max(1.03, axes.get_ylim()[1] if ax is not None else 0))  # room for the legend within given axes
    return drawn
