"""A finished run, read from its folder."""

import pathlib

__all__ = ["open_run"]


def open_run(folder, device="cpu"):
    """Return (trainer that evaluates and predicts, settings from config.json).

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder or a file in it is missing or damaged.
    """
    from nbprop import nn, saving
    from nbprop.trainer import Trainer
    from nbprop.trainer.run_folder import read_json

    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; expected the folder of a run: nbprop train "
                                "writes it")
    config = read_json(folder / "config.json")
    missing = {"scaling", "input_shape", "input_dtype", "batch_size"} - set(config)
    if missing:
        raise ValueError(f"{folder / 'config.json'} lacks {sorted(missing)}; expected the settings of a run")
    return Trainer(saving.load(folder), nn.CrossEntropyLoss(), progress=False, device=device), config
