"""Times a training step of a llama-shaped model in PyTorch on the CPU.

A step is forward, cross-entropy, backward and AdamW. PyTorch's own threads and those
of its BLAS fight when both take all cores, and which setting is fastest depends on
the machine, so several are tried, each in its own process, and the fastest is
measured at length. On CPUs of other makers MKL leaves AVX-512 unused; where a C
compiler is installed it is also tried with that check answered as on Intel's, which
doubles its rate on some. Prints one JSON line: the best setting's step times and peak
memory, the same of the best setting that PyTorch has out of the box ("stock"), and
the times of all that were tried. Exits with status 3, one line on standard error,
when PyTorch (or PEFT, for --lora) is not installed.

With --serve it stays after the trial: one line names the peers, the stock setting
first, then every line read,

    {"peer": 0, "seconds": 0.3}

is answered by one line with the seconds a step took, as the mean over that time.

The trial takes a minute or two, most of it for torch.compile, which is tried where a
C++ compiler is installed. --trials FOLDER keeps what it finds, and what was compiled,
for the next time.
"""

import argparse
import gc
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
from importlib.metadata import version


SHAPE = ("layers", "d", "heads", "kv", "ff", "vocab", "batch", "seq")

# The exit status of a child that is slower than --slow allows.
SLOW = 4


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
    p.add_argument("--tries", type=int, default=3, help="steps timed of each setting tried; with 1 only thread settings are")
    p.add_argument("--trials", metavar="FOLDER", help="keep what the trial finds in FOLDER, and use what it holds")
    p.add_argument("--serve", action="store_true", help="stay, and time steps for each line of standard input")
    p.add_argument("--peak", action="store_true", help="print how far memory rises over what was held before the model, in steps of the setting that needs least")
    p.add_argument("--setting", help=argparse.SUPPRESS)
    p.add_argument("--slow", type=float, default=float("inf"), help=argparse.SUPPRESS)
    return p.parse_args()


# ---- the parent: which setting is fastest

# glibc gives large buffers back to the kernel at every free; kept, they need not be
# mapped and cleared again at every step.
KEEP_HEAP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "8589934592", "MALLOC_TOP_PAD_": "67108864"}


# The longest that one setting may take in the trial, in seconds: compiling hangs on some systems.
LONGEST = 150

# A setting whose warm step takes this much longer than the fastest's is tried no further.
HOPELESS = 1.4


def thread_settings(o, intel):
    """Sizes of PyTorch's pool and MKL's, those that can be fastest.

    Products of f32 are MKL's, those of bfloat16 oneDNN's, which takes PyTorch's pool.
    """
    cores = o.threads
    pairs = [(1, 1)] if cores == 1 else [(cores, cores), (cores, 1) if o.bf16 else (1, cores)]
    rest = {"heap": True, "fused": True, "adamw": "fused", "passive": False, "compile": False}
    return [{"omp": omp, "mkl": mkl, "as_intel": intel} | rest for omp, mkl in pairs]


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


def child(setting, reps, library):
    """Returns the command and environment that run this file with that setting."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_"))}
    env |= {"OMP_NUM_THREADS": str(setting["omp"]), "MKL_NUM_THREADS": str(setting["mkl"]), "TOKENIZERS_PARALLELISM": "false"}
    if setting["heap"]:
        env |= KEEP_HEAP
    if setting["passive"]:  # waiting threads sleep instead of spinning
        env["OMP_WAIT_POLICY"] = "PASSIVE"
    if setting["as_intel"]:
        env["LD_PRELOAD"] = library
    argv = [a for a in sys.argv[1:] if a != "--serve" or reps == 0]
    return [sys.executable, __file__, *argv, "--reps", str(reps), "--setting", json.dumps(setting)], env


def run(setting, reps, library, slow=float("inf")):
    """Times steps with that setting in a process of its own; None if it fails or is slow."""
    command, env = child(setting, reps, library)
    try:
        done = subprocess.run([*command, "--slow", str(slow)], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        print(f"torch_step: {setting}: not done after {LONGEST} s", file=sys.stderr)
        return None
    if done.returncode == SLOW:
        return None
    if done.returncode != 0:
        print(f"torch_step: {setting}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def trial(o, library):
    """Tries the settings shortly; returns what was tried, and the fastest stock setting and of all."""
    tried = []

    def attempt(setting):
        known = [t["min"] for t in tried if t["setting"]["as_intel"] == setting["as_intel"]]
        r = run(setting, o.tries, library, HOPELESS * min(known, default=float("inf")))
        if r:
            tried.append({"setting": setting, "median": r["median"], "min": r["min"], "peak_rss": r["peak_rss"]})

    def fastest(intel):  # by the least time: other programs only ever add
        return min((t for t in tried if t["setting"]["as_intel"] == intel), key=lambda t: t["min"])["setting"]

    makers = [False, True] if library else [False]
    for intel in makers:
        for setting in thread_settings(o, intel):
            attempt(setting)
        if not any(t["setting"]["as_intel"] == intel for t in tried):
            sys.exit(1)
    if o.tries > 1:
        for setting in variants(fastest(makers[-1]), o):
            attempt(setting)
        if makers[-1]:  # what helps there helps here
            attempt(fastest(True) | {"as_intel": False})
        if shutil.which("c++") or shutil.which("g++") or shutil.which("clang++"):
            for intel in makers:
                attempt(fastest(intel) | {"compile": True})
    return tried, [fastest(intel) for intel in makers]


def known_trial(o, library):
    """The trial, or what an earlier one found."""
    path = o.trials and os.path.join(o.trials, "settings.json")
    key = " ".join(str(v) for v in (peer_version(o), bool(library), *(getattr(o, k) for k in SHAPE), o.lora, o.bf16, o.threads))
    found = {}
    if path and os.path.exists(path):
        with open(path) as f:
            found = json.load(f)
    if key not in found:
        tried, best = trial(o, library)
        found[key] = {"best": best, "tried": tried}
        if path:
            os.makedirs(o.trials, exist_ok=True)
            with open(path + ".new", "w") as f:
                json.dump(found, f, indent=1)
            os.replace(path + ".new", path)
    return found[key]["tried"], found[key]["best"]


def search(o, library):
    """Prints the report of the fastest setting."""
    tried, best = known_trial(o, library)
    reports = [r | {"setting": s} for s in best if (r := run(s, o.reps, library))]
    if len(reports) != len(best):
        sys.exit(1)
    stock = {k: reports[0][k] for k in ("setting", "median", "min", "max", "peak_rss")}
    print(json.dumps(min(reports, key=lambda r: r["median"]) | {"stock": stock, "tried": tried}))


def serve(o, library):
    """Keeps a process for the fastest stock setting and for the fastest of all."""
    _, best = known_trial(o, library)
    peers, children = [], []
    for setting in best:
        command, env = child(setting, 0, library)
        children.append(subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        peers.append({
            "name": peer_name(o) + (", MKL AVX-512 allowed" if setting["as_intel"] else ""),
            "version": peer_version(o),
            "setting": " ".join(f"{k}={v:d}" if isinstance(v, bool) else f"{k}={v}" for k, v in setting.items()),
        })
    print(json.dumps({"peers": peers}), flush=True)
    for line in sys.stdin:
        c = children[json.loads(line).get("peer", 0)]
        c.stdin.write(line)
        c.stdin.flush()
        print(c.stdout.readline(), end="", flush=True)
    for c in children:
        c.stdin.close()
        c.wait()


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


def held(mark):
    """Returns a figure of this process's memory, in bytes: VmRSS, or VmHWM for the most that it was."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith(mark))


