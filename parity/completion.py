"""Completes a matrix by alternating least squares in numpy, for method/optimize/testdata.

    pip install -r parity/requirements-stats.txt
    python3 parity/completion.py

Writes completion.json: noisy entries of a 30 x 24 matrix of rank 3, and the matrix at which
exact alternating least squares with a ridge ends, with the value of

    sum over entries of (m - u.v)^2 + ridge (|U|^2 + |V|^2).
"""

import json
import os

import numpy as np

FILE = os.path.join(os.path.dirname(__file__), "..", "method", "optimize", "testdata", "completion.json")
ROWS, COLUMNS, RANK, RIDGE = 30, 24, 3, 0.5


def solve(factor, seen, values):
    """Returns each row's ridge regression on the rows of factor that it has entries for."""
    out = np.zeros((len(seen), RANK))
    for i, there in enumerate(seen):
        a = factor[there]
        # The ridge as RANK more rows, so that no normal equations are formed.
        rows = np.vstack([a, np.sqrt(RIDGE) * np.eye(RANK)])
        out[i] = np.linalg.lstsq(rows, np.concatenate([values[i, there], np.zeros(RANK)]), rcond=None)[0]
    return out


def main():
    rng = np.random.default_rng(28)
    m = rng.normal(size=(ROWS, RANK)) @ rng.normal(size=(RANK, COLUMNS)) + 0.2 * rng.normal(size=(ROWS, COLUMNS))
    m = np.round(m, 3)
    seen = rng.random((ROWS, COLUMNS)) < 0.6
    v = np.linalg.svd(np.where(seen, m, 0))[2][:RANK].T
    last = None
    for _ in range(20000):
        u = solve(v, seen, m)
        v = solve(u, seen.T, m.T)
        done = u @ v.T
        if last is not None and np.abs(done - last).max() < 1e-14:
            break
        last = done
    objective = ((m - done)[seen] ** 2).sum() + RIDGE * ((u**2).sum() + (v**2).sum())
    entries = [[int(i), int(j), float(m[i, j])] for i, j in zip(*np.nonzero(seen))]
    with open(FILE, "w", encoding="utf-8") as f:
        json.dump({"rows": ROWS, "columns": COLUMNS, "rank": RANK, "ridge": RIDGE, "entries": entries,
                   "completed": done.tolist(), "objective": float(objective)}, f)
        f.write("\n")


if __name__ == "__main__":
    main()
