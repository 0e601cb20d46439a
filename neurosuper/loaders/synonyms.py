"""Usual names of axes and of columns of labels."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

STIMULUS_NAMES = frozenset(
    (
        *("stimulus", "stimuli", "stimulus_id", "stimulus_name", "stim", "stim_id", "image", "images", "image_id"),
        *("image_name", "picture", "photograph", "filename"),
    )
)
TRIAL_NAMES = frozenset(("trial", "trials", "presentation", "presentations"))
REPETITION_NAMES = frozenset(("repetition", "repetitions", "repeat", "repeats", "rep"))
UNIT_NAMES = frozenset(
    (
        *("unit", "units", "unit_id", "neuron", "neurons", "neuron_id", "neuroid", "neuroid_id", "cell", "cells"),
        *("cell_id", "roi", "rois", "roi_id", "channel", "channels", "electrode", "electrodes", "voxel", "voxels"),
        *("site", "sites", "cluster", "cluster_id"),
    )
)
TIME_NAMES = frozenset(("time", "times", "time_bin", "time_bins", "frame", "frames", "bin", "bins", "lag"))
IDS = ("stimulus_id", "image_id")  # Brain-Score's assemblies may have both, with the same values


def usual_names(names: Iterable[Hashable], known: frozenset[str]) -> list[Hashable]:
    """Return the names that are usual ones, in upper or lower case; of `stimulus_id` and `image_id` only the first.

    Examples
    --------
    >>> usual_names(["category", "image_id", "stimulus_id"], STIMULUS_NAMES)
    ['stimulus_id']
    """
    found = [name for name in names if str(name).lower() in known]
    return [IDS[0]] if set(found) == set(IDS) else found
