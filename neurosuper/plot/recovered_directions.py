"""Figure of how well finders recover planted directions."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from neurosuper.plot.distributions import draw_groups

__all__ = ["plot_recovery"]


def plot_recovery(recovery: xr.DataArray) -> Figure:
    """Return a figure of the recovery of each planted direction, by system and finder.

    Parameters
    ----------
    recovery : DataArray (fit, planted)
        The largest |cosine| of each planted direction with any found one, in [0, 1]; with the coords `fit_system` and
        `fit_finder` on `fit`.

    Returns
    -------
    Figure
        Like that of `plot_distributions`, with one point per planted direction and fit.

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
    figure = draw_groups(recovery.values.ravel(), systems, finders, label="max |cosine| with a planted direction")
    figure.axes[0].set_ylim(0, 1.03)
    return figure
