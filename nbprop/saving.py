"""Models on disk: weights as safetensors, and in that file's header what builds the model again.

    header: {"nbprop": version, "model": JSON of {"layer": class name of nbprop.nn, "arguments": {...}}}

Nothing in the file is code: a class is looked up in nbprop.nn by name, and its arguments are plain values.
"""

import inspect
import json
import os
import pathlib

import numpy as np

from nbprop import nn
from nbprop.nn.module import Module

__all__ = ["build", "describe", "load", "load_weights", "save", "write"]

FILE = "model.safetensors"


def save(model, path):
    """Write a model's weights, and what builds it again, to `path` (a .safetensors file).

    Parameters
    ----------
    model : Module
        Its weights go under torch's names. Unless it is made of nbprop.nn's layers alone it can be read with
        `load_weights` but not with `load`.
    path : str or path
        Replaced at once when all is written.
    """
    from safetensors.numpy import save as encode

    from nbprop.version import __version__

    header = {"nbprop": __version__}
    try:
        header["model"] = json.dumps(describe(model))
    except ValueError as e:
        header["not described"] = str(e)
    write(path, encode(model.state_dict(), header))


def load(path):
    """Build the model that `save` or a Trainer's run wrote, with its weights, in eval mode.

    Parameters
    ----------
    path : str or path
        The file, or the run folder that holds it.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is missing, damaged, or does not say how its model is built.
    """
    weights, header = _read(path)
    if "model" not in header:
        reason = header.get("not described", "its header has no description")
        raise ValueError(f"{path} holds weights but not how their model is built ({reason}); build the model "
                         "yourself and call model.load_state_dict(nbprop.load_weights(path))")
    try:
        model = build(json.loads(header["model"]))
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as e:
        raise ValueError(f"{path} describes a model that cannot be built ({e}); expected one saved by "
                         "nbprop") from None
    return model.load_state_dict(weights).eval()


def load_weights(path):
    """Return {name: array} of a safetensors file, ours or anyone's."""
    return _read(path)[0]


def describe(module):
    """Return {"layer": its class's name, "arguments": {...}}: what a module was made with, in plain values.

    Raises
    ------
    ValueError
        If a class is not one of nbprop.nn, or an argument is not plain.
    """
    kind = type(module)
    if getattr(nn, kind.__name__, None) is not kind:
        raise ValueError(f"{kind.__name__} is not a layer of nbprop.nn")
    positional, named = module.made_with
    arguments = inspect.signature(kind).bind(*positional, **named).arguments
    plain = {name: _plain(value, f"{kind.__name__}'s {name}") for name, value in arguments.items()}
    return {"layer": kind.__name__, "arguments": plain}


def build(description):
    """Make the module that `describe` described, with fresh weights."""
    kind = getattr(nn, description["layer"], None)
    if not (isinstance(kind, type) and issubclass(kind, Module)):
        raise ValueError(f"layer is {description['layer']!r}; expected the name of a layer of nbprop.nn: a "
                         "newer version may have it")
    named = {name: _built(value) for name, value in description["arguments"].items()}
    parameters = inspect.signature(kind).parameters.values()
    several = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    return kind(*named.pop(several, []), **named)


def _built(value):
    """Undo `_plain`."""
    if isinstance(value, list):
        return [_built(v) for v in value]
    if isinstance(value, dict):
        return {k: _built(v) for k, v in value["nodes"].items()} if "nodes" in value else build(value)
    return value


def write(path, data):
    """Write bytes or text to a file that is whole at any moment: beside it first, then in its place."""
    path = pathlib.Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(data.encode() if isinstance(data, str) else data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _plain(value, name):
    """Turn an argument into what JSON holds."""
    if isinstance(value, Module):
        return describe(value)
    if isinstance(value, (tuple, list)):
        return [_plain(v, name) for v in value]
    if isinstance(value, dict):
        return {"nodes": {str(k): _plain(v, name) for k, v in value.items()}}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{name} is a {type(value).__name__}, which is not a plain value")


def _read(path):
    from safetensors import SafetensorError, safe_open

    path = pathlib.Path(path)
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; expected a .safetensors file, or a run folder that "
                                f"holds {FILE}")
    try:
        with safe_open(file, framework="numpy") as tensors:
            return {name: tensors.get_tensor(name) for name in tensors.keys()}, tensors.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as e:
        raise ValueError(f"{file} ({file.stat().st_size:,} bytes) cannot be read as safetensors ({e}): it is "
                         "cut or damaged") from None
