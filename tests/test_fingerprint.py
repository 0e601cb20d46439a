"""Fingerprints: equal for objects of equal content, in every process; different if behaviour may differ."""

import collections
import dataclasses
import enum
import functools
import os
import random
import re
import subprocess
import sys
import textwrap
import threading
import types
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from neurosuper._fingerprint import IndescribableError, fingerprint


class Scale:
    """Called like a function; what it does is its attribute and its class's."""

    __slots__ = ("by", "twin")
    more = 1

    def __init__(self, by):
        self.by = by

    def __call__(self, x):
        return x * self.by * self.more


@dataclasses.dataclass
class Options:
    size: int = 1
    names: list = dataclasses.field(default_factory=list)

    def __getstate__(self):
        return {}  # leaves everything out


class Mode(enum.Enum):
    ONE = 1
    TWO = 2


class Text(str):
    pass


def scale(x, by=1):
    return x * by


def closing(by):
    return lambda x: scale(x) * by


def defaulting(by):
    return lambda x, by=by, *, more=by: x * by * more


def run(text, name="made", **known):
    """Return what a text of code defines; code that differs is what an edited file has."""
    exec(textwrap.dedent(text), known)
    return known[name]


HELPED = """
    def helper(x):
        return x * BY
    class Owner:
        def helper(self, x):
            return helper(x)
    def made(x):
        return Owner().helper(x)
"""


def helped(by):
    return run(HELPED.replace("BY", str(by)))


def through_a_module(by):
    helpers = types.ModuleType("helpers")
    helpers.helper = run(HELPED.replace("BY", str(by)), "helper")
    return run("made = lambda x: helpers.helper(x)", helpers=helpers)


def cyclic(value):
    made = [value]
    made.append({"itself": made})
    return made


MADE = {
    "an int": int,
    "a float": float,
    "a sign of zero": lambda n: [0.0, -0.0, None][n - 1],
    "a kind of number": lambda n: {1: 1, 2: True, 3: 1.0}[n],
    "a text or bytes": lambda n: {1: "a", 2: b"a", 3: Text("a")}[n],
    "a text of a class": lambda n: Text(f"{n}"),
    "a nested list": lambda n: [1, [2, [n]]],
    "where a list ends": lambda n: [[0] * n, [0] * (4 - n)],
    "a dict": lambda n: {"a": {"b": n}},
    "a key": lambda n: {("a", n): 1},
    "a set": lambda n: {"a", "b", ("c", n)},
    "a default dict": lambda n: collections.defaultdict(list, a=[n]),
    "a named tuple": lambda n: collections.namedtuple("Pair", "a b")(0, n),
    "a cycle": cyclic,
    "an array": lambda n: np.array([0, n]),
    "a dtype": lambda n: np.zeros(2, f"f{2**n}"),
    "a shape": lambda n: np.zeros((n, 6 // n)),
    "an array of objects": lambda n: np.array([0, Scale(n)], object),
    "a masked array": lambda n: np.ma.masked_equal(np.arange(4), n),
    "a numpy number": np.float64,
    "a tensor": lambda n: torch.tensor([0.0, n]),
    "a tensor's dtype": lambda n: torch.ones(2, dtype=[torch.float32, torch.int32, torch.bfloat16][n - 1]),
    "a sparse tensor": lambda n: (torch.eye(3) * n).to_sparse(),
    "a device": lambda n: torch.device("cuda", n),
    "a pattern": lambda n: re.compile("a" * n),
    "an enum": lambda n: list(Mode)[n % 2] if n < 3 else None,
    "an instance with slots": Scale,
    "an instance that hides its state": Options,
    "a bound method": lambda n: Scale(n).__call__,
    "a partial": lambda n: functools.partial(scale, by=n),
    "a closure": closing,
    "a default": defaulting,
    "a constant": lambda n: run(f"made = lambda x: x + {n}"),
    "an operation": lambda n: run(f"made = lambda x: x {'+-*'[n - 1]} 2"),
    "a constant in an inner function": lambda n: run(f"made = lambda x: [i + {n} for i in x]"),
    "a helper": helped,
    "a helper in a module": through_a_module,
    "a cached function": lambda n: functools.lru_cache(closing(n)),
    "a decorated function": lambda n: functools.wraps(scale)(closing(n)),
    "an attribute of a function": lambda n: run(f"made = lambda x: x\nmade.by = {n}"),
    "a static method": lambda n: run(f"class made:\n @staticmethod\n def f(x): return x * {n}"),
    "a property": lambda n: run(f"class made:\n @property\n def f(self): return {n}")(),
    "a cached property": lambda n: run(
        f"class made:\n @cached\n def f(self): return {n}", cached=functools.cached_property
    ),
    "an attribute of a class": lambda n: run(f"class made:\n by = {n}")(),
    "a method of a parent": lambda n: run(f"class A:\n def f(self): return {n}\nclass made(A): pass")(),
    "a metaclass": lambda n: run(f"class M(type):\n def f(self): return {n}\nclass made(metaclass=M): pass"),
    "a weak reference": lambda n: (kept := Options(n), weakref.ref(kept))[::-1],
    "a function of torch": lambda n: [torch.relu, nn.functional.relu, torch.Tensor.relu][n - 1],
    "a function of numpy": lambda n: [np.sin, np.cos, np.linalg.norm][n - 1],
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_only_content_distinguishes_objects(make):
    one, same, two, three = (fingerprint({"x": make(n)}) for n in (1, 1, 2, 3))
    assert one == same
    assert len({one, two, three}) == 3


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner)))
def test_values_that_are_nested_differently_differ(value):
    assert fingerprint({"x": value}) != fingerprint({"x": [value]})
    assert fingerprint({"x": [value, value]}) != fingerprint({"x": [[value], value]})


