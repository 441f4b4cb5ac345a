"""Fits Gaussian hidden Markov models with hmmlearn, for method/stats/testdata.

    pip install -r parity/requirements-stats.txt
    python3 parity/hmm.py

Writes hmmlearn.json: two sequences, a start, and what EM without priors makes of it in
ten iterations, with full and with diagonal covariances: the log-likelihood before each
iteration, the parameters after the last, posteriors and the most likely path.
"""

import json
import os

import numpy as np
from hmmlearn import hmm

FOLDER = os.path.join(os.path.dirname(__file__), "..", "method", "stats", "testdata")
ITERATIONS = 10


def draw(rng, n):
    """Returns n observations of three states in two dimensions."""
    a = np.array([[0.9, 0.08, 0.02], [0.05, 0.9, 0.05], [0.1, 0.1, 0.8]])
    mean = np.array([[0.0, 5.0], [2.0, 4.0], [1.0, 7.0]])
    state, rows = 0, []
    for _ in range(n):
        state = rng.choice(3, p=a[state])
        rows.append(mean[state] + rng.normal(size=2) @ np.array([[0.8, 0.3], [0.0, 0.6]]) * (1 + 0.3 * state))
    return np.round(rows, 3)


def fit(y, lengths, kind, start):
    """Returns the model and the log-likelihoods on its way."""
    model = hmm.GaussianHMM(
        3, covariance_type=kind, n_iter=ITERATIONS, tol=-np.inf, init_params="",
        covars_prior=0.0, covars_weight=1.0 if kind == "diag" else 0.0, implementation="log",
    )
    model.startprob_, model.transmat_ = np.array(start["initial"]), np.array(start["transition"])
    model.means_ = np.array(start["means"])
    model.covars_ = np.ones((3, 2)) if kind == "diag" else np.stack([np.eye(2)] * 3)
    model.fit(y, lengths)
    return model


def main():
    rng = np.random.default_rng(55)
    parts = [draw(rng, 250), draw(rng, 150)]
    y, lengths = np.concatenate(parts), [len(p) for p in parts]
    start = {
        "initial": [0.5, 0.3, 0.2],
        "transition": [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]],
        "means": [[0.2, 4.5], [1.5, 4.5], [1.0, 6.0]],
    }
    out = {"sequences": [p.tolist() for p in parts], "start": start, "fits": {}}
    for ours, theirs in ("full", "full"), ("diagonal", "diag"):
        m = fit(y, lengths, theirs, start)
        log, path = m.decode(parts[1], algorithm="viterbi")
        out["fits"][ours] = {
            "history": list(m.monitor_.history), "score": m.score(y, lengths),
            "initial": m.startprob_.tolist(), "transition": m.transmat_.tolist(), "means": m.means_.tolist(),
            "covariances": m.covars_.tolist(), "posterior": m.predict_proba(parts[1])[:20].tolist(),
            "path": path.tolist(),
        }
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, "hmmlearn.json"), "w") as f:
        json.dump(out, f)


if __name__ == "__main__":
    main()
