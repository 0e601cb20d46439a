"""Machine psychophysics against published scripts, on identical trials.

512 directions, 20 trials, 9 references, 10,000 images of 64 × 64, LPIPS on AlexNet (random weights, the same on both
sides). The scripts of the paper and of MIS go through trials in a Python loop, and compare each query with each
reference by a network: 36 distances a trial, in one batch. They are timed on some trials and scaled.
"""

import numpy as np
import torch
import xarray as xr
from index import make_inputs, make_metrics, score_pairs, timed, verdict

from neurosuper import psychophysics
from neurosuper.interpretability import make_trials

N_IMAGES, SIZE, N_DIRECTIONS, REFERENCES, TRIALS = 10_000, 64, 512, 9, 20
N_TIMED = 20  # trials of the peer
TARGET = 60


def published(name: str, evidence: np.ndarray) -> float:
    """Return the score of a trial from similarities `(query, reference)`, the top before the bottom."""
    if name == "scripts":
        evidence = (evidence - evidence.mean()) / evidence.std()
    top, bottom = evidence[:, :REFERENCES].mean(1), evidence[:, REFERENCES:].mean(1)
    alpha = {"scripts": 1, "mis": 0.16}[name]
    return 1 / (1 + np.exp(-alpha * (top[0] - bottom[0] - top[1] + bottom[1])))


def run_scripts(name: str, trials: xr.Dataset, images: xr.DataArray, peer: torch.nn.Module) -> np.ndarray:
    """Return the score of each trial, one after another."""
    index, scores = images.get_index("stimulus"), []
    for t in range(trials.sizes["trial"]):
        query = index.get_indexer(trials.queries.values[t])
        reference = index.get_indexer(trials.references.values[t].ravel())
        pairs = np.stack(np.broadcast_arrays(query[:, None], reference), axis=-1).reshape(-1, 2)
        distances = score_pairs(images, peer, pairs, len(pairs))
        scores.append(published(name, -distances.reshape(2, -1).astype(float)))
    return np.array(scores)


def main() -> None:
    peer, metric = make_metrics()
    codes, images = make_inputs(N_IMAGES, SIZE, N_DIRECTIONS)
    print(
        f"psychophysics: {N_DIRECTIONS} directions, {TRIALS} trials of {REFERENCES} references, {N_IMAGES} images of "
        f"{SIZE}×{SIZE}, LPIPS-alex, CPU, {torch.get_num_threads()} threads"
    )
    psychophysics(codes[:100, :2], images, metric)  # compiles
    for name in ("scripts", "mis"):
        options = {"design": name, "references": REFERENCES, "trials": TRIALS, "quantiles": [0]}
        trials = make_trials(codes[:, :1], **options).isel(direction=0, quantile=0)
        n_unique = len(np.unique(make_trials(codes, **options).references))
        ours, result = timed(lambda options=options: psychophysics(codes, images, metric, **options))
        some = trials.isel(trial=slice(N_TIMED))
        theirs, scores = timed(lambda name=name, some=some: run_scripts(name, some, images, peer))
        theirs *= N_DIRECTIONS * TRIALS / N_TIMED
        difference = abs(result.score[0, 0].item() - scores.mean())
        print(
            f"  {name:8} ours {ours:7.2f} s, published {theirs:7.0f} s ({N_TIMED} trials, scaled): {theirs / ours:.1f} "
            f"× ({verdict(theirs / ours, TARGET)}); {n_unique} unique references; scores differ by {difference:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
