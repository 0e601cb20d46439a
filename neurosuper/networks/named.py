"""Networks by name, from the collections timm, torchvision, open_clip and torch.hub."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

from neurosuper._checks import Seed, one_line_with_type, seed_or_new
from neurosuper._optional import require
from neurosuper._preprocessing import EachImage

__all__ = ["NamedNetwork", "load_network"]

MANY = 5  # names that an error lists


class NamedNetwork(NamedTuple):
    """A network and its own preprocessing.

    Parameters
    ----------
    model : torch.nn.Module
        The network; of open_clip, the part that sees images.
    preprocess : callable or None
        From a batch (n, 3, row, column) in [0, 1] to the input of the network. It gives each image to the transform of
        the collection, as an image of PIL. None for networks of torch.hub, which have none.

    See Also
    --------
    load_network : load a network by its name.

    Examples
    --------
    >>> model, preprocess = load_network("torchvision:squeezenet1_1", pretrained=False)
    >>> preprocess(torch.zeros(2, 3, 300, 400)).shape
    torch.Size([2, 3, 224, 224])
    """

    model: nn.Module
    preprocess: EachImage | None


def load_network(name: str, *, pretrained: bool = True, random_state: Seed = 0) -> NamedNetwork:
    """Return a network of a collection by name, with its own preprocessing of images.

    Parameters
    ----------
    name : str
        One of these, with the names of each collection:

        - "timm:vit_small_patch16_224", or "timm:vit_small_patch16_224.augreg_in21k" for other weights;
        - "torchvision:resnet18", or "torchvision:resnet50:IMAGENET1K_V1" for other weights than the default;
        - "open_clip:ViT-B-32:laion2b_s34b_b79k", with the name of the weights, or "open_clip:hf-hub:owner/name";
        - "hub:facebookresearch/dino:main:dino_vits16", the repository (with or without a branch), then the entry point.
    pretrained : bool, optional
        Whether the network has its trained weights, which are downloaded at first use. False: the random weights that
        its own code gives it (see `randomize` for other controls); for open_clip, leave out the weights then.
    random_state : int, Generator, RandomState or None, optional
        Seed of random weights; the global generator of torch is not touched.

    Returns
    -------
    NamedNetwork
        `model`, in eval mode, and `preprocess`.

    Raises
    ------
    TypeError
        A name that is not text.
    ValueError
        An unknown collection or name; a network that cannot be loaded. The message lists similar names.
    ImportError
        The collection is not installed: `pip install 'neurosuper[networks]'`.

    See Also
    --------
    neurosuper.activations : takes such a name in place of a network.
    randomize : random weights for any network.

    Notes
    -----
    torch.hub runs the code of the repository that you name, and asks before it does so for the first time. It says
    nothing about how images are preprocessed: pass `preprocess` to `activations`.

    Examples
    --------
    >>> network = load_network("torchvision:squeezenet1_1", pretrained=False)
    >>> [name for name, _ in network.model.named_modules()][:4]
    ['', 'features', 'features.0', 'features.1']
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a network must be text such as 'timm:resnet18', got {type(name).__name__}")
    collection, _, rest = name.partition(":")
    if collection not in COLLECTIONS or not rest:
        raise ValueError(
            f"a network must be named as 'collection:name', with a collection among {', '.join(COLLECTIONS)}, such as "
            f"'torchvision:resnet18', got {name!r}"
        )
    seed = seed_or_new(random_state)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model, transform = COLLECTIONS[collection](rest, pretrained)
    except (ImportError, _NameError):
        raise
    except Exception as error:  # collections fail in many ways: no connection, no such weights, old files
        raise ValueError(f"the network {name!r} cannot be loaded: {one_line_with_type(error)}") from error
    return NamedNetwork(model.eval(), None if transform is None else EachImage(transform))


Loaded = tuple[nn.Module, Callable[[Any], torch.Tensor] | None]


class _NameError(ValueError):
    """A name that a collection does not have."""


def _check_name(what: str, name: str, known: Iterable[str]) -> None:
    if name in (known := list(known)):
        return
    near = difflib.get_close_matches(name, known, n=MANY, cutoff=0.4) or known[:MANY]
    raise _NameError(f"{what} {name!r}; it has {', '.join(near)}{', …' * (len(near) < len(known))}")


def _from_timm(name: str, pretrained: bool) -> Loaded:
    timm = require("timm", "networks")
    if ":" not in name and "/" not in name:  # other names are addresses, such as "hf-hub:owner/name"
        _check_name("timm has no network", name.partition(".")[0], timm.list_models())
    model = timm.create_model(name, pretrained=pretrained)
    return model, timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)


def _from_torchvision(text: str, pretrained: bool) -> Loaded:
    models = require("torchvision", "networks").models
    name, _, tag = text.partition(":")
    _check_name("torchvision has no network", name, models.list_models())
    known = models.get_model_weights(name)
    if tag:
        _check_name(f"torchvision:{name} has no weights", tag, known.__members__)
    weights = known[tag] if tag else known.DEFAULT
    return models.get_model(name, weights=weights if pretrained else None), weights.transforms()


def _from_open_clip(text: str, pretrained: bool) -> Loaded:
    open_clip = require("open_clip", "networks")
    settings: dict[str, Any] = {"load_weights": pretrained, "pretrained_text": pretrained}
    if text.startswith("hf-hub:"):
        name = text
    else:
        name, _, tag = text.partition(":")
        _check_name("open_clip has no network", name, open_clip.list_models())
        if pretrained:
            _check_name(f"open_clip:{name} has no weights", tag, open_clip.list_pretrained_tags_by_model(name))
            # OpenAI's weights were trained with another activation function than the architecture of that name has.
            quick = open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False)
            settings |= {"pretrained": tag, "force_quick_gelu": quick}
    model, _, transform = open_clip.create_model_and_transforms(name, **settings)
    return model.visual, transform


def _from_hub(text: str, pretrained: bool) -> Loaded:
    repository, _, entry = text.rpartition(":")
    if "/" not in repository:
        raise _NameError(f"a network of torch.hub is named as 'hub:owner/repository:entry point', got 'hub:{text}'")
    with warnings.catch_warnings():
        # torchvision: "the parameter 'pretrained' is deprecated"; no other parameter is common to all repositories.
        warnings.simplefilter("ignore", UserWarning)
        try:
            model = torch.hub.load(repository, entry, pretrained=pretrained, verbose=False, trust_repo="check")
        except EOFError as error:  # it asks in the terminal
            raise _NameError(
                f"torch.hub asks whether it may run the code of {repository}, and no one can answer here; if you trust "
                f"it, call torch.hub.load({repository!r}, {entry!r}, trust_repo=True) once"
            ) from error
    if not isinstance(model, nn.Module):
        raise _NameError(f"'hub:{text}' is a {type(model).__name__}, not a network; name another entry point")
    return model, None


COLLECTIONS = {"timm": _from_timm, "torchvision": _from_torchvision, "open_clip": _from_open_clip, "hub": _from_hub}
