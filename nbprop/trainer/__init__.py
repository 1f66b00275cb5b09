"""Train a model: `Trainer`, what stops it, and what can be done at the end of each epoch."""

from nbprop.trainer.callbacks import EarlyStopping, KeepBest
from nbprop.trainer.fit import Trainer, TrainingDiverged

__all__ = ["EarlyStopping", "KeepBest", "Trainer", "TrainingDiverged"]
