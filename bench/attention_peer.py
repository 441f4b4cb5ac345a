"""Times PyTorch's causal attention on the CPU, scaled_dot_product_attention in f32.

With --serve: one line names the peers, PyTorch as it comes and, on CPUs of other makers
where a C compiler is installed, with MKL allowed AVX-512 as in torch_step.py, which must
lie beside this file. Then every line read,

    {"peer": 0, "shape": [12, 512, 64], "threads": 1, "backward": false, "seconds": 0.3}

is answered by one line with the seconds that one attention took, as the mean over that
time. Heads may lie one after another or side by side in a row; which is faster is tried
first. Exits with status 3, one line on standard error, when PyTorch is not installed.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version

from torch_step import KEEP_HEAP, intel_answer


def attention(shape, side_by_side, backward):
    """Returns a function that does one attention."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    heads, rows, dim = shape
    torch.manual_seed(1)
    if side_by_side:
        q, k, v = (torch.rand(1, rows, heads, dim).transpose(1, 2) for _ in range(3))
    else:
        q, k, v = (torch.rand(1, heads, rows, dim) for _ in range(3))
    if not backward:

        def forward():
            with torch.inference_mode():
                scaled_dot_product_attention(q, k, v, is_causal=True)

        return forward
    for t in (q, k, v):
        t.requires_grad_(True)

    def both():
        y = scaled_dot_product_attention(q, k, v, is_causal=True)
        torch.autograd.grad(y, (q, k, v), torch.ones_like(y))

    return both


def timed(step, seconds):
    """Returns the seconds of a step, as the mean over that time."""
    n, begin = 0, time.perf_counter()
    while True:
        step()
        n += 1
        spent = time.perf_counter() - begin
        if spent >= seconds:
            return spent / n


def child():
    """Times one repetition a line."""
    import torch

    best = {}
    for line in sys.stdin:
        job = json.loads(line)
        torch.set_num_threads(job["threads"])
        key = (*job["shape"], job["threads"], job["backward"])
        if key not in best:
            ways = [attention(job["shape"], side, job["backward"]) for side in (False, True)]
            for way in ways:
                way()
            best[key] = min(ways, key=lambda way: min(timed(way, 0.05) for _ in range(3)))
        print(json.dumps({"seconds": timed(best[key], job.get("seconds", 0.3))}), flush=True)


def main():
    if importlib.util.find_spec("torch") is None:
        print("attention_peer: torch is not installed; pip install -r parity/requirements.txt", file=sys.stderr)
        sys.exit(3)
    if "--child" in sys.argv[1:]:
        return child()
    with tempfile.TemporaryDirectory() as folder:
        library = intel_answer(folder)
        peers, children = [], []
        for preload in [None, library] if library else [None]:
            env = os.environ | KEEP_HEAP | ({"LD_PRELOAD": preload} if preload else {})
            children.append(subprocess.Popen([sys.executable, __file__, "--child"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            peers.append({"name": "PyTorch" + (", MKL AVX-512 allowed" if preload else ""), "version": version("torch"), "setting": "scaled_dot_product_attention, is_causal"})
        print(json.dumps({"peers": peers}), flush=True)
        for line in sys.stdin:
            c = children[json.loads(line)["peer"]]
            c.stdin.write(line)
            c.stdin.flush()
            print(c.stdout.readline(), end="", flush=True)
        for c in children:
            c.stdin.close()
            c.wait()


if __name__ == "__main__":
    main()
