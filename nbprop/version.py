"""The version, in the one place that the package, its files and its build read."""

__all__ = ["__version__"]

__version__ = "0.1.0"
