"""No file of weights, arrays or a checkpoint is unpickled: each reader refuses one that would make a file."""

import ast
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from neurosuper import LPIPS, load_array
from neurosuper.directions._solvers.sae_checkpoint import read_checkpoint

PACKAGE = Path(__file__).parents[1] / "neurosuper"


class Marks:
    """A pickle that makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def array_of_objects(path, marks):
    np.save(path, np.array([[marks, 1], [2, 3]], dtype=object), allow_pickle=True)


def archive_of_objects(path, marks):
    np.savez(path, x=np.array([[marks, 1], [2, 3]], dtype=object))


def plain_pickle(path, marks):
    path.write_bytes(pickle.dumps(marks))


def torch_file(path, marks):
    torch.save({"fit": marks}, path)


def load_rates(path):
    load_array(path, ("stimulus", "unit"), stimuli=["a", "b"])


def load_trunk(path):
    LPIPS(weights=path).embed(torch.zeros(1, 3, 64, 64))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch, of files that it did not write
@pytest.mark.parametrize(
    ("name", "write", "read"),
    [
        ("a.npy", array_of_objects, load_rates),
        ("a.npy", plain_pickle, load_rates),
        ("a.npz", archive_of_objects, load_rates),
        ("a.pt", torch_file, load_rates),
        ("a.pt", plain_pickle, load_rates),
        ("a.npz", plain_pickle, load_rates),
        ("a.npz", archive_of_objects, load_trunk),
        ("a.pth", torch_file, load_trunk),
        ("a.pth", plain_pickle, load_trunk),
        ("a.ckpt", torch_file, lambda path: read_checkpoint(str(path), {})),
        ("a.ckpt", plain_pickle, lambda path: read_checkpoint(str(path), {})),
    ],
)
def test_nothing_is_unpickled(name, write, read, tmp_path):
    write(tmp_path / name, Marks(tmp_path / "ran"))
    with pytest.raises(ValueError, match=name) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_the_package_unpickles_only_one_dataset():
    """Cadena 2019 is a pickle: it is read only if its sha256 is pinned, by a reader that creates only arrays.

    Files of suite2p are read by one that creates numbers, text and arrays alone (tests/loaders/test_suite2p.py).
    """
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        for call in calls:
            if ast.unparse(call.func) == "torch.load":
                assert "weights_only=True" in ast.unparse(call), path
        assert not re.search(
            r"allow_pickle=True|weights_only=False|joblib|pd\.read_pickle|\bdill\b|\bshelve\b", text
        ), path
        if path.name not in ("cadena.py", "suite2p.py"):
            assert not re.search(r"import pickle|pickle\.load", text), path
