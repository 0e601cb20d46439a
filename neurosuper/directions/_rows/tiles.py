"""Sizes of tiles: rows of a block that are processed at once and stay in the cache of a CPU.

Compiled kernels have their sizes in their own files: numba stores a compiled kernel until that file changes, so a size
that is imported from here would keep its old value.
"""

from __future__ import annotations

import torch

TILE_ENTRIES = {"cpu": 2**20, "cuda": 2**25}  # of a tile: 4 MiB in float32 stay in the cache; 128 MiB keep a GPU busy
TILE_ROWS = 512  # at least, so that combining what a kernel returns per tile costs little next to the work on the tile
CENTRED_TILE_ENTRIES = {"cpu": 2**21, "cuda": 2**25}  # of a centred copy: 8 MiB in float32 stay in the cache of a CPU
MIN_CENTRED_ROWS = 1024  # of a centred tile: below this, accumulating the products costs more than computing them
SOURCE_ROWS = {"cpu": 2048, "cuda": 2**17}  # rows whose ICA sources (row, direction) stay in the cache
CODE_ROWS = 4096  # rows whose NMF codes (row, direction) stay in the cache of a CPU
RESIDUAL_ROWS = 512  # rows whose codes under an autoencoder (row, direction) are in memory at once


def into_tiles(block: torch.Tensor, width: int | None = 1) -> tuple[torch.Tensor, ...]:
    """Return views of consecutive rows, small enough that a tile and a matrix (row, width) have `TILE_ENTRIES` at most.

    Tiles have at least 512 rows, even if these are larger. If `width` is None, the block is the only tile.
    """
    return (block,) if width is None else block.split(tile_rows(block.device, max(width, block.shape[1])))


def tile_rows(device: torch.device, width: int) -> int:
    """Return the number of rows of a tile whose widest matrix is (row, width)."""
    return max(TILE_ROWS, TILE_ENTRIES[device.type] // width)
