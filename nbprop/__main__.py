"""`python -m nbprop` is the command `nbprop`."""

from nbprop.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
