"""Tables of a study file that ask for more than scores: superposition, and comparisons of populations."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from neurosuper.comparison.halved_systems import Remove
from neurosuper.comparison.pairings import Match
from neurosuper.superposition.all_measures import Measure

Similarity = Literal["cka", "rsa", "procrustes", "encoding", "encoding back", "twins", "twins back", "soft matching"]
N_FEWEST = 19  # permutations, which allow p = 0.05


def refuse_repeats(values: list) -> list:
    """Return a list whose values are all different."""
    if len(set(values)) < len(values):
        raise ValueError("each may be named once")
    return values


def _refuse_equal_systems(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    for a, b in pairs:
        if a == b:
            raise ValueError(f"a pair is of two systems, got {a!r} twice")
    return pairs


Pairs = Annotated[
    list[tuple[str, str]], Field(min_length=1), AfterValidator(refuse_repeats), AfterValidator(_refuse_equal_systems)
]
Names = Annotated[list[str], AfterValidator(refuse_repeats)]


class Superposition(BaseModel):
    """Measures of superposition of a study: the table `[superposition]` of a file; an empty one asks for all.

    Parameters
    ----------
    measures : list of str, optional
        Some of "interference", "spectrum", "sparseness", "rotation", "synergy" and "disentanglement". None: all that
        are possible; what is not is listed in the results.
    metric : str, optional
        Name of a metric of the study; None: its first.
    baseline, max_units, n_rotations, stimulus_dim : optional
        See `neurosuper.superposition.measure_superposition`.

    See Also
    --------
    Factors : What is known of the stimuli, for "disentanglement".
    neurosuper.study.Study : All settings of a study.

    Examples
    --------
    >>> Superposition(measures=["rotation"]).max_units
    256
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    measures: Annotated[list[Measure], Field(min_length=1), AfterValidator(refuse_repeats)] | None = None
    metric: str | None = None
    baseline: float | Literal["min", "median"] = "median"
    max_units: Annotated[int, Field(ge=2)] = 256
    n_rotations: Annotated[int, Field(ge=19)] = 19
    stimulus_dim: Annotated[float, Field(gt=0)] | None = None


class Factors(BaseModel):
    """Factors of the stimuli of a study, for disentanglement: the table `[factors]` of a file.

    Parameters
    ----------
    names : list of str, optional
        At least two: columns of the table, or stimulus coords of the images or of the systems, such as "category".
        None: all columns of the table.
    path : str, optional
        A table (.csv) with a column `stimulus`, the labels of the images.
    kinds : dict of str to {"label", "number"}, optional
        Of factors that are not what they look like, such as numbers that are labels.
    bins : int, optional
        Of codes and of factors that are numbers: at most a fifth of the held-out stimuli.

    See Also
    --------
    Superposition : The measures.
    neurosuper.superposition.disentanglement : What factors serve.

    Examples
    --------
    >>> Factors(names=["category", "pose"], kinds={"pose": "label"}).bins
    20
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    names: Annotated[list[str], Field(min_length=2)] | None = None
    path: str | None = None
    kinds: dict[str, Literal["label", "number"]] = {}
    bins: Annotated[int, Field(ge=2)] = 20

    @model_validator(mode="after")
    def _check_source(self) -> Factors:
        if self.names is None and self.path is None:
            raise ValueError("give names of stimulus coords, such as ['category', 'pose'], or the path of a table")
        if self.names is not None and (unknown := sorted(self.kinds.keys() - set(self.names))):
            raise ValueError(f"kinds has {unknown[0]!r}, which is not among names: {', '.join(self.names)}")
        return self


class Populations(BaseModel):
    """Similarity of the systems of a study: the table `[populations]` of a file; an empty one asks for all pairs.

    Directions are found again, in half of the stimuli that all systems share, also of a system with `fit_on`; all is
    scored on the other half. Finders have the first seed of the study.

    Parameters
    ----------
    measures : list of str, optional
        Some of "cka", "rsa", "procrustes", "encoding", "encoding back", "twins", "twins back" and "soft matching". The
        default is "cka", "rsa" and "twins".
    finders : list of str, optional
        Names of finders of the study, whose codes are compared too; [] for none. None: all but `Units`, without the
        baselines that the study adds.
    pairs : list of (str, str), optional
        Names of two systems, a layer by both names, as in "net layer1". None: all pairs.
    remove, n_rotations, n_permutations, n_resamples : optional
        See `neurosuper.comparison.compare_populations`.

    See Also
    --------
    Twins : Single items of two systems.
    neurosuper.comparison.compare_populations : The measures.

    Examples
    --------
    >>> Populations(pairs=[["V4", "net layer1"]]).measures
    ['cka', 'rsa', 'twins']
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    measures: Annotated[list[Similarity], Field(min_length=1), AfterValidator(refuse_repeats)] = ["cka", "rsa", "twins"]
    finders: Names | None = None
    pairs: Pairs | None = None
    remove: Remove = "common"
    n_rotations: Annotated[int, Field(ge=1)] = 5
    n_permutations: Annotated[int, Field(ge=N_FEWEST)] = 199
    n_resamples: Annotated[int, Field(ge=10)] = 100


class Twins(BaseModel):
    """Twins of the systems of a study: the table `[twins]` of a file; an empty one asks for all pairs of systems.

    Compared are units, and the codes of each finder with the first seed; nothing is fitted again. Where directions were
    found on one part of the stimuli, partners are chosen on it, and scored on the rest.

    Parameters
    ----------
    pairs : list of (str, str), optional
        Names of two systems: items of the first get partners among those of the second. None: all pairs, in the order
        of the file; those that are not possible are listed in the results.
    finders : list of str, optional
        Names of finders of the study, whose codes are compared too; [] for none. None: all but `Units`, without the
        baselines that the study adds.
    match, mass, remove, signed, n_permutations, n_rotations : optional
        See `neurosuper.comparison.twins`.

    See Also
    --------
    Populations : Systems as wholes.
    neurosuper.comparison.twins : The partners and their tests.

    Examples
    --------
    >>> Twins().match
    'best'
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pairs: Pairs | None = None
    finders: Names | None = None
    match: Match = "best"
    mass: Annotated[float, Field(gt=0, lt=1)] | None = None
    remove: Remove = "common"
    signed: Annotated[bool, Field(strict=True)] = False
    n_permutations: Annotated[int, Field(ge=N_FEWEST)] = 999
    n_rotations: Annotated[int, Field(ge=0)] = 20

    @model_validator(mode="after")
    def _check_mass(self) -> Twins:
        if (self.match == "partial") != (self.mass is not None):
            raise ValueError("mass, such as 0.5, is for match = 'partial', which needs it")
        return self
