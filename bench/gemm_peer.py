"""Measures the rate of numpy's f32 matrix product, OpenBLAS in numpy's wheels.

Reads one JSON document on standard input:

    {"shapes": [[m, k, n], ...], "threads": [1, 2], "runs": 5, "seconds": 0.3}

runs and seconds may be left out: the number of timed runs a shape, and how long each
repeats the product. Prints one JSON line a shape and thread count; rate is the
median of runs. Exits with status 3, one line on standard error, when numpy or
threadpoolctl is not installed.

With --serve it stays: one line names the peer, then every line read,

    {"shape": [m, k, n], "form": "NN", "threads": 1, "seconds": 0.3}

is answered by one line with the seconds a product took, as the mean over that time.
form says which operands are stored transposed: NN, NT (B as [n, k]) or TN (A as
[k, m]).
"""

import json
import os
import statistics
import sys
import time

# Both slow OpenBLAS down where they do not fit the CPU.
for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)

try:
    import numpy as np
    import threadpoolctl
except ImportError as e:
    print(f"gemm_peer: {e}; pip install numpy threadpoolctl", file=sys.stderr)
    sys.exit(3)


def blas():
    """Returns the controller of the BLAS that numpy loaded."""
    pools = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
    if not pools:
        print("gemm_peer: numpy's BLAS is not one that threadpoolctl knows", file=sys.stderr)
        sys.exit(3)
    return pools[0]


def measure(m, k, n, runs, seconds):
    """Returns GFLOP/s of each run."""
    rng = np.random.default_rng(1)
    a = rng.standard_normal((m, k), dtype=np.float32)
    b = rng.standard_normal((k, n), dtype=np.float32)
    c = np.empty((m, n), dtype=np.float32)
    multiply = lambda: np.matmul(a, b, out=c)
    multiply()
    begin = time.perf_counter()
    multiply()
    repeat = max(1, int(seconds / (time.perf_counter() - begin)))
    rates = []
    for _ in range(runs):
        begin = time.perf_counter()
        for _ in range(repeat):
            multiply()
        rates.append(2 * m * k * n * repeat / (time.perf_counter() - begin) / 1e9)
    return rates


def operands(m, k, n, form):
    """Returns A [m, k], B [k, n] as views of what is stored, and C."""
    rng = np.random.default_rng(1)
    draw = lambda rows, cols: rng.standard_normal((rows, cols), dtype=np.float32)
    a = draw(k, m).T if form[0] == "T" else draw(m, k)
    b = draw(n, k).T if form[1] == "T" else draw(k, n)
    return a, b, np.empty((m, n), dtype=np.float32)


def serve():
    """Times one repetition a line."""
    lib = blas()
    info = lib.info()
    name = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS"}.get(info["internal_api"], info["internal_api"])
    version = f"{info['version']}, numpy {np.__version__}"
    print(json.dumps({"peers": [{"name": name, "version": version, "setting": info.get("architecture", "")}]}), flush=True)
    held = None
    for line in sys.stdin:
        job = json.loads(line)
        want = (*job["shape"], job.get("form", "NN"))
        if held != want:
            held, (a, b, c) = want, operands(*want)
            np.matmul(a, b, out=c)
        lib.set_num_threads(job.get("threads", 1))
        n, begin = 0, time.perf_counter()
        while True:
            np.matmul(a, b, out=c)
            n += 1
            spent = time.perf_counter() - begin
            if spent >= job.get("seconds", 0.3):
                break
        print(json.dumps({"seconds": spent / n}), flush=True)


def main():
    if "--serve" in sys.argv[1:]:
        return serve()
    job = json.load(sys.stdin)
    lib = blas()
    for threads in job.get("threads", [1]):
        lib.set_num_threads(threads)
        for m, k, n in job["shapes"]:
            rates = measure(m, k, n, job.get("runs", 5), job.get("seconds", 0.3))
            info = lib.info()
            print(
                json.dumps(
                    {
                        "work": "gemm f32",
                        "shape": [m, k, n],
                        "threads": info["num_threads"],
                        "rate": statistics.median(rates),
                        "best": max(rates),
                        "runs": rates,
                        "unit": "GFLOP/s",
                        "peer": f"{info['internal_api']} {info['version']}",
                        "kernel": info.get("architecture", ""),
                        "numpy": np.__version__,
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
