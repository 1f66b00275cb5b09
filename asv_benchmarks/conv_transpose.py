"""Transposed convolution: the suite's row, each of its three passes."""

from nbprop.bench import clock, conv, suite

ROWS = {name: row for name, row in suite.conv_rows().items() if row.transposed}


class ConvTranspose2d:
    params = (list(ROWS), list(suite.PASSES))
    param_names = ("row", "pass")

    def setup(self, name, pass_):
        contests = {c.pass_: c for c in conv.contests(name, ROWS[name], None)}
        self.run = contests[pass_].ours
        self.run()

    def time_pass(self, name, pass_):
        self.run()

    def track_gflops(self, name, pass_):
        return ROWS[name].flops / clock.median(self.run) / 1e9

    track_gflops.unit = "GFLOP/s"
