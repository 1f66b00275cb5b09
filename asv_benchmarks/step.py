"""One training step of each net of the suite, as the trainer runs it: its time, its speed and its memory."""

from nbprop.bench import clock, memory, step, suite

ROWS = {name: row for name, row in suite.net_rows().items() if not step.missing(name, row)}


class Step:
    params = (list(ROWS),)
    param_names = ("net",)

    def setup(self, name):
        (contest,) = step.contests(name, ROWS[name], None)
        self.run, self.flops = contest.ours, contest.flops
        self.run()

    def time_step(self, name):
        self.run()

    def track_gflops(self, name):
        return self.flops / clock.median(self.run) / 1e9

    track_gflops.unit = "GFLOP/s"


class Memory:
    """Growth of a fresh process: by a few steps, and in all with imports, arrays, compiled code and Numba itself."""

    params = (list(ROWS),)
    param_names = ("net",)
    timeout = 300

    def setup(self, name):
        memory.grown(name, "ours", 1)  # with the kernels cached, the compiler's memory does not count

    def track_peak_of_steps(self, name):
        return memory.grown(name, "ours", 1).steps

    def track_peak_of_process(self, name):
        return memory.grown(name, "ours", 1).process

    track_peak_of_steps.unit = track_peak_of_process.unit = "bytes"
