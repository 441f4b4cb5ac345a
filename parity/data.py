"""Writes engine/data/testdata: Parquet files as pyarrow writes them, with the columns
that TRL's trainers read.

    pip install pyarrow
    python parity/data.py
"""

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

OUT = pathlib.Path(__file__).resolve().parent.parent / "engine" / "data" / "testdata"


def say(*turns):
    return [{"role": "user" if i % 2 == 0 else "assistant", "content": c} for i, c in enumerate(turns)]


TABLES = {
    "messages": pa.table({"messages": [say("hi", "hello"), say("a", "b", "c", "d \u00e9")], "id": pa.array([1, 2], pa.int64())}),
    "preference": pa.table({"prompt": ["p", None], "chosen": ["c1", "q c2"], "rejected": pa.array(["r1", "q r2"], pa.large_string()), "score": [1.5, None], "tags": [["x", "y"], None]}),
    "dictionary": pa.table({"text": pa.array(["one", "two", "one"]).dictionary_encode(), "label": pa.array([1, 0, 1], pa.int8()), "flag": [True, None, False]}),
    "completion": pa.table({"prompt": [f"{i} + {i} = " for i in range(2000)], "completion": [str(2 * i) for i in range(2000)]}),
}


def main():
    OUT.mkdir(exist_ok=True)
    for (name, table), compression in zip(TABLES.items(), ["snappy", "zstd", "none", "gzip"]):
        pq.write_table(table, OUT / f"{name}.parquet", compression=compression, row_group_size=700, data_page_size=2000)


main()
