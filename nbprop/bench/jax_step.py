"""The mlp's training step in JAX, compiled by `jax.jit`: `nbprop bench step mlp --vs jax`."""

import importlib.util
import os

import numpy as np

__all__ = ["check", "mlp_step"]


def check(what, names, threads):
    """Return the jax module, or refuse what cannot be compared with it.

    Raises
    ------
    ValueError
        If jax is missing, another row is asked for, or other threads than JAX will use.
    """
    if what != "step" or set(names) != {"mlp"}:
        raise ValueError(f"--vs jax is given with bench {' '.join([what, *names])}; expected bench step mlp")
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if threads != cpus:
        raise ValueError(f"--threads is {threads}; expected {cpus} with --vs jax, which uses every CPU it is given")
    if importlib.util.find_spec("jax") is None:
        raise ValueError("--vs jax needs jax, which is not installed: pip install 'nbprop[bench]'")
    import jax

    return jax


def mlp_step(jax, start, x, target, lr, momentum):
    """Return a training step from the weights `start` in jitted JAX, and a function that reads its gradients.

    They are the momenta that the first step leaves: to return gradients from the step would cost JAX time.
    """
    jnp = jax.numpy
    cpu = jax.devices("cpu")[0]
    x, target = jax.device_put(x, cpu), jax.device_put(target, cpu)
    # JAX's own order of weights: (inputs, outputs).
    weights = [jax.device_put(np.ascontiguousarray(w.T), cpu) for w in start.values()]
    momenta = [jnp.zeros_like(w) for w in weights]

    def loss(weights):
        y = x
        for i in range(0, len(weights), 2):
            y = (jax.nn.relu(y) if i else y) @ weights[i] + weights[i + 1]
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(y), target[:, None], axis=1))

    def update(weights, momenta):
        value, gradients = jax.value_and_grad(loss)(weights)
        momenta = [momentum * m + g for m, g in zip(momenta, gradients)]
        return value, [w - lr * m for w, m in zip(weights, momenta)], momenta

    update = jax.jit(update, donate_argnums=(0, 1))

    def run():
        nonlocal weights, momenta
        value, weights, momenta = jax.block_until_ready(update(weights, momenta))
        return value

    return run, lambda: [np.asarray(m).T for m in momenta]
