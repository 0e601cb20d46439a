"""Time neurosuper and its peers: alternating, in one process, without laps that were disturbed by other processes.

The speed of a machine drifts, and one competing process slows runs of two threads tenfold. So contenders alternate, a
ratio compares adjacent laps, and a lap in which other processes or the hypervisor used the processors is repeated.
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

SHORTEST = 0.5  # seconds; lower bound for a measurement
FOREIGN_SHARE, FOREIGN_SECONDS = 0.05, 0.03  # of one processor per second of a lap, and the error of the clock's ticks
PAUSE = 0.1  # seconds until threads of the previous contender no longer spin
RETRIES, PATIENCE = 3, 60.0  # laps, and seconds of laps, before a disturbed lap is accepted


@dataclass(frozen=True)
class Lap:
    """Duration of a run (s), processor time of other processes meanwhile (s), and whether that is negligible."""

    seconds: float
    foreign: float
    quiet: bool

    def scaled(self, factor: float) -> "Lap":
        """Return the lap for `factor` times as much work."""
        return Lap(self.seconds * factor, self.foreign * factor, self.quiet)


def busy_seconds() -> float:
    """Return the seconds that the processors were busy, or used by the hypervisor where the system reports this."""
    times = psutil.cpu_times()
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))


def own_seconds() -> float:
    """Return the processor seconds of this process and its children."""
    spent = sum(os.times()[:4])
    for child in psutil.Process().children(recursive=True):
        try:
            spent += sum(child.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return spent


def measure(work: Callable[[], Any]) -> tuple[Any, Lap]:
    """Return the result of some work and its lap; short work is repeated to exceed the resolution of the clock."""
    gc.collect()
    time.sleep(PAUSE)
    busy, own, start = busy_seconds(), own_seconds(), time.perf_counter()
    n, elapsed = 0, 0.0
    while elapsed < SHORTEST:
        result = work()
        n, elapsed = n + 1, time.perf_counter() - start
    foreign = max(0.0, busy_seconds() - busy - own_seconds() + own)
    return result, Lap(elapsed / n, foreign / n, foreign <= FOREIGN_SHARE * elapsed + FOREIGN_SECONDS)


def measure_quietly(work: Callable[[], Any]) -> tuple[Any, Lap]:
    """Repeat some work until it is undisturbed, within limits; return the result and lap that were disturbed least."""
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
    """Run contenders in turn, several times; `look` receives each result and is not timed.

    Each is called with the number of its lap, used as the seed, and runs at most `laps[name]` times.
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
    """Return the ratio of their time to ours for each turn; only undisturbed turns, if there are any.

    If they took fewer turns, their last is compared with the rest of ours.
    """
    pairs = [(mine, theirs[min(i, len(theirs) - 1)]) for i, mine in enumerate(ours)]
    quiet = [pair for pair in pairs if all(lap.quiet for lap in pair)]
    return np.array([their.seconds / mine.seconds for mine, their in quiet or pairs])


def undisturbed(laps: Sequence[Lap]) -> list[Lap]:
    """Return the undisturbed laps."""
    return [lap for lap in laps if lap.quiet]


def summarize(values: np.ndarray, spec: str = ".2f") -> str:
    """Return a median with the smallest and the largest value."""
    return f"{np.median(values):{spec}} ({values.min():{spec}}–{values.max():{spec}})"


def seconds(laps: Sequence[Lap]) -> str:
    """Return the median time of the undisturbed laps; if there are none, of all, with a mark."""
    quiet = undisturbed(laps)
    return f"{np.median([lap.seconds for lap in quiet or laps]):.3g}" + ("" if quiet else " †")
