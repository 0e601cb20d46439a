"""Check settings that users pass, and put errors of other libraries in one line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral, Real

import numpy as np

LARGEST_SEED, LARGEST_DRAWN_SEED = 2**64 - 1, 2**31 - 1  # that torch takes; that every generator can draw
Seed = int | np.random.Generator | np.random.RandomState | None  # the type of every `random_state`; see `check_seed`


def check_count(name: str, value: object, least: int = 1, most: int | None = None, why: str = "") -> int:
    """Return a setting that must be a whole number of at least `least`, and at most `most`.

    Parameters
    ----------
    name : str
        The caller's own parameter, which the error names.
    value : object
        What the user passed.
    least, most : int
        The smallest and largest number allowed; None is no upper limit.
    why : str, optional
        Added to the error after the limits, such as ", the number of images".

    Raises
    ------
    ValueError
        Not a whole number, or outside the limits.

    Examples
    --------
    >>> check_count("top", 5, least=2)
    5
    >>> check_count("top", 0)
    Traceback (most recent call last):
    ValueError: top must be a whole number of at least 1, got 0
    """
    if is_count(value, least) and (most is None or int(value) <= most):  # type: ignore[call-overload]
        return int(value)  # type: ignore[call-overload]
    allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"{name} must be a whole number {allowed}{why}, got {value!r}")


def is_count(value: object, least: int = 1) -> bool:
    """Return whether a value is a whole number of at least `least`; True and False are not."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def check_counts(name: str, values: int | Sequence[int], least: int = 2) -> np.ndarray:
    """Return one or more whole numbers of at least `least`, as an array of one dimension.

    Raises
    ------
    ValueError
        Anything else.
    """
    counts = np.atleast_1d(np.asarray(values))
    if counts.ndim > 1 or counts.dtype.kind not in "iu" or not counts.size or counts.min() < least:
        raise ValueError(f"{name} must be whole numbers of at least {least}, got {values!r}")
    return counts


def check_one_of(name: str, value: str, allowed: Iterable[str]) -> None:
    """Raise an error if a word is not one of those allowed."""
    if value not in (allowed := tuple(allowed)):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def check_share(name: str, value: float, such_as: float) -> None:
    """Raise an error if a number is not strictly between 0 and 1."""
    if not isinstance(value, Real) or not 0 < value < 1:
        raise ValueError(f"{name} must be strictly between 0 and 1, such as {such_as}; got {value!r}")


def check_seed(random_state: object) -> int | None:
    """Return a seed from an int, None (a new seed each time), or a generator of NumPy, which draws it and advances.

    This is the rule for `random_state` of all functions and finders; `make_rng` gives a generator by the same rule. A
    result has the seed that repeats it in the attr `random_state`: `seed_or_new` returns it.

    Raises
    ------
    ValueError
        An int that is negative, or over 2⁶⁴ − 1.
    TypeError
        Anything else.

    Examples
    --------
    >>> check_seed(3)
    3
    """
    if random_state is None:
        return None
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(LARGEST_DRAWN_SEED))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(LARGEST_DRAWN_SEED))
    if not isinstance(random_state, Integral) or isinstance(random_state, bool):
        raise TypeError(
            "random_state must be an int, None, or a numpy.random.Generator or RandomState, got "
            f"{type(random_state).__name__}"
        )
    if not 0 <= int(random_state) <= LARGEST_SEED:
        raise ValueError(f"random_state must be an int from 0 to 2**64 - 1, got {random_state}")
    return int(random_state)


def make_rng(random_state: object) -> np.random.Generator:
    """Return a generator by the rule of `check_seed`; one that is given is returned itself, and advances.

    Examples
    --------
    >>> int(make_rng(3).integers(100)) == int(make_rng(3).integers(100))
    True
    """
    if isinstance(random_state, np.random.Generator):
        return random_state
    return np.random.default_rng(check_seed(random_state))


def seed_or_new(random_state: object) -> int:
    """Return a seed by the rule of `check_seed`, or a new one for None: with it, a call gives the same result again."""
    seed = check_seed(random_state)
    return int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed


def one_line(error: BaseException) -> str:
    """Return the message of an exception in one line, or its type if there is no message."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def one_line_with_type(error: BaseException) -> str:
    """Return the message of an exception in one line, after its type if the message alone may not be clear."""
    text, kind = " ".join(str(error).split()), type(error).__name__
    return f"{kind}: {text}".rstrip(": ") if type(error) not in (RuntimeError, ValueError) or not text else text
