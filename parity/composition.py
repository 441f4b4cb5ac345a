"""Makes method/stats/testdata/composition.json: partial correlations of drawn compositions
by numpy's pseudo-inverse of the centred log-ratios' covariance, with scipy's p-values.

    pip install -r parity/requirements-stats.txt
    python3 parity/composition.py
"""

import json
import pathlib

import numpy as np
from scipy import stats


def main():
    rng = np.random.default_rng(40)
    n, d = 40, 6
    logs = rng.normal(size=(n, d)) @ (np.eye(d) + 0.4 * rng.normal(size=(d, d)))
    x = np.exp(logs)
    x = (100 * x / x.sum(axis=1, keepdims=True)).round(8)
    clr = np.log(x) - np.log(x).mean(axis=1, keepdims=True)
    p = np.linalg.pinv(np.cov(clr, rowvar=False), hermitian=True)
    scale = np.sqrt(np.diag(p))
    r = -p / np.outer(scale, scale)
    np.fill_diagonal(r, 0)
    freedom = n - d + 1
    t = r * np.sqrt(freedom / (1 - r**2))
    out = {"x": x.tolist(), "r": r.tolist(), "variance": (1 / np.diag(p)).tolist(), "p": (2 * stats.t.sf(np.abs(t), freedom)).tolist()}
    path = pathlib.Path(__file__).parent.parent / "method/stats/testdata/composition.json"
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
