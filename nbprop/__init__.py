"""Neural networks from hand-derived gradients, in Python alone, compiled by Numba.

    from nbprop import Trainer, data, models, nn, optim

Importing compiles nothing and loads no CUDA package; Numba itself, half a second, is loaded with the first name used.
"""

import importlib
from typing import TYPE_CHECKING

from nbprop.version import __version__

if TYPE_CHECKING:  # what editors and type checkers read; `_HOMES` says it once more
    from nbprop import data, models, nn, ops, optim, schedule
    from nbprop.backend import to_device, to_host, using
    from nbprop.gradient_check import adjoint_check, gradcheck
    from nbprop.model_summary import summary
    from nbprop.nn.activation import activation
    from nbprop.nn.init import manual_seed
    from nbprop.norms_of_gradients import gradient_norms
    from nbprop.ops.conv.choose import exact_convolution
    from nbprop.precision import allow_bf16, allow_tf32
    from nbprop.saving import load, load_weights, save
    from nbprop.trainer import EarlyStopping, KeepBest, Trainer, TrainingDiverged

__all__ = [
    "EarlyStopping",
    "KeepBest",
    "Trainer",
    "TrainingDiverged",
    "__version__",
    "activation",
    "adjoint_check",
    "allow_bf16",
    "allow_tf32",
    "data",
    "exact_convolution",
    "gradcheck",
    "gradient_norms",
    "load",
    "load_weights",
    "manual_seed",
    "models",
    "nn",
    "ops",
    "optim",
    "save",
    "schedule",
    "summary",
    "to_device",
    "to_host",
    "using",
]

# Where each name lives that is no module of its own.
_HOMES = {
    "EarlyStopping": "trainer",
    "KeepBest": "trainer",
    "Trainer": "trainer",
    "TrainingDiverged": "trainer",
    "activation": "nn.activation",
    "adjoint_check": "gradient_check",
    "allow_bf16": "precision",
    "allow_tf32": "precision",
    "exact_convolution": "ops.conv.choose",
    "gradcheck": "gradient_check",
    "gradient_norms": "norms_of_gradients",
    "load": "saving",
    "load_weights": "saving",
    "manual_seed": "nn.init",
    "save": "saving",
    "summary": "model_summary",
    "to_device": "backend",
    "to_host": "backend",
    "using": "backend",
}


def __getattr__(name):
    """Import what a public name stands for when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"nbprop has no attribute {name!r}")
    home = _HOMES.get(name)
    module = importlib.import_module(f"{__name__}.{home or name}")
    value = globals()[name] = getattr(module, name) if home else module
    return value


def __dir__():
    return __all__
