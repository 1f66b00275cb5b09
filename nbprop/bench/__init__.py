"""`nbprop bench`: the named work of suite.json, timed alone or in turns with PyTorch."""
