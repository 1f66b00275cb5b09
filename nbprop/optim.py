"""SGD, Adam and AdamW with torch.optim's arguments: one fused pass over each group's flat vector."""

import math

import numpy as np

from nbprop import backend, layout
from nbprop.nn.parameter import ALIGN, Parameter, fill, flatten
from nbprop.ops import update

__all__ = ["SGD", "Adam", "AdamW", "grad_norm"]


class Optimizer:
    """Parameters in groups, each group one slice of the flat vectors that hold data and gradients.

    A group is a dict with its own values of the options ("lr", "weight_decay", ...) beside "params".
    `param_groups` is that list: change `optimizer.param_groups[0]["lr"]` to change the learning rate.
    """

    slots = ()  # names of the state vectors

    def __init__(self, params, **defaults):
        self.param_groups = _groups(params, defaults)
        for group in self.param_groups:
            self._check({name: group[name] for name in defaults})
        for group, run in zip(self.param_groups, _runs([group["params"] for group in self.param_groups])):
            group["run"], group["step"] = run, 0
            _take(group)
            data = group["data"]
            group["state"] = {name: layout.zeros(data.shape, data.dtype, data) for name in self.slots}
        self._options = tuple(defaults)

    def follow(self):
        """Find the vectors again where the model was moved by `model.to`; the state goes along."""
        for group in self.param_groups:
            home, _, _ = group["run"]
            if home.data is not group["vector"]:
                _take(group)
                move = layout.mover("cuda" if layout.on_gpu(home.data) else "cpu")
                group["state"] = {name: move(value) for name, value in group["state"].items()}

    def step(self, gate=None):
        """Update every parameter from its gradient.

        Parameters
        ----------
        gate : array, optional
            On the GPU an array whose first entry, unless it is finite, holds the update back.
        """
        self.follow()
        for group in self.param_groups:
            group["step"] += 1
            self._update(group, backend.twin("update", group["data"]), gate)

    def zero_grad(self):
        """Set gradients to zero. Never needed: a backward pass overwrites them."""
        self.follow()
        for group in self.param_groups:
            group["grad"][...] = 0

    def state_dict(self):
        """Return copies of what a resumed run needs: for each group a dict of options, step and state."""
        names = (*self._options, "step")
        here = layout.mover("cpu")
        return [{name: group[name] for name in names} | {k: here(v).copy() for k, v in group["state"].items()}
                for group in self.param_groups]  # fmt: skip

    def load_state_dict(self, state):
        """Take on what `state_dict` of an optimiser of the same parameters and groups returned.

        Raises
        ------
        ValueError
            If the number of groups, the names or the sizes differ.
        """
        if len(state) != len(self.param_groups):
            raise ValueError(f"state has {len(state)} groups; expected {len(self.param_groups)}")
        for i, (group, saved) in enumerate(zip(self.param_groups, state)):
            names = {*self._options, "step", *self.slots}
            if set(saved) != names:
                raise ValueError(f"state[{i}] has the entries {sorted(saved)}; expected {sorted(names)}")
            for name in self.slots:
                if np.shape(saved[name]) != group["data"].shape:
                    raise ValueError(f"state[{i}][{name!r}] has shape {np.shape(saved[name])}; expected "
                                     f"{group['data'].shape}")
        self.follow()
        for group, saved in zip(self.param_groups, state):
            group.update({name: saved[name] for name in (*self._options, "step")})
            for name in self.slots:
                group["state"][name][...] = saved[name]

    def _check(self, options):
        raise NotImplementedError

    def _update(self, group, twin, gate):
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent (`ops.update.sgd_momentum_update`), as torch.optim.SGD.

    Parameters
    ----------
    params : iterable of Parameter, or list of dict
        `model.parameters()`, or groups such as ``{"params": [...], "weight_decay": 0}``.
    lr, momentum, dampening, weight_decay : float
    nesterov : bool
        Needs a momentum and no dampening.
    """

    slots = ("momentum_buffer",)

    def __init__(self, params, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                         nesterov=nesterov)  # fmt: skip

    def _check(self, options):
        for name in ("lr", "momentum", "weight_decay"):
            _at_least_zero(name, options[name])
        if options["nesterov"] and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise ValueError(f"nesterov is True with momentum {options['momentum']} and dampening "
                             f"{options['dampening']}; expected a momentum above 0 and no dampening")

    def _update(self, group, twin, gate):
        w, dw, lr, decay = group["data"], group["grad"], group["lr"], group["weight_decay"]
        if group["momentum"] == 0:
            twin.sgd_update(w, dw, lr, decay, gate)
            return
        # torch starts the sum from the first gradient itself, undamped
        dampening = group["dampening"] if group["step"] > 1 else 0.0
        m = group["state"]["momentum_buffer"]
        twin.sgd_momentum_update(w, dw, m, lr, group["momentum"], dampening, decay, group["nesterov"], gate)


class Adam(Optimizer):
    """Adam (`ops.update.adam_update`), as torch.optim.Adam.

    Parameters
    ----------
    params : iterable of Parameter, or list of dict
        `model.parameters()`, or groups such as ``{"params": [...], "weight_decay": 0}``.
    lr : float
    betas : pair of float
        Decay of the running means of the gradient and of its square.
    eps : float
    weight_decay : float
        Added to the gradient, as weight_decay * w.
    """

    slots = ("exp_avg", "exp_avg_sq")
    decoupled = False

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _check(self, options):
        for name in ("lr", "eps", "weight_decay"):
            _at_least_zero(name, options[name])
        betas = options["betas"]
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas is {betas!r}; expected two numbers of at least 0 and below 1")

    def _update(self, group, twin, gate):
        m, v = group["state"]["exp_avg"], group["state"]["exp_avg_sq"]
        twin.adam_update(group["data"], group["grad"], m, v, group["lr"], *group["betas"], group["eps"],
                         group["weight_decay"], self.decoupled, group["step"], gate)  # fmt: skip


class AdamW(Adam):
    """Adam with decoupled weight decay, as torch.optim.AdamW: w <- w - lr weight_decay w before each step.

    Parameters
    ----------
    params : iterable of Parameter, or list of dict
        `model.parameters()`, or groups such as ``{"params": [...], "weight_decay": 0}``.
    lr : float
    betas : pair of float
        Decay of the running means of the gradient and of its square.
    eps, weight_decay : float
    """

    decoupled = True

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def grad_norm(params):
    """Return the Euclidean norm of all gradients of a model (or of parameters) as a float; NaN if one is NaN.

    One pass where the gradients already lie in one flat vector, as those of a Sequential do.
    """
    parameters = list(params.parameters() if hasattr(params, "parameters") else params)
    if not parameters:
        return 0.0
    run = _run(parameters)
    if run is not None:
        home, start, stop = run
        return update.norm(home.grad[start:stop])
    return math.sqrt(sum(update.norm(p.flat_grad) ** 2 for p in parameters))


def _at_least_zero(name, value):
    if not value >= 0:
        raise ValueError(f"{name} is {value!r}; expected a number of at least 0")


def _groups(params, defaults):
    """Bring `params` to a list of dicts that have every option, and check that each parameter comes once."""
    params = list(params)
    if not params:
        raise ValueError("params is empty; expected model.parameters() or a list of groups")
    given = params if isinstance(params[0], dict) else [{"params": params}]
    groups = []
    for i, group in enumerate(given):
        unknown = set(group) - {"params"} - set(defaults)
        if "params" not in group or unknown:
            raise ValueError(f"params[{i}] has the entries {sorted(group)}; expected params and any of "
                             f"{sorted(defaults)}")
        groups.append(defaults | group | {"params": list(group["params"])})
    everything = [p for group in groups for p in group["params"]]
    for p in everything:
        if not isinstance(p, Parameter):
            raise ValueError(f"params has a {type(p).__name__}; expected Parameters: model.parameters()")
    if len({id(p) for p in everything}) < len(everything):
        raise ValueError("params has one parameter twice; expected each in one group")
    return [group for group in groups if group["params"]]


def _take(group):
    """Keep a group's part of the vectors, and the vector that it is part of."""
    home, start, stop = group["run"]
    group["data"], group["grad"], group["vector"] = home.data[start:stop], home.grad[start:stop], home.data


def _runs(groups):
    """Return (home, start, stop) of each group of parameters, moving them where they do not lie side by side."""
    runs = list(map(_run, groups))
    if None in runs:
        _arrange([p for group in groups for p in group])
        runs = list(map(_run, groups))
    return runs


def _run(parameters):
    """Return (home, start, stop) of parameters that lie side by side in one home, else None."""
    in_order = sorted(parameters, key=lambda p: p.start)
    home, start, stop = in_order[0].home, in_order[0].start, in_order[0].start
    for p in in_order:
        if p.home is not home or p.start - stop >= ALIGN:
            return None
        stop = p.start + p.size
    return home, start, stop


def _arrange(parameters):
    """Lay parameters out one after another: inside the home that they fill, if they fill one together."""
    home = fill(parameters)
    data, grad = flatten(parameters)
    if home is not None:
        home.data[...], home.grad[...] = data, grad
        for p in parameters:
            p.settle(home, p.start)
