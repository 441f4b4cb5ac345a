"""Times fits of proportional odds in statsmodels.

Reads one JSON document on standard input, {"x": [[...], ...], "y": [...]}, and then
answers every line, the name of one of OrderedModel's optimisers (newton, bfgs, lbfgs), by one
JSON line: its name, the seconds that the fit took, without making the model, and the
log-likelihood that it reached. Exits with status 3 when statsmodels is not installed.
"""

import json
import sys
import time
import warnings

try:
    import numpy as np
    from statsmodels.miscmodels.ordinal_model import OrderedModel
except ImportError as e:
    print(f"ordinal_peer: {e}; pip install statsmodels", file=sys.stderr)
    sys.exit(3)


def main():
    job = json.loads(sys.stdin.readline())
    warnings.simplefilter("ignore")
    x, y = np.array(job["x"]), np.array(job["y"])
    for line in sys.stdin:
        name = line.strip()
        model = OrderedModel(y, x, distr="logit")
        begin = time.perf_counter()
        # skip_hessian: no standard errors, which ours has none of either
        fit = model.fit(method=name, maxiter=1000, disp=False, skip_hessian=True)
        print(json.dumps({"name": name, "seconds": time.perf_counter() - begin, "log": float(fit.llf)}), flush=True)


if __name__ == "__main__":
    main()
