"""Pixel distance against scipy."""

import numpy as np
import torch
from scipy.spatial.distance import cdist

from neurosuper.metrics import Pixel


def test_distance_is_that_between_all_rgb_values(images):
    embedding = Pixel(device="cpu").embed(images[:6])
    flat = images[:6].values.reshape(6, -1) / 255
    np.testing.assert_allclose(torch.cdist(embedding, embedding), cdist(flat, flat), rtol=1e-5, atol=1e-6)
