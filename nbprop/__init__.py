"""Neural networks from hand-derived gradients, in Python alone, compiled by Numba.

    from nbprop import Trainer, data, models, nn, optim

Importing compiles nothing and loads no CUDA package.
"""

from nbprop import data, models, nn, optim, schedule
from nbprop.backend import to_device, to_host, using
from nbprop.gradcheck import adjoint_check, gradcheck
from nbprop.gradient_norms import gradient_norms
from nbprop.nn.activation import activation
from nbprop.nn.init import manual_seed
from nbprop.ops.conv.choose import exact_convolution
from nbprop.precision import allow_bf16, allow_tf32
from nbprop.saving import load, load_weights, save
from nbprop.summary import summary
from nbprop.trainer import EarlyStopping, KeepBest, Trainer, TrainingDiverged
from nbprop.version import __version__

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
    "optim",
    "save",
    "schedule",
    "summary",
    "to_device",
    "to_host",
    "using",
]