NETWORKS = {
    "weights": lambda net: net[0].weight.data.mul_(2),
    "a buffer": lambda net: net[1].running_mean.add_(1),
    "a buffer that is not saved": lambda net: net.hidden.add_(1),
    "a tensor that is no buffer": lambda net: net.loose.add_(1),
    "an attribute of a part": lambda net: setattr(net[1], "eps", 0.5),
    "the mode of a part": lambda net: net[1].eval(),
    "a hook": lambda net: net[2].register_forward_hook(lambda module, x, y: 2 * y),
    "another hook": lambda net: net[2].register_forward_hook(lambda module, x, y: 3 * y),
    "a hook with keywords": lambda net: net[2].register_forward_hook(lambda *_: None, with_kwargs=True),
    "the same hook without": lambda net: net[2].register_forward_hook(lambda *_: None),
    "a pre-hook": lambda net: net[2].register_forward_pre_hook(lambda module, x: x),
    "a patched forward": lambda net: setattr(net[2], "forward", lambda x: x + 1),
    "a part": lambda net: net.__setitem__(2, nn.Tanh()),
    "the order of parts": lambda net: net.insert(0, net.pop(2)),
    "a part more": lambda net: net.append(nn.Identity()),
    "a parametrization": lambda net: nn.utils.parametrizations.weight_norm(net[0]),
    "pruning": lambda net: prune.random_unstructured(net[0], "bias", 2),
}


def make_net(change=None):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        net.register_buffer("hidden", torch.zeros(2), persistent=False)
        net.loose = torch.zeros(2)
        if change is not None:
            change(net)
    return net


def test_every_part_of_a_network_counts():
    nets = [make_net(), *map(make_net, NETWORKS.values())]
    assert len({fingerprint({"x": net}) for net in nets}) == len(nets)
    for change in (None, *NETWORKS.values()):
        assert fingerprint({"x": make_net(change)}) == fingerprint({"x": make_net(change)})


def test_gradients_and_saving_do_not_count():
    net = make_net()
    before = fingerprint({"x": net})
    net(torch.zeros(2, 3, 5, 5)).sum().backward()
    net[1].load_state_dict(make_net()[1].state_dict())
    net.register_state_dict_post_hook(lambda *_: None)
    net.register_full_backward_hook(lambda *_: None)
    assert fingerprint({"x": net}) == before


