"""The order of stimuli with equal codes: drawn at random for each item, from the labels and a seed.

An order that depends on nothing but labels and the seed is the same for the stimuli in any order or any part of them,
and for codes in blocks.
"""

from __future__ import annotations

import hashlib
from functools import cached_property

import numpy as np

# SplitMix64 (Steele, Lea, Flood 2014, OOPSLA, section 3): the increment, and the multipliers of its finalizer.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
N_FIRST = 100  # ties among this many codes are found at little cost; most sparse codes and counts have some


class TieOrder:
    """Numbers that rank stimuli with equal codes, for each item; labels are hashed when they are first needed.

    Parameters
    ----------
    stimuli, items : array
        Labels.
    seed : int
        Another seed draws other orders.
    from_end : bool, optional
        Reverse the orders, for the stimuli with the smallest codes: the top and the bottom of one item then share no
        stimulus if there are enough.
    """

    def __init__(self, stimuli: np.ndarray, items: np.ndarray, seed: int, *, from_end: bool = False):
        self.stimuli, self.items, self.seed, self.from_end = stimuli, items, seed, from_end

    def numbers(self, stimuli: np.ndarray | slice, items: np.ndarray | slice | int) -> np.ndarray:
        """Return the numbers of stimuli and items at these positions, which are broadcast; the smallest is first."""
        numbers = _mix(self._of_stimuli[stimuli] ^ self._of_items[items])
        return ~numbers if self.from_end else numbers

    @cached_property
    def _of_stimuli(self) -> np.ndarray:
        return _hash_labels(self.stimuli)

    @cached_property
    def _of_items(self) -> np.ndarray:
        seed = _mix(np.array([self.seed % 2**64], np.uint64))
        return _mix(_hash_labels(self.items) ^ seed)


def rank_stimuli(codes: np.ndarray, ties: TieOrder) -> np.ndarray:
    """Return positions `(item, place)` of all stimuli, the largest of codes `(stimulus, item)` first, without NaN."""
    order = np.empty(codes.shape[::-1], np.int32)
    for item, column in enumerate(np.ascontiguousarray(codes.T)):
        if _has_ties(np.sort(column[:N_FIRST])):
            places = _rank(column, np.arange(len(column)), ties, item)
        else:
            places = column.argsort()[::-1]
            tied = column[places[1:]] == column[places[:-1]]
            if tied.any():  # a few: only these are ranked again, in the places that they have together
                among = np.flatnonzero(np.append(tied, False) | np.append(False, tied))
                places[among] = _rank(column, places[among], ties, item)
        order[item] = places
    return order


def _rank(column: np.ndarray, places: np.ndarray, ties: TieOrder, item: int) -> np.ndarray:
    """Return places of a column, the largest code first, and of equal codes that with the smallest number."""
    return places[np.lexsort((~ties.numbers(places, item), column[places]))[::-1]]


def _has_ties(ranked: np.ndarray) -> bool:
    return bool((ranked[1:] == ranked[:-1]).any())


def _hash_labels(labels: np.ndarray) -> np.ndarray:
    hashed = (hashlib.blake2b(str(label).encode("utf-8", "surrogatepass"), digest_size=8) for label in labels.tolist())
    return np.frombuffer(b"".join(each.digest() for each in hashed), "<u8").astype(np.uint64)


def _mix(numbers: np.ndarray) -> np.ndarray:
    """Return each of some 64-bit numbers scrambled, one to one: SplitMix64's finalizer after one increment."""
    z = numbers + GOLDEN  # wraps around, as it must
    z = (z ^ (z >> np.uint64(30))) * MULTIPLIERS[0]
    z = (z ^ (z >> np.uint64(27))) * MULTIPLIERS[1]
    return z ^ (z >> np.uint64(31))
