"""Privileged axes: whether a rotation of one system spoils its match with another.

A, B (stimulus, item) responses or codes of two systems; Q (item of A, item of A) a rotation; ρ reliabilities.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neurosuper._checks import Seed, check_count, seed_or_new
from neurosuper._progress import progress
from neurosuper.comparison.couplings import couple
from neurosuper.inference.null_draws import p_of_draws
from neurosuper.interpretability.ranking import check_codes
from neurosuper.repetitions import split_repetitions
from neurosuper.responses import average_repetitions, check_responses
from neurosuper.superposition.axes import random_rotation
from neurosuper.superposition.matched_units import Moments, prepare

N_FOR_INTERVAL = 10  # rotations whose mean is subtracted in each half of the stimuli
N_SPLITS = 10  # of the repetitions, for reliabilities


class _Repeated(NamedTuple):
    """Products of two halves of the repetitions, summed over stimuli and averaged over splits."""

    within: tuple[np.ndarray, np.ndarray]  # AᵀA of each half
    between: np.ndarray  # A₁ᵀA₂, made symmetric

    @classmethod
    def of(cls, responses: xr.DataArray, seed: int) -> _Repeated:
        sums = []
        for i in range(N_SPLITS):
            first, second = (
                half.values - half.values.mean(0) for half in split_repetitions(responses, random_state=seed + i)
            )
            across = first.T @ second
            sums.append((first.T @ first, second.T @ second, (across + across.T) / 2))
        of_first, of_second, between = np.mean(sums, axis=0)
        return cls((of_first, of_second), between)

    def reliability(self, Q: np.ndarray | None = None) -> np.ndarray:
        """Return the reliability of averages over all repetitions, of each unit or of each axis of Q; at least 0."""
        one, other, between = (
            M.diagonal() if Q is None else np.einsum("ij,ij->j", Q, M @ Q) for M in (*self.within, self.between)
        )
        r = (between / np.sqrt(one * other)).clip(min=0)
        return 2 * r / (1 + r)  # Spearman and Brown


def privileged_axes(
    a: xr.DataArray,
    b: xr.DataArray,
    *,
    n_rotations: int = 100,
    n_folds: int = 5,
    stimulus_groups: str | None = None,
    n_resamples: int = 100,
    random_state: Seed = 0,
) -> xr.Dataset:
    """Return a test of whether the axes of two systems match better than rotated axes of the same responses do.

    A rotation keeps all distances between response vectors, and so everything that representational similarity or a
    regression sees. If units match better than their rotations, the units themselves are shared (Khosla et al. 2024).

    Parameters
    ----------
    a, b : DataArray (stimulus, item) or (stimulus, repetition, unit)
        Responses or codes of two systems; repetitions are averaged, and give a noise ceiling. `a` is rotated: z-score
        its units first (see `normalize`), as a rotation mixes those of large variance into all others.
    n_rotations : int, optional
        Number of random rotations, at least 19.
    n_folds, stimulus_groups, n_resamples, random_state : optional
        As in `soft_matching`.

    Returns
    -------
    Dataset (rotation)
        `native`, the held-out score of `soft_matching`; `rotated (rotation)`, that of each rotation of `a`, with a
        coupling of its own; `p_value`, the share of scores at least as large as `native`, counting it as one;
        `difference`, `native` minus the mean of `rotated`, with `difference_low` and `difference_high` for other
        stimuli, of these couplings (and of at most 10 of the rotations). If one of the systems has repetitions, also
        `noise_ceiling`, the score that noise leaves to these couplings, and `noise_ceiling_rotated (rotation)`; and the
        same test of scores divided by their ceilings: `native_ceiled`, `rotated_ceiled (rotation)`, `p_value_ceiled`,
        and `difference_ceiled` with `difference_ceiled_low` and `difference_ceiled_high`.

    Raises
    ------
    ImportError, ValueError
        As in `soft_matching`; fewer than two items of `a`; missing repetitions; a noise ceiling of 0.

    See Also
    --------
    soft_matching : The score.
    rotate_units : A rotation of responses, by any amount.

    Notes
    -----
    The test is exact if the distribution of `a` given `b` is the same for all rotations of `a`, as in Gaussian
    responses without privileged axes. A rotation also mixes the noise of units: where some are less reliable than
    others, rotated units are about equally reliable, and only scores relative to their ceilings are comparable. The
    ceiling is Σ T √(ρᵢ ρⱼ) for reliabilities ρ = 2r/(1 + r) of units, or of their rotations, from the correlation r of
    two halves of the repetitions, averaged over 10 splits; it is 1 for a system without repetitions.

    References
    ----------
    Khosla, Williams, McDermott and Kanwisher 2024, "Privileged representational axes in biological and artificial
    neural networks", bioRxiv 2024.06.20.599957.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> a = xr.DataArray(np.random.default_rng(0).laplace(size=(80, 4)), dims=("stimulus", "unit"),
    ...                  coords={"stimulus": np.arange(80).astype(str), "unit": list("abcd")})
    >>> test = privileged_axes(a, a[:, ::-1], n_rotations=19, n_resamples=10)
    >>> round(float(test.native), 6), float(test.p_value)
    (1.0, 0.05)
    """
    check_count("n_rotations", n_rotations, least=19, why=", which allow p = 0.05")
    seed = seed_or_new(random_state)
    (average_a, halves_a), (average_b, halves_b) = (_read_repetitions(system, seed) for system in (a, b))
    pair = prepare(average_a, average_b, n_folds, stimulus_groups, seed)
    n_items = pair.A.shape[1]
    if n_items < 2:
        raise ValueError("a rotation needs at least 2 items of the first system, got 1")
    rng = np.random.default_rng([seed, 1])
    bar = progress(range(n_rotations), desc="rotations", unit="rotation", leave=False)
    rotations = [None, *(random_rotation(n_items, rng) for _ in bar)]
    fits = [[couple(1 - fold.chosen_from.correlations(Q), 1.0) for fold in pair.folds] for Q in rotations]
    scores = np.array(
        [
            np.mean([(T * fold.scored_from.correlations(Q)).sum() for T, fold in zip(fit, pair.folds, strict=True)])
            for Q, fit in zip(rotations, fits, strict=True)
        ]
    )
    ceilings = _ceilings(halves_a, halves_b, rotations, fits)
    ways = {"": scores} if ceilings is None else {"": scores, "_ceiled": scores / ceilings}
    columns: dict[str, Any] = {}
    for way, (native, *rotated) in ways.items():
        columns |= {f"native{way}": native, f"rotated{way}": ("rotation", np.array(rotated))}
        columns |= {f"p_value{way}": p_of_draws(native, np.array(rotated))}
    if ceilings is not None:
        columns |= {"noise_ceiling": ceilings[0], "noise_ceiling_rotated": ("rotation", ceilings[1:])}
    differences = {f"difference{way}": float(each[0] - each[1:].mean()) for way, each in ways.items()}

    def statistic(rows: np.ndarray) -> list[float]:
        chosen = list(zip(rotations, fits, strict=True))[: N_FOR_INTERVAL + 1]
        own = np.array([pair.score(fit, rows, partial(Moments.correlations, Q=Q)) for Q, fit in chosen])
        relative = [own] if ceilings is None else [own, own / ceilings[: len(own)]]
        return [each[0] - each[1:].mean() for each in relative]

    columns |= differences | pair.intervals(differences, statistic, n_resamples, seed)
    attrs = {"method": "soft matching", "quantity": "correlation"} | pair.attrs
    attrs |= {"n_rotations": int(n_rotations), "n_resamples": int(n_resamples), "random_state": seed}
    return xr.Dataset(columns, attrs=attrs)


def _read_repetitions(system: xr.DataArray, seed: int) -> tuple[xr.DataArray, _Repeated | None]:
    """Return responses averaged over repetitions, and what their reliability is computed from, if there are any.

    Items are in order of labels, so that their order does not matter for the rotations that are drawn.
    """
    if "repetition" not in system.dims:
        codes = check_codes(system)
        return codes.sortby(str(codes.dims[1])), None
    responses = check_responses(system).compute().astype(float).sortby("unit")
    return average_repetitions(responses), _Repeated.of(responses, seed)


def _ceilings(
    a: _Repeated | None, b: _Repeated | None, rotations: list[np.ndarray | None], fits: list[list[np.ndarray]]
) -> np.ndarray | None:
    """Return Σ T √(ρᵢ ρⱼ) of native and rotated axes `(1 + rotation,)`; None without repetitions."""
    if a is None and b is None:
        return None
    root_b = 1.0 if b is None else np.sqrt(b.reliability())
    ceilings = np.array(
        [
            (np.mean(fit, axis=0) * (1.0 if a is None else np.sqrt(a.reliability(Q))[:, None]) * root_b).sum()
            for Q, fit in zip(rotations, fits, strict=True)
        ]
    )
    if not (ceilings > 0).all():
        raise ValueError(
            "repetitions have no signal in common, so that the noise ceiling is 0; pass averages over repetitions, or "
            "select reliable units"
        )
    return ceilings