# What a step needs least memory with: glibc as it comes, nothing joined or batched.
SPARING = {"heap": False, "fused": False, "adamw": "fused", "passive": False, "compile": False, "as_intel": False}


def rise(o):
    """Prints by how many bytes the process's peak rises over what it held before the model.

    A step of a tiny model comes first, so that code and tables that are loaded at first
    use do not count.
    """
    import torch

    torch.set_num_threads(o.threads)
    tiny = argparse.Namespace(**vars(o) | {"layers": 1, "d": 64, "heads": 1, "kv": 0, "ff": 128, "vocab": 64, "batch": 1, "seq": 16})
    prepare(tiny, SPARING)
    gc.collect()
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # the mark of the most goes back to what is held now
    before = held("VmRSS:")
    step, _ = prepare(o, SPARING)
    step()
    print(json.dumps({"bytes": held("VmHWM:") - before, "name": peer_name(o), "version": peer_version(o), "setting": "glibc's heap as it comes, fused AdamW"}))


def peer_name(o):
    return ("PyTorch + PEFT" if o.lora else "PyTorch") + (", bf16 autocast" if o.bf16 else "")


def peer_version(o):
    return version("torch") + (f", PEFT {version('peft')}" if o.lora else "")


def prepare(o, setting):
    """Returns a function that does one step of the model and returns its loss, and the model."""
    import torch

    torch.manual_seed(1)
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
    data = torch.randint(o.vocab, (64, o.batch, o.seq + 1))
    done = 0

    def step():
        nonlocal done
        rows = data[done % len(data)]
        done += 1
        with torch.autocast("cpu", torch.bfloat16, enabled=o.bf16):
            loss = call(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
        loss.backward()
        opt.step()
        opt.zero_grad(set_to_none=True)
        return loss.item()

    for _ in range(2):  # the first steps make the optimizer's state and warm the allocator
        begin = time.perf_counter()
        step()
    if time.perf_counter() - begin > o.slow:
        sys.exit(SLOW)
    return step, model


def timed_steps(o, setting):
    """Times steps for each line read."""
    step, _ = prepare(o, setting)
    for line in sys.stdin:
        want = json.loads(line).get("seconds", 0.3)
        n, begin, spent = 0, time.perf_counter(), 0.0
        while n == 0 or spent < want:
            step()
            n += 1
            spent = time.perf_counter() - begin
        print(json.dumps({"seconds": spent / n}), flush=True)


def step_times(o, setting):
    """Prints the median, least and greatest time of a step, in seconds."""
    import torch

    imported = peak_rss()
    step, model = prepare(o, setting)
    seconds = []
    for _ in range(o.reps):
        begin = time.perf_counter()
        loss = step()
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({
        "work": f"train step, lora {o.lora}" if o.lora else "train step",
        "shape": {k: getattr(o, k) for k in SHAPE},
        "threads": o.threads,
        "median": statistics.median(seconds),
        "min": min(seconds),
        "max": max(seconds),
        "runs": seconds,
        "unit": "s",
        "peak_rss": peak_rss(),
        "imported_rss": imported,
        "parameters": sum(p.numel() for p in model.parameters()),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "loss": loss,
        "peer": f"PyTorch {torch.__version__}",
    }))


def main():
    o = arguments()
    for module in ["torch"] + ["peft"] * bool(o.lora):
        if importlib.util.find_spec(module) is None:
            print(f"torch_step: {module} is not installed; pip install -r parity/requirements.txt", file=sys.stderr)
            sys.exit(3)
    if o.peak:
        rise(o)
    elif o.setting and o.serve:
        timed_steps(o, json.loads(o.setting))
    elif o.setting:
        step_times(o, json.loads(o.setting))
    else:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(os.path.abspath(o.trials or folder), "compiled")
            (serve if o.serve else search)(o, intel_answer(folder))


if __name__ == "__main__":
    main()
