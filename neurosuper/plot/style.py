"""Colours and markers of figures, the same for a finder in all of them; colours that colour-blind readers see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

PLAIN: dict[Any, Any] = {"text.parse_math": False, "text.usetex": False}  # a "$" in a name is a "$"

OKABE_ITO = ("#000000", "#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#0072B2", "#D55E00")  # not its yellow: too light
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h")
SYSTEMS = (5, 6, 3, 4, 1, 2, 0)  # colours of systems, in their order: black is that of single units
FIRST = ("Units", "Random", "PCA", "KMeans")  # these have the same look in every figure, with any other finders


class Look(NamedTuple):
    """Colour and marker of a finder."""

    color: str
    marker: str


def finder_looks(finders: Iterable[str]) -> dict[str, Look]:
    """Return the colour and marker of each finder, which depend on their names, not on their order.

    A result without a name, "", has those of single units.

    Examples
    --------
    >>> finder_looks(["KMeans", "NMF"])["KMeans"]
    Look(color='#009E73', marker='D')
    """
    drawn = set(finders)
    names = [*FIRST, *sorted(drawn - {*FIRST, ""})]
    looks = {name: Look(OKABE_ITO[i % len(OKABE_ITO)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}
    return {name: look for name, look in (looks | {"": looks["Units"]}).items() if name in drawn}


def system_looks(systems: Iterable[str]) -> dict[str, Look]:
    """Return the colour and marker of each system, by their order.

    Examples
    --------
    >>> system_looks(["V4", "layer3"])["layer3"]
    Look(color='#D55E00', marker='s')
    """
    return {
        name: Look(OKABE_ITO[SYSTEMS[i % len(SYSTEMS)]], MARKERS[i % len(MARKERS)]) for i, name in enumerate(systems)
    }
