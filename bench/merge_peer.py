"""Times how mergekit merges checkpoints, from disk to disk.

With --serve RECIPE: one line names the peer; then every line read is answered by one
line with the seconds that the merge took until its files were on the disk:

    {"seconds": 12.5}

Exits with status 3, one line on standard error, when mergekit is not installed.
"""

import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
from importlib.metadata import version

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all models are folders

try:
    import torch
    import yaml
    from mergekit.config import MergeConfiguration
    from mergekit.merge import MergeOptions, run_merge
except ImportError as e:
    print(f"merge_peer: {e}; pip install mergekit", file=sys.stderr)
    sys.exit(3)


def merge(recipe):
    """Returns the seconds of one merge."""
    out = pathlib.Path(tempfile.mkdtemp())
    begin = time.perf_counter()
    run_merge(MergeConfiguration.model_validate(recipe), str(out),
              MergeOptions(quiet=True, lazy_unpickle=True, copy_tokenizer=False, write_model_card=False))
    for file in out.glob("*.safetensors"):
        with open(file, "rb") as f:
            os.fsync(f.fileno())
    spent = time.perf_counter() - begin
    shutil.rmtree(out)
    return spent


def main():
    recipe = yaml.safe_load(pathlib.Path(sys.argv[sys.argv.index("--serve") + 1]).read_text())
    setting = f"{torch.get_num_threads()} threads"
    print(json.dumps({"peers": [{"name": "mergekit", "version": version("mergekit"), "setting": setting}]}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"seconds": merge(recipe)}), flush=True)


if __name__ == "__main__":
    main()