def test_a_hook_for_all_networks_counts():
    before = fingerprint({"x": make_net()})
    handle = nn.modules.module.register_module_forward_hook(lambda module, x, y: 2 * y)
    during = fingerprint({"x": make_net()})
    handle.remove()
    assert before == fingerprint({"x": make_net()}) != during


def test_a_method_put_into_an_installed_class_counts(monkeypatch):
    before = fingerprint({"x": make_net()})
    forward = nn.ReLU.forward

    @functools.wraps(forward)
    def more(self, x):
        return forward(self, x) + 1

    monkeypatch.setattr(nn.ReLU, "forward", more)
    assert fingerprint({"x": make_net()}) != before


def test_another_version_of_an_installed_package_counts(monkeypatch):
    from neurosuper import _sources

    before = fingerprint({"x": make_net()})
    monkeypatch.setattr(_sources, "_release", lambda top: "99.0")
    assert fingerprint({"x": make_net()}) != before


def test_names_stand_for_weights_that_are_described_elsewhere():
    net, other = make_net(), make_net(NETWORKS["weights"])
    assert fingerprint({"x": net}, net.named_parameters()) == fingerprint({"x": other}, other.named_parameters())


HOLDING = {
    "a Generator, which changes": lambda: np.random.default_rng(0),
    "a Random, which changes": lambda: random.Random(0),
    "a TextIOWrapper, which changes": lambda: sys.__stdout__,
    "a generator, which changes": lambda: (i for i in ()),
    "a lock, which does not show": threading.Lock,
    "a Tensor, without content": lambda: torch.empty(2, device="meta"),
    "a ufunc, which shows no code": lambda: np.frompyfunc(scale, 1, 1),
}


@pytest.mark.parametrize(("what", "make"), HOLDING.items(), ids=HOLDING)
def test_what_shows_no_content_is_refused_with_its_place(what, make):
    net = make_net()
    net[1].kept = {"here": [0, make()]}
    message = re.escape(f"model.1.kept['here'][1] is {what}")
    with pytest.raises(IndescribableError, match=message) as caught:
        fingerprint({"model": net})
    assert "\n" not in str(caught.value)
    with pytest.raises(IndescribableError, match=re.escape(f"preprocess closure by is {what}")):
        fingerprint({"preprocess": closing(make())})


def test_what_is_nested_without_end_is_refused():
    deep = []
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(IndescribableError, match="nested too deeply"):
        fingerprint({"x": deep})


SCRIPT = """
import torch
from torch import nn
from neurosuper._fingerprint import fingerprint
class Part(nn.Module):
    names = {"one", "two", "three"}
    def forward(self, x):
        return x if self.name in {"four", "five", "six"} else torch.relu(x)
net = nn.Sequential(Part(), nn.Conv2d(1, 1, 1), nn.LSTM(2, 2))
for weight in net.parameters():
    nn.init.ones_(weight)
net[0].name, net[0].flags = "four", frozenset("abcdef")
for _ in range(n_hooks):
    net[1].register_forward_hook(print).remove()
net[1].register_forward_hook(lambda *_: None)
found = fingerprint({"x": net})
"""


def test_another_process_agrees():
    """There texts have other hashes, so sets have another order, and hooks have other numbers."""
    ours = {"__name__": "__main__", "n_hooks": 3}
    exec(SCRIPT, ours)
    command = [sys.executable, "-c", f"n_hooks = 0\n{SCRIPT}\nprint(found)"]
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    theirs = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert theirs.split() == [ours["found"]]


class Scaled(nn.Module):
    """A network with a submodule called `_orig_mod`, the name that the compiler gives to the network that it wraps."""

    def __init__(self, network, factor):
        super().__init__()
        self._orig_mod, self.factor = network, factor

    def forward(self, x):
        return self.factor * self._orig_mod(x)


def test_a_submodule_named_like_a_compiled_network_is_not_taken_for_the_whole_network():
    network = nn.Linear(3, 2)
    two, three = (fingerprint({"network": Scaled(network, factor)}) for factor in (2, 3))
    assert two != three
