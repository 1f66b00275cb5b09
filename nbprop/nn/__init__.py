"""Layers and losses as objects, with torch.nn's names, arguments and defaults."""

from nbprop.nn.activation import (
    ELU,
    GELU,
    Abs,
    Activation,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    LearnedActivation,
    Power,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from nbprop.nn.adaptive_pooling import AdaptiveAvgPool2d, AdaptiveMaxPool2d
from nbprop.nn.conv import Conv2d, ConvTranspose2d
from nbprop.nn.dropout import Dropout
from nbprop.nn.flatten import Flatten
from nbprop.nn.fold import Fold, Unfold
from nbprop.nn.function import Function
from nbprop.nn.graph import Graph, Residual
from nbprop.nn.layer_norm import LayerNorm
from nbprop.nn.linear import Linear
from nbprop.nn.loss import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    EuclideanLoss,
    HuberLoss,
    L1Loss,
    MSELoss,
    PointwiseLoss,
)
from nbprop.nn.merge import Add, Concat, Merge
from nbprop.nn.module import Module, Parameter
from nbprop.nn.norm import MVN, BatchNorm2d, GroupNorm, InstanceNorm2d
from nbprop.nn.padding import (
    CircularPad2d,
    ConstantPad2d,
    Crop2d,
    ReflectionPad2d,
    ReplicationPad2d,
    ZeroPad2d,
)
from nbprop.nn.pooling import AvgPool2d, MaxPool2d
from nbprop.nn.recompute import Recompute
from nbprop.nn.sequential import Sequential
from nbprop.nn.softmax import LogSoftmax, Softmax
from nbprop.nn.style import GramMatrix, StyleLoss
from nbprop.nn.total_variation import TotalVariationLoss
from nbprop.nn.unpooling import AvgUnpool2d, MaxUnpool2d
from nbprop.nn.upsample import Upsample

__all__ = [
    "ELU",
    "GELU",
    "MVN",
    "Abs",
    "Activation",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "Add",
    "AvgPool2d",
    "AvgUnpool2d",
    "BCEWithLogitsLoss",
    "BatchNorm2d",
    "CircularPad2d",
    "Concat",
    "ConstantPad2d",
    "Conv2d",
    "ConvTranspose2d",
    "Crop2d",
    "CrossEntropyLoss",
    "Dropout",
    "EuclideanLoss",
    "Flatten",
    "Fold",
    "Function",
    "GramMatrix",
    "Graph",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "HuberLoss",
    "InstanceNorm2d",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "LearnedActivation",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "MaxUnpool2d",
    "Merge",
    "Module",
    "PReLU",
    "Parameter",
    "PointwiseLoss",
    "Power",
    "ReLU",
    "Recompute",
    "ReflectionPad2d",
    "ReplicationPad2d",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "StyleLoss",
    "Tanh",
    "TotalVariationLoss",
    "Unfold",
    "Upsample",
    "ZeroPad2d",
]
