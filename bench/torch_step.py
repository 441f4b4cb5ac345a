"""Times a training step of a llama-shaped model in PyTorch on the CPU, f32.

A step is forward, cross-entropy, backward and AdamW. PyTorch's own threads and those
of its BLAS fight when both take all cores, and which setting is fastest depends on
the machine, so several are tried, each in its own process, and the fastest is
measured at length. On CPUs of other makers MKL leaves AVX-512 unused; where a C
compiler is installed it is also tried with that check answered as on Intel's, which
doubles its rate on some. Prints one JSON line: the best setting's step times and peak
memory, the same of the best setting that PyTorch has out of the box ("stock"), and
the times of all that were tried. Exits with status 3, one line on standard error,
when PyTorch (or PEFT, for --lora) is not installed.
"""

import argparse
import importlib.util
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--d", type=int, default=256, help="hidden size")
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--kv", type=int, default=0, help="key and value heads; 0: as many as heads")
    p.add_argument("--ff", type=int, default=1024)
    p.add_argument("--vocab", type=int, default=4096)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--seq", type=int, default=128)
    p.add_argument("--tied", action="store_true", help="the head shares the embedding's table")
    p.add_argument("--lora", type=int, default=0, metavar="R", help="train PEFT's LoRA of rank R on all linear layers instead")
    p.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="cores that may be used")
    p.add_argument("--reps", type=int, default=10, help="steps timed of the best setting")
    p.add_argument("--tries", type=int, default=3, help="steps timed of each setting tried")
    p.add_argument("--compile", action="store_true", help="try torch.compile as well (needs a C++ compiler)")
    p.add_argument("--setting", help=argparse.SUPPRESS)
    return p.parse_args()


# ---- the parent: which setting is fastest

# glibc gives large buffers back to the kernel at every free; kept, they need not be
# mapped and cleared again at every step.
KEEP_HEAP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "8589934592", "MALLOC_TOP_PAD_": "67108864"}


def thread_settings(cores, as_intel):
    """Sizes of PyTorch's pool and MKL's, those that can be fastest."""
    pairs = [(1, 1)] if cores == 1 else [(cores, cores), (cores, 1), (1, cores), (1, 1)]
    rest = {"heap": True, "fused": True, "adamw": "fused", "passive": False, "compile": False}
    return [{"omp": omp, "mkl": mkl, "as_intel": intel} | rest for intel in as_intel for omp, mkl in pairs]


def intel_answer(folder):
    """Builds a library that answers MKL's question for Intel's CPU with yes; None where it is of no use."""
    try:
        intel = "GenuineIntel" in open("/proc/cpuinfo").read()
    except OSError:
        return None
    cc = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if intel or not cc:
        return None
    source, library = os.path.join(folder, "intel.c"), os.path.join(folder, "intel.so")
    with open(source, "w") as f:
        f.write("int mkl_serv_intel_cpu_true(void) { return 1; }\n")
    done = subprocess.run([cc, "-shared", "-fPIC", "-o", library, source], capture_output=True)
    return library if done.returncode == 0 else None


def variants(best, o):
    """Changes to the best thread setting that may make it faster still."""
    yield best | {"heap": False}
    yield best | {"passive": True}
    yield best | {"adamw": "foreach"}
    if not o.lora:
        yield best | {"fused": False}
    if o.compile:
        yield best | {"compile": True}


