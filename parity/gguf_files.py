"""Writes engine/checkpoint/testdata/gguf: small files of llama.cpp's own Python package
gguf, which the Go tests compare bit for bit.

    pip install gguf==0.19.0
    python parity/gguf_files.py

kinds.gguf holds one tensor of every storage type; those that gguf cannot quantize are
random blocks with finite scales. kinds.f32 is what gguf dequantizes each to, in order.
written.gguf is what gguf makes of the same floats as F32, F16, BF16, Q8_0 and Q4_0, with
a metadata value of every type.
"""

import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFValueType as V
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

OUT = pathlib.Path(__file__).resolve().parent.parent / "engine" / "checkpoint" / "testdata" / "gguf"

# Where each kind keeps its f16 scales, which must be finite.
SCALES = {T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
BASIC = [T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0]


def random_blocks(rng, kind, rows, blocks):
    size = GGML_QUANT_SIZES[kind][1]
    raw = rng.integers(0, 256, (rows, blocks, size), dtype=np.uint8)
    for at in SCALES[kind]:
        raw[..., at : at + 2] = (rng.standard_normal((rows, blocks)) * 0.01).astype(np.float16).view(np.uint8).reshape(rows, blocks, 2)
    raw[0, 0, SCALES[kind][0] : SCALES[kind][0] + 2] = [3, 0]  # a subnormal scale
    return raw.reshape(rows, blocks * size)


def floats(rng, rows, cols):
    """Weights of very different sizes, zeros, and halves that round either way."""
    x = (rng.standard_normal((rows, cols)) * 10.0 ** rng.integers(-6, 3, (rows, 1))).astype(np.float32)
    x[0, :32] = 0
    x[1, :32] = np.arange(32, dtype=np.float32) - 15.5
    x[1, 0] = -127
    x[2, :32] = np.resize([3, -3, 1.5, -8], 32)
    return x


def kinds():
    rng = np.random.default_rng(1)
    w = gguf.GGUFWriter(OUT / "kinds.gguf", "test")
    want = []
    x = floats(rng, 5, 96)
    for kind in BASIC:
        data = quantize(x, kind)
        w.add_tensor(kind.name, data, raw_dtype=kind)
        want.append(dequantize(data, kind))
    for kind in SCALES:
        data = random_blocks(rng, kind, 3, 2)
        w.add_tensor(kind.name, data, raw_dtype=kind)
        want.append(dequantize(data, kind))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    np.concatenate([x.ravel() for x in want]).astype("<f4").tofile(OUT / "kinds.f32")


def written():
    rng = np.random.default_rng(2)
    x = floats(rng, 24, 64)
    x.astype("<f4").tofile(OUT / "written.f32")
    w = gguf.GGUFWriter(OUT / "written.gguf", "test")
    w.add_uint8("a.u8", 200)
    w.add_int8("a.i8", -100)
    w.add_uint16("a.u16", 60000)
    w.add_int16("a.i16", -30000)
    w.add_uint32("a.u32", 4000000000)
    w.add_int32("a.i32", -2000000000)
    w.add_float32("a.f32", 0.1)
    w.add_bool("a.bool", True)
    w.add_string("a.string", "naïve 光")
    w.add_uint64("a.u64", 2**63 + 1)
    w.add_int64("a.i64", -(2**62))
    w.add_float64("a.f64", 0.1)
    w.add_array("a.strings", ["Ġlight", "", "光"])
    w.add_key_value("a.i32s", [1, -2, 3], V.ARRAY, sub_type=V.INT32)
    w.add_key_value("a.f32s", [0.5, -0.25], V.ARRAY, sub_type=V.FLOAT32)
    w.add_key_value("a.bools", [True, False], V.ARRAY, sub_type=V.BOOL)
    w.add_array("a.lists", [[1, 2], [3]])
    for kind in [T.F32, T.F16, T.BF16, T.Q8_0, T.Q4_0]:
        w.add_tensor(kind.name, quantize(x, kind), raw_dtype=kind)
    w.add_tensor("three", x.reshape(4, 6, 64), raw_dtype=T.F32)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    kinds()
    written()
    for path in sorted(OUT.iterdir()):
        print(path.name, path.stat().st_size)
