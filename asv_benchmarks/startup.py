"""What a user waits for before the first result: import, first step with and without a cache."""

import os
import subprocess
import sys
import tempfile

# Print the seconds that the first training step takes, imports not counted.
FIRST_STEP = """
import time
from nbprop.bench import step, suite
(contest,) = step.contests("lenet", suite.net_rows()["lenet"], None)
start = time.perf_counter()
contest.ours()
print(time.perf_counter() - start)
"""


def printed(code, cache=None):
    """Run code in a new process, with its own folder of compiled kernels if one is given."""
    environment = os.environ | ({"NUMBA_CACHE_DIR": cache} if cache else {})
    return float(subprocess.check_output([sys.executable, "-c", code], env=environment, text=True))


class Import:
    timeout = 60

    def timeraw_import(self):
        return "import nbprop"

    def timeraw_import_parts(self):
        return "from nbprop import data, models, nn, optim, trainer"


class FirstStep:
    """The first step of LeNet in a new process."""

    timeout = 300

    def setup(self):
        self.cache = tempfile.TemporaryDirectory()

    def teardown(self):
        self.cache.cleanup()

    def track_cold(self):
        return printed(FIRST_STEP, self.cache.name)

    def track_warm(self):
        printed(FIRST_STEP, self.cache.name)
        return printed(FIRST_STEP, self.cache.name)

    track_cold.unit = track_warm.unit = "s"
