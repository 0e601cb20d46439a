"""Steps of the search for centres, against slow twins."""

import torch

from neurosuper.directions._solvers.center_search import means


def test_centres_are_the_means_of_their_rows_also_of_one_row_and_the_farthest_row_replaces_an_empty_cluster():
    X = torch.tensor([[0.0, 0.0], [2.0, 0.0], [10.0, 4.0], [11.0, 7.0]])
    label, distance = torch.tensor([0, 0, 1, 1]), torch.tensor([1.0, 1.0, 2.0, 9.0])
    alone = torch.tensor([0, 0, 0, 1])
    torch.testing.assert_close(means(X, label, distance, X[:2]), torch.tensor([[1.0, 0.0], [10.5, 5.5]]))
    torch.testing.assert_close(means(X, alone, distance, X[:2])[1], X[3])
    torch.testing.assert_close(means(X, label, distance, X[:3])[2], X[3])
