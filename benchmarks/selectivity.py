"""`selectivity` of 4,096 items for 100 categories of 50,000 stimuli, against a loop of scikit-learn's `roc_auc_score`.

The loop would take hours: some of its 409,600 calls are timed, and the time is scaled. Their values are compared with
those of `selectivity`, for normal codes and for counts with many ties.
"""

import resource
import time

import numpy as np
from sklearn.metrics import roc_auc_score
from workloads import label

from neurosuper.interpretability import selectivity

N_ITEMS, N_CATEGORIES, N_STIMULI = 4_096, 100, 50_000
N_TIMED = 100  # calls of the loop


def main() -> None:
    rng = np.random.default_rng(0)
    values = np.empty((N_STIMULI, N_ITEMS), np.float32)
    for item in range(0, N_ITEMS, 2):  # one by one, so that the peak of memory is that of `selectivity`
        values[:, item], values[:, item + 1] = rng.normal(size=N_STIMULI), rng.poisson(2, N_STIMULI)
    numbers = rng.integers(N_CATEGORIES, size=N_STIMULI)
    names = np.char.add("category ", np.char.zfill(numbers.astype(str), 2))
    codes = label(values).assign_coords(category=("stimulus", names))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    result = selectivity(codes, "category")
    ours = time.perf_counter() - start
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    pairs = rng.integers([N_ITEMS, N_CATEGORIES], size=(N_TIMED, 2))
    start = time.perf_counter()
    theirs = [roc_auc_score(numbers == category, values[:, item]) for item, category in pairs]
    loop = (time.perf_counter() - start) / N_TIMED * N_ITEMS * N_CATEGORIES
    difference = np.abs(result.auc.values[pairs[:, 0], pairs[:, 1]] - theirs).max()
    print(
        f"selectivity: {N_ITEMS} items × {N_CATEGORIES} categories × {N_STIMULI} stimuli in {ours:.1f} s (AUC, d′, "
        f"intervals, tests, and the best category held out), {added:.2f} GiB in addition to the codes; a loop of "
        f"roc_auc_score {loop:.0f} s ({N_TIMED} of {N_ITEMS * N_CATEGORIES} calls, scaled): {loop / ours:.0f} × "
        f"(target 50); largest difference of AUC {difference:.1e} (target 1e-12)"
    )


if __name__ == "__main__":
    main()
