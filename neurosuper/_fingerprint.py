"""Fingerprints of objects: hashes that are the same in every process, and change when an object may behave differently.

Objects are described by content: values, arrays and tensors by their bytes; functions by code, defaults, closures and
the globals that they use; classes by the code of their methods; instances by their attributes; networks by all of
these and their hooks. Code of Python and of installed packages is described by version and file, not statement by
statement. If code replaces a function inside an installed module (`torch.nn.functional.relu = …`), other functions of
that package that call it do not change their fingerprint.
"""

from __future__ import annotations

import copyreg
import functools
import hashlib
import random
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as torch_module

from neurosuper._sources import find_object, package_of, sources_of, used_globals

PLAIN = (type(None), bool, int, str, bytes, bytearray, type(Ellipsis), type(NotImplemented), complex)
TEXTS = (torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size, np.dtype)
CHANGING = (
    random.Random,
    np.random.Generator,
    np.random.RandomState,
    np.random.BitGenerator,
    torch.Generator,
    Iterator,
)
BUILT_IN = (types.BuiltinFunctionType, types.MethodWrapperType)
DESCRIPTORS = (
    *(types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType),
    *(types.GetSetDescriptorType, types.MemberDescriptorType),
)
PICKLING = {"__reduce__", "__reduce_ex__", "__getstate__"}
# Members of a class that differ between processes, or that do not affect what it computes.
IGNORED_IN_CLASSES = {
    *("__dict__", "__weakref__", "__doc__", "__annotations__", "__annotate_func__", "__annotations_cache__"),
    *("__dataclass_fields__", "__dataclass_params__", "__firstlineno__", "__static_attributes__", "__orig_bases__"),
    "_abc_impl",
}
# Hooks are described in their order, because their keys are counters of the process; the other attributes are not used
# in a forward pass.
IGNORED_IN_NETWORKS = {
    *("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs"),
    *("_forward_hooks_always_called", "_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook"),
    *("_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
    *("_non_persistent_buffers_set", "_compiled_call_impl"),
}
STORES = {"_parameters", "_buffers", "_modules"}


class IndescribableError(ValueError):
    """Part of an object has no content by which it can be identified."""


def fingerprint(parts: Mapping[str, object], weights: Iterable[tuple[str, torch.Tensor]] = ()) -> str:
    """Return a hash that changes whenever the behaviour of the parts may change.

    Parameters
    ----------
    parts : dict
        The objects to describe, under the names that an error uses for them.
    weights : iterable of (str, Tensor), optional
        Tensors whose content one of the parts already describes: elsewhere they are described by their names.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    IndescribableError
        An object that changes with every use or has no readable content: a random generator, an open file, a lock.
        The message names it and its place.

    Examples
    --------
    >>> net = nn.Linear(2, 2)
    >>> before = fingerprint({"model": net})
    >>> before == fingerprint({"model": net})
    True
    >>> _ = net.register_forward_hook(lambda module, x, y: 2 * y)
    >>> before == fingerprint({"model": net})
    False
    """
    description = _Description({id(tensor): name for name, tensor in weights})
    try:
        for name, part in parts.items():
            description.add(part, name)
    except RecursionError as error:
        raise IndescribableError(f"{description.place()} is nested too deeply to be described") from error
    return description.digest.hexdigest()


class _Description:
    """A hash to which objects are added; an object that occurs again is described by the number of its first place."""

    def __init__(self, weights: dict[int, str], seen: Mapping[int, tuple[int, object]] | None = None) -> None:
        self.digest, self.path = hashlib.sha256(), []  # type: ignore[var-annotated]
        self._weights = weights
        self._seen = dict(seen or {})  # keeps the objects alive, so that Python does not reuse their ids

    def place(self) -> str:
        """Return the place of the object that is being described, such as `model.layer1[0]`."""
        return "".join(self.path).lstrip(".")

    def add(self, value: Any, where: str = "") -> None:
        """Add a value to the hash."""
        kind = type(value)
        if kind in PLAIN:
            self._add_texts(kind.__name__, bytes(value).hex() if isinstance(value, bytes | bytearray) else repr(value))
        elif kind is float:
            self._add_texts("float", value.hex())
        elif isinstance(value, TEXTS):
            self._add_texts(kind.__name__, str(value))
        elif id(value) in self._seen:
            self._add_texts("again", str(self._seen[id(value)][0]))
        else:
            # Python may or may not share equal constants of these types between places, so identity says nothing.
            if kind not in (tuple, frozenset, types.CodeType):
                self._seen[id(value)] = (len(self._seen), value)
            self.path.append(where)
            self._add_texts(kind.__name__)
            self._writer(value)(value)
            self.path.pop()

    def _add_texts(self, *texts: str) -> None:
        # Each text is preceded by its length, so that ("ab", "c") and ("a", "bc") differ.
        for text in texts:
            encoded = text.encode("utf-8", "surrogatepass")
            self.digest.update(b"%d:" % len(encoded) + encoded)

    def _refuse(self, value: object, why: str) -> IndescribableError:
        return IndescribableError(f"{self.place()} is a {type(value).__name__}, {why}")

    def _writer(self, value: object) -> Callable[[Any], None]:
        """Return the method that adds a value of this kind."""
        if isinstance(value, type):
            return self._add_class
        for kinds, write in (
            (torch.Tensor, self._add_tensor),
            (np.generic, self._add_array),
            (nn.Module, self._add_network),
            (types.FunctionType, self._add_function),
            (types.MethodType, lambda method: self._add_all(method.__self__, method.__func__)),
            (BUILT_IN, self._add_built_in),
            (DESCRIPTORS, lambda member: self._add_all(member.__name__, member.__objclass__)),
            (np.ufunc, self._add_ufunc),
            (types.CodeType, self._add_code),
            (types.ModuleType, self._add_module),
            (types.MappingProxyType, self._add_items),
            (weakref.ref, lambda reference: self.add(reference())),
            (property, lambda member: self._add_all(member.fget, member.fset, member.fdel)),
            (staticmethod | classmethod, lambda member: self.add(member.__func__)),
            (functools.cached_property, lambda member: self.add(member.func)),
            (functools._lru_cache_wrapper, lambda member: self.add(member.__wrapped__)),
        ):
            if isinstance(value, kinds):
                return write
        exact: dict[type, Callable[[Any], None]] = {
            np.ndarray: self._add_array,
            dict: self._add_items,
            OrderedDict: self._add_items,
            list: self._add_sequence,
            tuple: self._add_sequence,
            set: self._add_set,
            frozenset: self._add_set,
        }
        return exact.get(type(value), self._add_instance)

    def _add_all(self, *values: object) -> None:
        for value in values:
            self.add(value)

    def _add_sequence(self, values: Iterable[object]) -> None:
        values = list(values)
        self._add_texts(str(len(values)))
        for number, value in enumerate(values):
            self.add(value, f"[{number}]")

    def _add_items(self, items: Mapping[Any, object]) -> None:
        self._add_texts(str(len(items)))
        for key, value in items.items():
            self.add(key, "[a key]")
            self.add(value, f"[{key!r}]" if type(key) in PLAIN else "[…]")

    def _add_set(self, values: Iterable[object]) -> None:
        """Add the values of a set, sorted by their hashes: the order of a set differs between processes."""
        texts = []
        for value in values:
            each = _Description(self._weights, self._seen)
            each.path = [*self.path, "[…]"]
            each.add(value)
            texts.append(each.digest.hexdigest())
        self._add_texts(str(len(texts)), *sorted(texts))

    def _add_attributes(self, attributes: Mapping[str, object]) -> None:
        for key in sorted(attributes, key=str):
            self._add_texts(str(key))
            self.add(attributes[key], f".{key}")

    def _add_array(self, array: np.ndarray | np.generic) -> None:
        self._add_texts(str(array.dtype.descr if array.dtype.names else array.dtype.str), str(array.shape))
        if array.dtype.hasobject:
            self._add_sequence(np.asarray(array).ravel().tolist())
        else:
            self.digest.update(np.ascontiguousarray(array).tobytes())

    def _add_tensor(self, tensor: torch.Tensor) -> None:
        if type(tensor) not in (torch.Tensor, nn.Parameter):
            self.add(type(tensor))
        self._add_attributes(vars(tensor))
        if id(tensor) in self._weights:
            self._add_texts("weight", self._weights[id(tensor)])
            return
        try:
            content = tensor_bytes(tensor)
        except Exception as error:  # meta tensors, and tensors of other libraries, which have no bytes
            raise self._refuse(tensor, "without content that can be read") from error
        self._add_texts(str(tuple(tensor.shape)), str(tensor.dtype))
        self.digest.update(content.data)

    def _add_network(self, network: nn.Module) -> None:
        original = network._modules.get("_orig_mod")
        if original is not None and type(network).__module__.startswith("torch._dynamo"):
            self.add(original)  # compiled networks run uncompiled
            return
        self.add(type(network))
        attributes = vars(network)
        self._add_attributes(
            {key: value for key, value in attributes.items() if key not in IGNORED_IN_NETWORKS | STORES}
        )
        for store in sorted(STORES):
            self._add_texts(store)
            for name, value in attributes[store].items():
                self._add_texts(name)
                self.add(value, f".{name}")
        for hooks in ("_forward_pre_hooks", "_forward_hooks"):
            for place, (key, hook) in enumerate(attributes[hooks].items()):
                self._add_texts(hooks, str(key in attributes.get(f"{hooks}_with_kwargs", ())))
                self._add_texts(str(key in attributes.get(f"{hooks}_always_called", ())))
                self.add(hook, f".{hooks}[{place}]")
        if len(self.path) == 1:  # hooks for all networks, once
            for hooks in ("_global_forward_pre_hooks", "_global_forward_hooks"):
                self._add_sequence(getattr(torch_module, hooks).values())

    def _add_function(self, function: types.FunctionType) -> None:
        if original := vars(function).get("_torchdynamo_orig_callable"):
            self.add(original)
            return
        module = function.__globals__.get("__name__")
        self._add_texts(function.__qualname__)
        if (package := package_of(module)) and find_object(module, function.__qualname__) is function:
            self._add_texts(package, str(module))
            return
        self._add_code(function.__code__)
        self.add(function.__defaults__, " default")
        self.add(function.__kwdefaults__, " default")
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                self.add(cell.cell_contents, f" closure {name}")
            except ValueError as error:
                if isinstance(error, IndescribableError):
                    raise
                self._add_texts("empty")
        for name, value in sorted(used_globals(function.__code__, function.__globals__).items()):
            self._add_texts(name)
            self.add(value, f" global {name}")
        self._add_attributes(vars(function))

    def _add_code(self, code: types.CodeType) -> None:
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        self._add_texts(code.co_code.hex(), code.co_exceptiontable.hex(), repr(counts), repr(names))
        self._add_sequence(code.co_consts)

    def _add_built_in(self, function: Any) -> None:
        owner = function.__self__
        self._add_texts(function.__name__, str(getattr(function, "__module__", None)))
        if owner is not None and not isinstance(owner, types.ModuleType):
            self.add(owner, ".__self__")

    def _add_ufunc(self, function: np.ufunc) -> None:
        for module in ("numpy", "scipy.special"):
            if find_object(module, function.__name__) is function:
                self._add_texts(module, function.__name__)
                return
        raise self._refuse(function, "which shows no code")

    def _add_module(self, module: types.ModuleType) -> None:
        if package := package_of(module.__name__):
            self._add_texts(module.__name__, package)
        elif sources := sources_of(module):
            self._add_texts(repr(sources))
        else:
            raise self._refuse(module, "which has no file")

    def _add_class(self, kind: type) -> None:
        """Add a class; of an installed one, its version and the methods that the user's code has put into it."""
        self._add_texts(str(kind.__module__), kind.__qualname__)
        members = {key: value for key, value in vars(kind).items() if key not in IGNORED_IN_CLASSES}
        if (package := package_of(kind.__module__)) and find_object(kind.__module__, kind.__qualname__) is kind:
            self._add_texts(package)
            members = {key: value for key, value in members.items() if _is_users_own(value)}
        self._add_all(*kind.__bases__, type(kind))
        self._add_attributes(members)

    def _add_instance(self, value: object) -> None:
        if isinstance(value, CHANGING):
            raise self._refuse(value, "which changes with every use")
        # A function compiled by numba has the attribute `py_func`, its Python code.
        if type(value).__module__.startswith("numba.") and hasattr(value, "py_func"):
            self.add(value.py_func)
            return
        make, arguments, state, items, pairs = (*self._reduce(value), None, None, None)[:5]
        self._add_all(make, arguments)
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self._add_attributes(part)
            else:
                self.add(part)
        self._add_sequence(items or ())
        self._add_sequence(pairs or ())

    def _reduce(self, value: object) -> tuple:
        """Return the constructor, its arguments and the state of an instance, as for `copy` and `pickle`, complete."""
        kind = type(value)
        owner = next(base for base in kind.__mro__ if PICKLING & vars(base).keys())
        try:
            if owner is not object and package_of(owner.__module__) is None:
                # The user's own __reduce__ or __getstate__ may leave attributes out.
                return kind, _content_of_built_in(value), _all_attributes(value)
            made = copyreg.dispatch_table[kind](value) if kind in copyreg.dispatch_table else value.__reduce_ex__(4)
        except Exception as error:  # classes may refuse in any way
            raise self._refuse(value, "which does not show its content") from error
        if isinstance(made, tuple):
            return made
        module = getattr(value, "__module__", None) or kind.__module__
        if find_object(module, made) is not value:
            raise self._refuse(value, "which does not show its content")
        return made, (module, package_of(module))


def weights_sha256(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """Return the SHA-256 of the names, shapes, dtypes and values of weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        for text in (name, f"{tuple(tensor.shape)} {tensor.dtype}"):
            digest.update(f"{len(text)}:{text}".encode())
        digest.update(tensor_bytes(tensor).data)
    return digest.hexdigest()


def tensor_bytes(tensor: torch.Tensor) -> np.ndarray:
    """Return the bytes of a tensor, on any device and in any layout."""
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    tensor = tensor.cpu().resolve_conj().resolve_neg().contiguous()
    return tensor.reshape(-1).view(torch.uint8).numpy()


def _is_users_own(member: object) -> bool:
    """Whether a member of an installed class is a function of the user's own code."""
    return isinstance(member, types.FunctionType) and package_of(member.__globals__.get("__name__")) is None


def _all_attributes(value: object) -> dict[str, object]:
    slots = {
        name: getattr(value, name)
        for base in type(value).__mro__
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType) and hasattr(value, name)
    }
    return slots | getattr(value, "__dict__", {})


def _content_of_built_in(value: object) -> tuple:
    """Return the content of a list, dict, text or number, without methods that a subclass overrides."""
    built_in: tuple[Any, ...] = (dict, list, tuple, set, frozenset, str, bytes, int, float)
    for kind in built_in:
        if isinstance(value, kind):
            return (kind(value),)
    return ()
