"""One training step of each net of the suite, as the trainer runs it."""

from nbprop.bench import step, suite

ROWS = {name: row for name, row in suite.net_rows().items() if not step.missing(name, row)}


class Step:
    params = (list(ROWS),)
    param_names = ("net",)

    def setup(self, name):
        (contest,) = step.contests(name, ROWS[name], None)
        self.run = contest.ours
        self.run()

    def time_step(self, name):
        self.run()
