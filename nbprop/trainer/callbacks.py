"""What can be done after an epoch: any function (trainer, record), or an object with `on_epoch_end`."""

from nbprop.saving import save

__all__ = ["EarlyStopping", "KeepBest"]


class _Best:
    """Remembers the best value so far of one entry of the records."""

    def __init__(self, monitor):
        self.monitor, self.best, self.epoch = monitor, None, 0

    def improved(self, record):
        value = record.get(self.monitor)
        if value is None:
            raise ValueError(f"monitor is {self.monitor!r}, which this run does not record; expected one of "
                             f"{[key for key, v in record.items() if v is not None]}: pass validation data "
                             "to fit")
        better = self.best is None or (value > self.best if "accuracy" in self.monitor else value < self.best)
        if better:
            self.best, self.epoch = value, record["epoch"]
        return better


class EarlyStopping:
    """End training when a figure has not improved for some epochs.

    Parameters
    ----------
    patience : int
        Number of epochs without improvement after which training ends.
    monitor : str
        Entry of the history's records; an accuracy should rise, a loss fall.
    """

    def __init__(self, patience=3, monitor="validation_loss"):
        self.patience, self._best = patience, _Best(monitor)

    def on_epoch_end(self, trainer, record):
        self._best.improved(record)
        if record["epoch"] - self._best.epoch >= self.patience:
            trainer.stop = True


class KeepBest:
    """Save the model whenever a figure improves.

    Parameters
    ----------
    path : path, optional
        By default best.safetensors in the trainer's run folder.
    monitor : str
        Entry of the history's records; an accuracy should rise, a loss fall.
    """

    def __init__(self, path=None, monitor="validation_loss"):
        self.path, self._best = path, _Best(monitor)

    def on_epoch_end(self, trainer, record):
        path = self.path if self.path is not None else trainer.out and trainer.out / "best.safetensors"
        if path is None:
            raise ValueError("path is None and the trainer has no run folder; expected KeepBest(path) or "
                             "Trainer(out=...)")
        if self._best.improved(record):
            save(trainer.model, path)
