"""The baseline of each finder: Gaussian directions with the mean and covariance of its prepared responses."""

from __future__ import annotations

from collections.abc import Mapping

from neurosuper.directions import CovarianceMatched, DirectionFinder, Exemplars, Random, Units

BASELINES = (Units, Random, Exemplars, CovarianceMatched)  # finders without a baseline of their own
Preparation = tuple[str, ...]  # names of the settings that are True


def add_baselines(
    finders: Mapping[str, DirectionFinder],
) -> tuple[dict[str, DirectionFinder], dict[str, str]]:
    """Return finders with the baselines that they lack at the end, and the name of the baseline of each, "" if none.

    A `CovarianceMatched` is the baseline of all finders that prepare responses as it does. One that is lacking takes
    the seed, device and dtype of the first of them.

    Parameters
    ----------
    finders : mapping of name to finder

    Raises
    ------
    ValueError
        A finder has the name of a baseline that would be added.

    Examples
    --------
    >>> from neurosuper import KMeans, Units
    >>> finders, baseline_of = add_baselines({"Units": Units(), "KMeans": KMeans()})
    >>> list(finders), finders["CovarianceMatched"].normalize
    (['Units', 'KMeans', 'CovarianceMatched'], True)
    >>> baseline_of
    {'Units': '', 'KMeans': 'CovarianceMatched', 'CovarianceMatched': ''}
    """
    given: dict[Preparation, str] = {}
    wanted: dict[Preparation, str] = {}  # with the name of the first finder
    for name, finder in finders.items():
        if isinstance(finder, CovarianceMatched):
            given.setdefault(preparation_of(finder), name)
        elif not isinstance(finder, BASELINES):
            wanted.setdefault(preparation_of(finder), name)
    is_only = len(given.keys() | wanted.keys()) == 1
    names = {preparation: given.get(preparation) or _name(preparation, is_only) for preparation in wanted}
    added: dict[str, DirectionFinder] = {}
    for preparation, first in wanted.items():
        if preparation not in given:
            _check_name(names[preparation], first, finders)
            added[names[preparation]] = _matched(finders[first], preparation)
    baseline_of = {
        name: "" if isinstance(finder, BASELINES) else names[preparation_of(finder)] for name, finder in finders.items()
    }
    return {**finders, **added}, baseline_of | dict.fromkeys(added, "")


def preparation_of(finder: DirectionFinder) -> Preparation:
    """Return the settings by which responses are prepared; those of whitened ones do not depend on `center`."""
    settings = {"center": finder.center and not finder.whiten, "normalize": finder.normalize, "whiten": finder.whiten}
    return tuple(name for name, is_on in settings.items() if is_on)


def _name(preparation: Preparation, is_only: bool) -> str:
    return "CovarianceMatched" + (f" ({', '.join(preparation)})" if preparation and not is_only else "")


def _check_name(name: str, finder: str, finders: Mapping[str, DirectionFinder]) -> None:
    if name in finders:
        raise ValueError(
            f"the baseline of {finder!r} would have the name of another finder, {name!r}; give that one another name, "
            "{name: finder, …}, or pass baselines=False"
        )


def _matched(finder: DirectionFinder, preparation: Preparation) -> CovarianceMatched:
    return CovarianceMatched(
        random_state=finder.random_state,
        device=finder.device,
        dtype=finder.dtype,
        **dict.fromkeys(preparation, True),
    )
