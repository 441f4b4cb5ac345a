"""Makes method/stats/testdata/ordinal.json: what statsmodels makes of proportional odds
and of logistic regression, on a survey that comes with it (anes96, public domain: the
party that people feel near, of 7 in order, by place, views, age, schooling and income).

    pip install -r parity/requirements-stats.txt
    python3 parity/ordinal.py

OrderedModel writes α_k − βᵀx; the file has β as in σ(α_k + βᵀx). Its thresholds are
stored as differences; the file has α.
"""

import json
import pathlib

import numpy as np
import statsmodels.api as sm
from statsmodels.miscmodels.ordinal_model import OrderedModel

COLUMNS = ["logpopul", "selfLR", "age", "educ", "income"]


def main():
    table = sm.datasets.anes96.load_pandas().data
    x = table[COLUMNS].astype(float).round(6)
    y = table["PID"].astype(int)
    model = OrderedModel(y, x, distr="logit")
    # Two solvers in turn, so that the gradient is small enough to compare to 1e-7.
    fit = model.fit(method="bfgs", maxiter=5000, gtol=1e-9, disp=False)
    fit = model.fit(method="newton", start_params=fit.params, maxiter=100, disp=False)
    p = len(COLUMNS)
    alpha = model.transform_threshold_params(fit.params)[1:-1]
    last = sm.Logit((y == y.max()).astype(int), sm.add_constant(x)).fit(method="newton", maxiter=100, disp=False, tol=1e-12)
    out = {
        "columns": COLUMNS,
        "x": x.to_numpy().tolist(),
        "y": y.tolist(),
        "alpha": alpha.tolist(),
        "beta": (-np.asarray(fit.params)[:p]).tolist(),
        "log_likelihood": float(fit.llf),
        # P(last) = σ(const + bᵀx), and the file's model has P(rest) = σ(α + βᵀx)
        "logistic": {"alpha": float(-last.params.iloc[0]), "beta": (-last.params.iloc[1:]).tolist(), "log_likelihood": float(last.llf)},
    }
    path = pathlib.Path(__file__).parent.parent / "method/stats/testdata/ordinal.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
