"""SGD, Adam and AdamW with torch.optim's arguments: one fused pass over each group's flat vector."""

import math

import numpy as np

from nbprop import backend
from nbprop.nn.module import _ALIGN, Parameter, flatten
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
        slices = _slices([group["params"] for group in self.param_groups])
        for group, (data, grad) in zip(self.param_groups, slices):
            group["data"], group["grad"] = data, grad
            group["state"] = {name: np.zeros_like(data) for name in self.slots}
            group["step"] = 0
        self._options = tuple(defaults)

    def step(self):
        """Update every parameter from its gradient."""
        for group in self.param_groups:
            group["step"] += 1
            self._update(group, backend.twin("update", group["data"]))

    def zero_grad(self):
        """Set gradients to zero. Never needed: a backward pass overwrites them."""
        for group in self.param_groups:
            group["grad"][...] = 0

    def state_dict(self):
        """Return copies of what a resumed run needs: for each group a dict of options, step and state."""
        names = (*self._options, "step")
        return [{name: group[name] for name in names} | {k: v.copy() for k, v in group["state"].items()}
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
        for group, saved in zip(self.param_groups, state):
            group.update({name: saved[name] for name in (*self._options, "step")})
            for name in self.slots:
                group["state"][name][...] = saved[name]

    def _check(self, options):
        raise NotImplementedError

    def _update(self, group, twin):
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

    def _update(self, group, twin):
        w, dw, lr, decay = group["data"], group["grad"], group["lr"], group["weight_decay"]
        if group["momentum"] == 0:
            twin.sgd_update(w, dw, lr, decay)
            return
        # torch starts the sum from the first gradient itself, undamped
        dampening = group["dampening"] if group["step"] > 1 else 0.0
        m = group["state"]["momentum_buffer"]
        twin.sgd_momentum_update(w, dw, m, lr, group["momentum"], dampening, decay, group["nesterov"])


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

    def _update(self, group, twin):
        m, v = group["state"]["exp_avg"], group["state"]["exp_avg_sq"]
        twin.adam_update(group["data"], group["grad"], m, v, group["lr"], *group["betas"], group["eps"],
                         group["weight_decay"], self.decoupled, group["step"])  # fmt: skip


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
    order = _in_memory([parameters])
    if order is not None:
        return update.norm(order[0][1])
    vectors = (p.grad.transpose(p.memory).reshape(-1) for p in parameters)
    return math.sqrt(sum(update.norm(vector) ** 2 for vector in vectors))


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


def _slices(groups):
    """Return (data, grad) of each group of parameters, one slice each, moving parameters where they must."""
    found = _in_memory(groups)
    if found is None:
        _move([p for group in groups for p in group])
        found = _in_memory(groups)
    return found


def _move(parameters):
    """Lay parameters out one after another, inside the vectors that they fill if they fill them together."""
    before = [_Run(arrays) for arrays in ([p.data for p in parameters], [p.grad for p in parameters])]
    data, grad = flatten(parameters)
    old, old_grad = (run.vector(data.size) for run in before)
    if old is None or old_grad is None or before[0].size > data.size or before[1].size > data.size:
        return
    order = _Run([data])
    for p in parameters:
        start = order.offset(p.data)
        p.place(old[start : start + p.size], old_grad[start : start + p.size], np.copy(p.data))
    old_grad[...] = grad


def _in_memory(groups):
    """Return (data, grad) of each group, or None unless its parameters lie side by side in one vector."""
    found = []
    for group in groups:
        data, grad = _Run([p.data for p in group]), _Run([p.grad for p in group])
        end = 0
        for p in sorted(group, key=lambda p: p.data.ctypes.data):
            start = data.offset(p.data)
            if data.owner is None or start - end >= _ALIGN or start != grad.offset(p.grad):
                return None
            end = start + p.size
        vectors = data.vector(end), grad.vector(end)
        if vectors[0] is None or vectors[1] is None:
            return None
        found.append(vectors)
    return found


class _Run:
    """The stretch of memory from the first to the last of some arrays of one dtype."""

    def __init__(self, arrays):
        owners = {id(owner): owner for owner in map(_owner, arrays)}
        self.owner = next(iter(owners.values())) if len(owners) == 1 else None
        self.dtype = arrays[0].dtype
        self.begin = min(a.ctypes.data for a in arrays)
        self.size = (max(a.ctypes.data + a.nbytes for a in arrays) - self.begin) // self.dtype.itemsize

    def offset(self, array):
        """Elements from the beginning to an array's first."""
        return (array.ctypes.data - self.begin) // self.dtype.itemsize

    def vector(self, size):
        """View `size` elements from the beginning on, or None if no one array owns them."""
        if self.owner is None or not self.owner.flags.c_contiguous:
            return None
        memory = self.owner.reshape(-1).view(np.uint8)
        start = self.begin - self.owner.ctypes.data
        stop = start + size * self.dtype.itemsize
        return memory[start:stop].view(self.dtype) if stop <= memory.size else None


def _owner(array):
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
