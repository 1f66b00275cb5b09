"""The folder that a training run leaves behind; readable after every epoch."""

import importlib.util
import json

from nbprop import saving

__all__ = ["RunFolder", "read_json"]


class RunFolder:
    """Writes model.safetensors, config.json, history.json and curves.png.

    Raises
    ------
    OSError
        If the folder cannot be made or written, before training begins.
    """

    def __init__(self, path, trainer, train, epochs, batch_size):
        from nbprop.version import __version__

        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        group = trainer.optimizer.param_groups[0]
        optimizer = {key: value for key, value in group.items() if key != "step" and _is_plain(value)}
        config = {
            **trainer.config,
            "nbprop": __version__,
            "epochs": epochs,
            "batch_size": batch_size,
            "seed": trainer.seed,
            "loss": type(trainer.loss).__name__,
            "optimizer": {"name": type(trainer.optimizer).__name__, **optimizer},
            "input_dtype": train.images.dtype.name,
            "input_shape": list(train.images.shape[1:]),
            "classes": train.classes,
            "scaling": train.scaling._asdict(),
        }
        _write_json(path / "config.json", config)
        self.epoch_ended(trainer)  # nothing of an earlier run in this folder is left beside this one's config

    def epoch_ended(self, trainer):
        saving.save(trainer.model, self.path / saving.FILE)
        _write_json(self.path / "history.json", trainer.history)

    def fit_ended(self, trainer):
        if importlib.util.find_spec("matplotlib") is not None:
            from nbprop.trainer.curves import draw

            draw(trainer.history, self.path / "curves.png")


def read_json(path):
    """Return what a run's JSON file holds.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is missing or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; expected the folder of a run: nbprop train writes it")
    try:
        return json.loads(path.read_text())
    except ValueError as e:
        raise ValueError(f"{path} cannot be read as JSON ({e}): it is cut or damaged") from None


def _write_json(path, value):
    saving.write(path, json.dumps(value, indent=1) + "\n")


def _is_plain(value):
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, (bool, int, float, str))
