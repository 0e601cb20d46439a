"""Figure of interference: how much each direction points the same way as the others."""

from __future__ import annotations

from typing import overload

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosuper.plot.distributions import draw_groups
from neurosuper.plot.named_results import Results, check_results, group_by_system

__all__ = ["plot_interference"]

LABEL = "root mean square cosine\nwith the other directions"
MARKS = ("root mean square of all", "Welch bound: the least possible")


@overload
def plot_interference(result: Results, *, ax: None = None) -> Figure: ...
@overload
def plot_interference(result: Results, *, ax: Axes) -> Axes: ...
def plot_interference(result: Results, *, ax: Axes | None = None) -> Figure | Axes:
    r"""Return a figure of how much each direction interferes with the others, against the Welch bound.

    Parameters
    ----------
    result : Dataset (direction,), or mapping of name to Dataset
        From `neurosuper.superposition.interference`. With names such as "V4 · KMeans", finders are grouped by system;
        draw those of a baseline, such as `CovarianceMatched`, in the same figure.
    ax : Axes, optional
        Draw here instead of on a new figure.

    Returns
    -------
    Figure, or `ax`
        Like that of `plot_distributions`: a point per direction, the root mean square of its cosines with all others.
        The bar and the marker are that of all pairs (`rms`), and the dashed line is the Welch bound, below which no
        directions of this number can be in this number of units.

    Raises
    ------
    TypeError
        Neither Datasets nor a mapping of them.
    ValueError
        No result, or one of another function.

    See Also
    --------
    neurosuper.superposition.interference : Returns the results.
    plot_spectrum : The number of dimensions that directions share.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> from neurosuper.superposition import interference
    >>> D = xr.DataArray(np.random.default_rng(0).normal(size=(30, 10)), dims=("direction", "unit"),
    ...                  coords={"direction": np.arange(30).astype(str), "unit": list("abcdefghij")})
    >>> plot_interference({"V4 · Random": interference(D)}).axes[0].get_ylabel()
    'root mean square cosine\nwith the other directions'
    """
    needed = ("interference", "rms", "welch")
    named = check_results(result, "neurosuper.superposition.interference", needed)
    columns, index = [], []
    for system, of_system in group_by_system(named).items():
        for each in of_system:
            # the mean of squared cosines over the K − 1 others
            columns.append(np.sqrt(each.values.interference.values / (each.values.sizes["direction"] - 1)))
            index.append((system, each.finder or str(each.values.attrs.get("method", "directions"))))
    systems, finders = (np.repeat(names, list(map(len, columns))) for names in zip(*index, strict=True))
    lines = {"mean": "rms", "chance_level": "welch"}
    marks = pd.DataFrame(
        {mark: [float(each.values[name]) for each in named] for mark, name in lines.items()},
        pd.MultiIndex.from_tuples([(s, f) for s, f in index]),
    )
    drawn = draw_groups(np.concatenate(columns), systems, finders, label=LABEL, marks=marks, names=MARKS, ax=ax)
    axes = drawn.axes[0] if isinstance(drawn, Figure) else drawn
    axes.set_ylim(bottom=0)
    return drawn
