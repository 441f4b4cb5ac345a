"""Times EM of a Gaussian hidden Markov model in hmmlearn.

Reads one JSON document on standard input,

    {"rows": [[...], ...], "initial": [...], "transition": [[...], ...], "means": [[...], ...],
     "covariance": "full", "iterations": 10}

fits a model from this start with unit covariances, without priors, by both of
hmmlearn's recursions, and prints one JSON line for each: its name, the seconds an
iteration took, and the log-likelihood before the last of them. With --serve it stays: after the
document, every line "log" or "scaling" is answered by one such line. Exits with status 3
when hmmlearn is not installed.
"""

import json
import sys
import time

try:
    import numpy as np
    from hmmlearn import hmm
except ImportError as e:
    print(f"hmm_peer: {e}; pip install hmmlearn", file=sys.stderr)
    sys.exit(3)


def fit(job, y, recursion):
    """Returns what one fit took."""
    k, d = len(job["initial"]), y.shape[1]
    kind = {"full": "full", "diagonal": "diag"}[job["covariance"]]
    model = hmm.GaussianHMM(
        k, covariance_type=kind, n_iter=job["iterations"], tol=-np.inf, init_params="",
        covars_prior=0.0, covars_weight=1.0 if kind == "diag" else 0.0, implementation=recursion,
    )
    model.startprob_, model.transmat_ = np.array(job["initial"]), np.array(job["transition"])
    model.means_ = np.array(job["means"])
    model.covars_ = np.ones((k, d)) if kind == "diag" else np.stack([np.eye(d)] * k)
    begin = time.perf_counter()
    model.fit(y)
    return {
        "name": f"hmmlearn {recursion}", "seconds": (time.perf_counter() - begin) / job["iterations"],
        "log": model.monitor_.history[-1],
    }


def main():
    job = json.loads(sys.stdin.readline())
    y = np.array(job["rows"])
    asked = (line.strip() for line in sys.stdin) if "--serve" in sys.argv else ("log", "scaling")
    for recursion in asked:
        print(json.dumps(fit(job, y, recursion)), flush=True)


if __name__ == "__main__":
    main()
