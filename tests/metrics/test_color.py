"""Color distance against scipy."""

import numpy as np
import torch
from scipy.spatial.distance import cdist

from neurosuper.metrics import Color


def test_distance_is_that_between_mean_colors(images):
    embedding = Color(device="cpu").embed(images[:6])
    colors = images[:6].mean(("row", "column")).values / 255
    np.testing.assert_allclose(torch.cdist(embedding, embedding), cdist(colors, colors), rtol=1e-5, atol=1e-6)


def test_where_the_color_is_does_not_matter(images):
    moved = images[:6].roll(row=5, column=3)
    torch.testing.assert_close(Color(device="cpu").embed(moved), Color(device="cpu").embed(images[:6]))
