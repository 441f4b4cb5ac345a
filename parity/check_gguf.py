"""Gives the GGUF files that Tare wrote to llama.cpp: do they load, does llama.cpp make
the same ids of the same text, and has it the same loss? parity/README.md says how the
files and llama_peer are made.

    python parity/check_gguf.py DIR path/to/llama_peer

Prints a table, and exits with status 1 where ids differ or a loss by more than 1e-4.
"""

import pathlib
import subprocess
import sys

WINDOW = 64  # as in TestExportGGUFForParity


def main(folder, peer):
    def run(*args):
        return subprocess.run([peer, *map(str, args)], check=True, capture_output=True, text=True).stdout

    bad = 0
    for model in sorted(folder.glob("*.gguf")):
        ids, theirs = model.with_suffix(".ids"), model.with_suffix(".llama.ids")
        run(model, "tok", folder / "text.txt", theirs)
        same = ids.read_bytes() == theirs.read_bytes()
        ours = float(model.with_suffix(".loss").read_text())
        loss = float(run(model, "loss", ids, WINDOW))
        off = abs(loss - ours) / ours
        bad += not same or off > 1e-4
        print(f"{model.stem:14} ids {'the same' if same else 'DIFFER'}  loss {ours:.6f}, llama.cpp {loss:.6f}, apart {off:.1e}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2]))
