"""python -m nbprop: the command line."""

import sys

from nbprop.cli import main

sys.exit(main())