def run(setting, reps, library):
    """Runs this file in a process of its own with that setting; None if it fails."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_"))}
    env |= {"OMP_NUM_THREADS": str(setting["omp"]), "MKL_NUM_THREADS": str(setting["mkl"]), "TOKENIZERS_PARALLELISM": "false"}
    if setting["heap"]:
        env |= KEEP_HEAP
    if setting["passive"]:  # waiting threads sleep instead of spinning
        env["OMP_WAIT_POLICY"] = "PASSIVE"
    if setting["as_intel"]:
        env["LD_PRELOAD"] = library
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--reps", str(reps), "--setting", json.dumps(setting)],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    if done.returncode != 0:
        print(f"torch_step: {setting}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def search(o):
    """Prints the report of the fastest setting."""
    tried = []
    with tempfile.TemporaryDirectory() as folder:
        library = intel_answer(folder)

        def attempt(setting):
            r = run(setting, o.tries, library)
            if r:
                tried.append({"setting": setting, "median": r["median"], "min": r["min"], "peak_rss": r["peak_rss"]})

        def fastest(pick=lambda s: True):  # by the least time: other programs only ever add
            return min((t for t in tried if pick(t["setting"])), key=lambda t: t["min"])["setting"]

        for setting in thread_settings(o.threads, [False, True] if library else [False]):
            attempt(setting)
        if not tried:
            sys.exit(1)
        for setting in variants(fastest(), o):
            attempt(setting)
        best, stock = fastest(), fastest(lambda s: not s["as_intel"])
        report = run(best, o.reps, library)
        plain = report if stock == best else run(stock, o.reps, library)
    if not report or not plain:
        sys.exit(1)
    stock = {"setting": stock} | {k: plain[k] for k in ("median", "min", "max", "peak_rss")}
    print(json.dumps(report | {"setting": best, "stock": stock, "tried": tried}))


# ---- the child: one setting


def build(o, fused):
    """Returns the model: hidden states to logits in one screen, no module that is not needed."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    heads, kv, dim = o.heads, o.kv or o.heads, o.d // o.heads

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(o.d))

        def forward(self, x):
            return F.rms_norm(x, (o.d,), self.weight, 1e-5)

    def linear(i, j):
        return nn.Linear(i, j, bias=False)

    def rotate(x, cos, sin):  # x [B, H, T, dim]
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = Norm(), Norm()
            if fused:
                self.qkv_proj, self.gate_up_proj = linear(o.d, (heads + 2 * kv) * dim), linear(o.d, 2 * o.ff)
            else:
                self.q_proj, self.k_proj, self.v_proj = linear(o.d, heads * dim), linear(o.d, kv * dim), linear(o.d, kv * dim)
                self.gate_proj, self.up_proj = linear(o.d, o.ff), linear(o.d, o.ff)
            self.o_proj, self.down_proj = linear(heads * dim, o.d), linear(o.ff, o.d)

        def forward(self, x, cos, sin):
            B, T, _ = x.shape
            h = self.norm1(x)
            if fused:
                q, k, v = self.qkv_proj(h).split([heads * dim, kv * dim, kv * dim], -1)
            else:
                q, k, v = self.q_proj(h), self.k_proj(h), self.v_proj(h)
            q, k, v = (t.view(B, T, -1, dim).transpose(1, 2) for t in (q, k, v))
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=kv != heads)
            x = x + self.o_proj(y.transpose(1, 2).reshape(B, T, -1))
            h = self.norm2(x)
            gate, up = self.gate_up_proj(h).chunk(2, -1) if fused else (self.gate_proj(h), self.up_proj(h))
            return x + self.down_proj(F.silu(gate) * up)

    class Llama(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(o.vocab, o.d)
            self.layers = nn.ModuleList(Block() for _ in range(o.layers))
            self.norm, self.lm_head = Norm(), linear(o.d, o.vocab)
            if o.tied:
                self.lm_head.weight = self.embed.weight
            angle = torch.outer(torch.arange(o.seq).float(), 10000.0 ** (-torch.arange(0, dim, 2).float() / dim))
            self.register_buffer("cos", angle.cos())
            self.register_buffer("sin", angle.sin())
            for p in self.parameters():
                if p.dim() == 2:
                    nn.init.normal_(p, std=0.02)

        def forward(self, ids, targets):
            x = self.embed(ids)
            for layer in self.layers:
                x = layer(x, self.cos, self.sin)
            return F.cross_entropy(self.lm_head(self.norm(x)).flatten(0, 1), targets.flatten())

    return Llama()


def peak_rss():
    """Returns the most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def step_times(o, setting):
    """Prints the median, least and greatest time of a step, in seconds."""
    import torch

    torch.manual_seed(1)
    imported = peak_rss()
    model = build(o, setting["fused"] and not o.lora)
    if o.lora:
        from peft import LoraConfig, inject_adapter_in_model

        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        for p in model.parameters():
            p.requires_grad_(False)
        model = inject_adapter_in_model(LoraConfig(r=o.lora, lora_alpha=2 * o.lora, target_modules=names), model)
    trained = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(trained, lr=1e-3, fused=setting["adamw"] == "fused", foreach=setting["adamw"] == "foreach")
    call = torch.compile(model) if setting["compile"] else model

    def step(ids, targets):
        with torch.autocast("cpu", torch.bfloat16, enabled=o.bf16):
            loss = call(ids, targets)
        loss.backward()
        opt.step()
        opt.zero_grad(set_to_none=True)
        return loss.item()

    data = torch.randint(o.vocab, (o.reps + 2, o.batch, o.seq + 1))
    seconds = []
    for i, rows in enumerate(data):
        begin = time.perf_counter()
        loss = step(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
        if i >= 2:  # the first steps make the optimizer's state and warm the allocator
            seconds.append(time.perf_counter() - begin)
    print(json.dumps({
        "work": f"train step, lora {o.lora}" if o.lora else "train step",
        "shape": {k: getattr(o, k) for k in ("layers", "d", "heads", "kv", "ff", "vocab", "batch", "seq")},
        "threads": o.threads,
        "median": statistics.median(seconds),
        "min": min(seconds),
        "max": max(seconds),
        "runs": seconds,
        "unit": "s",
        "peak_rss": peak_rss(),
        "imported_rss": imported,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trainable": sum(p.numel() for p in trained),
        "loss": loss,
        "peer": f"PyTorch {torch.__version__}",
    }))


def main():
    o = arguments()
    for module in ["torch"] + ["peft"] * bool(o.lora):
        if importlib.util.find_spec(module) is None:
            print(f"torch_step: {module} is not installed; pip install -r parity/requirements.txt", file=sys.stderr)
            sys.exit(3)
    if o.setting:
        step_times(o, json.loads(o.setting))
    else:
        search(o)


if __name__ == "__main__":
    main()
