"""Makes method/bayes/vi/testdata/elbo.json: gradients of variational bounds by NumPyro's
estimators, each the mean over many draws with its standard error.

    pip install -r parity/requirements-stats.txt
    python3 parity/inference.py

"logistic" is a Bayesian logistic regression on five points with a normal guide, "switch" a
normal observation whose mean one of two hidden bits and a normal one shift, with a guide of
independent choices; the bits have score-function gradients.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import RenyiELBO, Trace_ELBO, TraceGraph_ELBO

X = jnp.array([[1.0, -0.5], [0.3, 1.2], [-0.7, 0.4], [1.5, 0.1], [-1.1, -0.9]])
Y = jnp.array([1.0, 0.0, 0.0, 1.0, 1.0])


def logistic():
    z = numpyro.sample("z", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
    numpyro.sample("y", dist.Bernoulli(logits=X @ z).to_event(1), obs=Y)


def logistic_guide():
    mean, scale = numpyro.param("mean", jnp.array([0.2, -0.1])), numpyro.param("scale", jnp.array([-0.3, 0.2]))
    numpyro.sample("z", dist.Normal(mean, jnp.exp(scale)).to_event(1))


def switch():
    b = numpyro.sample("b", dist.Bernoulli(logits=jnp.array([0.5, -0.5])).to_event(1))
    z = numpyro.sample("z", dist.Normal(b[0], 1.0))
    numpyro.sample("y", dist.Normal(z + 2 * b[1], 0.5), obs=1.3)


def switch_guide():
    logits = numpyro.param("logits", jnp.array([0.1, 0.4]))
    mean, scale = numpyro.param("mean", jnp.array([0.6])), numpyro.param("scale", jnp.array([-0.5]))
    numpyro.sample("b", dist.Bernoulli(logits=logits).to_event(1))
    numpyro.sample("z", dist.Normal(mean[0], jnp.exp(scale[0])))


def estimate(model, guide, elbo, params, draws):
    """Mean and standard error of the bound and of its gradients."""
    one = lambda key: jax.value_and_grad(lambda p: elbo.loss(key, p, model, guide))(params)
    value, grads = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(63), draws))
    flat = np.concatenate([np.asarray(value)[:, None]] + [np.asarray(grads[k]) for k in params], axis=1)
    flat = -flat.astype(np.float64)  # the loss is the negative bound
    return {"mean": flat.mean(axis=0).round(7).tolist(), "se": (flat.std(axis=0, ddof=1) / np.sqrt(draws)).round(9).tolist()}


def main():
    a = {"mean": jnp.array([0.2, -0.1]), "scale": jnp.array([-0.3, 0.2])}
    b = {"logits": jnp.array([0.1, 0.4]), "mean": jnp.array([0.6]), "scale": jnp.array([-0.5])}
    out = {
        "logistic_elbo": estimate(logistic, logistic_guide, Trace_ELBO(), a, 100000),
        "logistic_iwelbo5": estimate(logistic, logistic_guide, RenyiELBO(alpha=0.0, num_particles=5), a, 100000),
        "switch_elbo": estimate(switch, switch_guide, TraceGraph_ELBO(), b, 200000),
    }
    path = pathlib.Path(__file__).parent.parent / "method/bayes/vi/testdata/elbo.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
