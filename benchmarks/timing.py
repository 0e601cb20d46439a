"""Timing of ours beside its peers: interleaved, in one process, without the laps that something else disturbed.

A machine drifts, and one competing process slows runs of two threads tenfold. So contenders take turns, a ratio is that
of laps side by side, and a lap in which other processes, or the hypervisor, took the processors is run again.
"""

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import psutil

SHORTEST = 0.5  # seconds of a measurement
FOREIGN_SHARE, FOREIGN_SECONDS = 0.05, 0.03  # of a processor, per second of a lap, and what the clock's ticks add up to
REST = 0.1  # seconds, until the threads of what ran before wait no longer busily
RETRIES, PATIENCE = 3, 60.0  # laps, and seconds of laps, until one that was disturbed is taken all the same


@dataclass(frozen=True)
class Lap:
    """How long a run took (s), how long others kept a processor busy meanwhile (s), and whether that is negligible."""

    seconds: float
    foreign: float
    quiet: bool

    def scaled(self, factor: float) -> "Lap":
        """Return the lap of so many times as much work."""
        return Lap(self.seconds * factor, self.foreign * factor, self.quiet)


def busy_seconds() -> float:
    """Return how long the processors have been busy for anyone, or taken by the hypervisor, where the system tells."""
    times = psutil.cpu_times()
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))


def own_seconds() -> float:
    """Return how long this process and its children have computed."""
    spent = sum(os.times()[:4])
    for child in psutil.Process().children(recursive=True):
        try:
            spent += sum(child.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return spent


def measure(work: Callable[[], Any]) -> tuple[Any, Lap]:
    """Return what some work gives, and its lap; short work is done over and over, so that the clock's ticks suffice."""
    gc.collect()
    time.sleep(REST)
    busy, own, start = busy_seconds(), own_seconds(), time.perf_counter()
    n, elapsed = 0, 0.0
    while elapsed < SHORTEST:
        result = work()
        n, elapsed = n + 1, time.perf_counter() - start
    foreign = max(0.0, busy_seconds() - busy - own_seconds() + own)
    return result, Lap(elapsed / n, foreign / n, foreign <= FOREIGN_SHARE * elapsed + FOREIGN_SECONDS)


def measure_quietly(work: Callable[[], Any]) -> tuple[Any, Lap]:
    """Do some work until nobody disturbs it, within reason; return what it gave when it was disturbed least."""
    best, spent = measure(work), 0.0
    for _ in range(RETRIES):
        spent += best[1].seconds
        if best[1].quiet or spent > PATIENCE:
            break
        best = min(best, measure(work), key=lambda pair: pair[1].foreign / pair[1].seconds)
    return best


def take_turns(
    contenders: Mapping[str, Callable[[int], Any]], laps: Mapping[str, int], look: Callable[[str, Any], None]
) -> dict[str, list[Lap]]:
    """Let contenders run one after another, over and over; `look` sees each result, off the clock.

    Each is called with the number of its lap, which serves as seed, and runs at most `laps[name]` times.
    """
    taken: dict[str, list[Lap]] = {name: [] for name in contenders}
    for i in range(max(laps.values())):
        for name, run in contenders.items():
            if i < laps[name]:
                result, lap = measure_quietly(partial(run, i))
                taken[name].append(lap)
                look(name, result)
    return taken


def ratios(ours: Sequence[Lap], theirs: Sequence[Lap]) -> np.ndarray:
    """Return how many times as long they took, turn by turn; of turns that nobody disturbed, if there are any.

    Where they took fewer turns, their last stands beside the rest of ours.
    """
    pairs = [(mine, theirs[min(i, len(theirs) - 1)]) for i, mine in enumerate(ours)]
    quiet = [pair for pair in pairs if all(lap.quiet for lap in pair)]
    return np.array([their.seconds / mine.seconds for mine, their in quiet or pairs])


def undisturbed(laps: Sequence[Lap]) -> list[Lap]:
    """Return the laps that nobody disturbed."""
    return [lap for lap in laps if lap.quiet]


def tell(values: np.ndarray, spec: str = ".2f") -> str:
    """Return a median with the least and the largest value."""
    return f"{np.median(values):{spec}} ({values.min():{spec}}–{values.max():{spec}})"


def seconds(laps: Sequence[Lap]) -> str:
    """Return the median time of the laps that nobody disturbed; of all, and with a mark, where there are none."""
    quiet = undisturbed(laps)
    return f"{np.median([lap.seconds for lap in quiet or laps]):.3g}" + ("" if quiet else " †")
