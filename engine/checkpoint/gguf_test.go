package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"

	"tare/engine/tensor"
)

// The files of testdata/gguf are made by parity/gguf_files.py with llama.cpp's own
// Python package.

func readFloats(t *testing.T, path string) []float32 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return copied[float32](data, len(data)/4)
}

func openGGUF(t *testing.T, path string) *GGUF {
	t.Helper()
	g, err := OpenGGUF(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func TestEveryKindReadsAsTheReferenceDoes(t *testing.T) {
	g := openGGUF(t, "testdata/gguf/kinds.gguf")
	want := readFloats(t, "testdata/gguf/kinds.f32")
	names := []string{"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"}
	if got := g.Names(); !slices.Equal(got, names) {
		t.Fatalf("tensors %v, want %v", got, names)
	}
	for _, name := range names {
		kind, _ := g.Type(name)
		if kind.String() != name {
			t.Errorf("%s is said to be %s", name, kind)
		}
		x, err := g.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		info, _ := g.Info(name)
		if info.DType != x.DType() || !slices.Equal(info.Shape, x.Shape()) || info.Bytes != int64(len(x.Bytes())) {
			t.Errorf("%s: Info says %+v, the tensor is %s %v", name, info, x.DType(), x.Shape())
		}
		got, err := x.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		sameBits(t, name, got, want[:len(got)])
		want = want[len(got):]
	}
	if len(want) != 0 {
		t.Errorf("%d reference values are left over", len(want))
	}
}

func sameBits(t *testing.T, name string, got, want []float32) {
	t.Helper()
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Errorf("%s: weight %d is %v (%08x), want %v (%08x)", name, i, got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
			return
		}
	}
}

// referenceFields are the metadata of written.gguf.
var referenceFields = []GGUFField{
	{"general.architecture", "test"},
	{"a.u8", uint8(200)}, {"a.i8", int8(-100)}, {"a.u16", uint16(60000)}, {"a.i16", int16(-30000)},
	{"a.u32", uint32(4000000000)}, {"a.i32", int32(-2000000000)}, {"a.f32", float32(0.1)}, {"a.bool", true},
	{"a.string", "naïve 光"}, {"a.u64", uint64(1<<63 + 1)}, {"a.i64", int64(-1 << 62)}, {"a.f64", 0.1},
	{"a.strings", []string{"Ġlight", "", "光"}}, {"a.i32s", []int32{1, -2, 3}}, {"a.f32s", []float32{0.5, -0.25}},
	{"a.bools", []bool{true, false}}, {"a.lists", []any{[]int32{1, 2}, []int32{3}}},
}

func TestMetadataOfEveryType(t *testing.T) {
	g := openGGUF(t, "testdata/gguf/written.gguf")
	if got := g.Fields(); !reflect.DeepEqual(got, referenceFields) {
		t.Errorf("fields\n%v\nwant\n%v", got, referenceFields)
	}
	if m := g.Metadata(); m["a.i32"] != "-2000000000" || m["a.lists"] != "[2 values]" {
		t.Errorf("metadata as text: %v", m)
	}
	if info, _ := g.Info("three"); !slices.Equal(info.Shape, []int{4, 6, 64}) {
		t.Errorf("shape %v, want the outermost dimension first", info.Shape)
	}
}

// The writer's file is the reference's, byte for byte, but for the lists of lists that
// it does not write.
func TestWrittenBytesAreTheReferences(t *testing.T) {
	reference := openGGUF(t, "testdata/gguf/written.gguf")
	values := tensor.FromF32(readFloats(t, "testdata/gguf/written.f32"), 24, 64)
	var specs []GGUFSpec
	for _, kind := range []GGMLType{GGMLF32, GGMLF16, GGMLBF16, GGMLQ8_0, GGMLQ4_0} {
		specs = append(specs, GGUFSpec{kind.String(), kind, []int{24, 64}})
	}
	specs = append(specs, GGUFSpec{"three", GGMLF32, []int{4, 6, 64}})
	fields := referenceFields[:len(referenceFields)-1]
	path := filepath.Join(t.TempDir(), "x.gguf")
	w, err := CreateGGUF(path, fields, specs)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		if err := w.Write(values.Reshape(s.Shape...)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file stands before Close")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	ours := openGGUF(t, path)
	if !reflect.DeepEqual(ours.Fields(), fields) {
		t.Errorf("fields %v, want %v", ours.Fields(), fields)
	}
	if !slices.Equal(ours.Names(), reference.Names()) {
		t.Fatalf("tensors %v, want %v", ours.Names(), reference.Names())
	}
	for i, a := range ours.tensors {
		b := reference.tensors[i]
		if a.kind != b.kind || !slices.Equal(a.shape, b.shape) || !bytes.Equal(ours.data[a.begin:a.end], reference.data[b.begin:b.end]) {
			t.Errorf("%s: the bytes are not the reference's", a.name)
		}
	}
	// The headers agree as well up to the number of fields and the field left out.
	list := len("a.lists") + 8 + 4 + 4 + 8 + 2*(4+8) + 3*4
	begin := bytes.Index(reference.data, []byte("a.lists")) - 8
	want := slices.Concat(reference.data[:16], []byte{byte(len(fields))}, reference.data[17:begin], reference.data[begin+list:reference.tensors[0].begin])
	want = bytes.TrimRight(want, "\x00")
	if got := bytes.TrimRight(ours.data[:ours.tensors[0].begin], "\x00"); !bytes.Equal(got, want) {
		t.Errorf("header\n%q\nwant\n%q", got, want)
	}
}

// Weights below the smallest scale become zeros, as in the reference, and what f16
// cannot hold is refused.
func TestQuantizersAtTheEdges(t *testing.T) {
	x := make([]float32, 32)
	for _, c := range []struct{ value, want float32 }{{1e-42, 0}, {math.SmallestNonzeroFloat32, 0}, {0, 0}, {65504, 65504}} {
		x[7] = c.value
		for _, kind := range []GGMLType{GGMLQ8_0, GGMLQ4_0} {
			data, err := encodeAs(kind, tensor.FromF32(x, 1, 32))
			if err != nil {
				t.Fatal(err)
			}
			got := make([]float32, 32)
			ggmlKinds[kind].decode(got, data)
			if math.Abs(float64(got[7]-c.want)) > 1e-3*float64(c.want) {
				t.Errorf("%s: %v comes back as %v", kind, c.value, got[7])
			}
		}
	}
	for _, c := range []struct {
		kind  GGMLType
		value float64
	}{{GGMLF16, 1e6}, {GGMLQ8_0, math.NaN()}, {GGMLF32, math.Inf(1)}, {GGMLQ4_0, 1e30}, {GGMLQ8_0, 1e30}} {
		x[7] = float32(c.value)
		if _, err := encodeAs(c.kind, tensor.FromF32(x, 1, 32)); !errors.Is(err, ErrNonFinite) {
			t.Errorf("%v as %s: %v, want ErrNonFinite", c.value, c.kind, err)
		}
	}
}

func TestGGUFWriterRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		field GGUFField
		spec  GGUFSpec
	}{
		"rows of 33":       {GGUFField{"a", "b"}, GGUFSpec{"w", GGMLQ8_0, []int{2, 33}}},
		"K kind":           {GGUFField{"a", "b"}, GGUFSpec{"w", GGMLQ4_K, []int{2, 256}}},
		"long name":        {GGUFField{"a", "b"}, GGUFSpec{strings.Repeat("w", 64), GGMLF32, []int{2}}},
		"five dimensions":  {GGUFField{"a", "b"}, GGUFSpec{"w", GGMLF32, []int{1, 1, 1, 1, 1}}},
		"an int":           {GGUFField{"a", 1}, GGUFSpec{"w", GGMLF32, []int{2}}},
		"another aligment": {GGUFField{alignmentKey, uint32(64)}, GGUFSpec{"w", GGMLF32, []int{2}}},
	} {
		if _, err := CreateGGUF(filepath.Join(dir, "x.gguf"), []GGUFField{c.field}, []GGUFSpec{c.spec}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	w, err := CreateGGUF(filepath.Join(dir, "x.gguf"), nil, []GGUFSpec{{"w", GGMLF32, []int{2}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, ErrMissing) {
		t.Errorf("Close before all tensors: %v, want ErrMissing", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v is left behind", left)
	}
}

// ggufBytes builds a file by hand: version 3, one field, one tensor "w".
func ggufBytes(kind uint32, offset uint64, data int, dims ...uint64) []byte {
	var b bytes.Buffer
	b.WriteString("GGUF")
	putNumbers(&b, uint32(3), uint64(1), uint64(1), uint64(1))
	b.WriteString("k")
	putNumbers(&b, valueU32, uint32(7), uint64(1))
	b.WriteString("w")
	putNumbers(&b, uint32(len(dims)), dims, kind, offset)
	b.Write(make([]byte, padded(int64(b.Len()))-int64(b.Len())+int64(data)))
	return b.Bytes()
}

func TestMalformedGGUF(t *testing.T) {
	good := ggufBytes(0, 0, 24, 3, 2)
	g, err := parseGGUF("x", good)
	if err != nil {
		t.Fatal(err)
	}
	if x, err := g.Tensor("w"); err != nil || !slices.Equal(x.Shape(), []int{2, 3}) {
		t.Fatalf("a good file: %v", err)
	}
	patch := func(at int, b ...byte) []byte {
		data := bytes.Clone(good)
		copy(data[at:], b)
		return data
	}
	for want, data := range map[string][]byte{
		"no GGUF file":                        []byte("GGML"),
		"begin with GGUF":                     {},
		"Git LFS":                             []byte("version https://git-lfs.github.com/spec/v1"),
		"version 1":                           patch(4, 1),
		"big-endian":                          patch(4, 0, 0, 0, 3),
		"tensors are announced":               patch(8, 255, 255, 255, 255, 255, 255, 255, 255),
		"metadata fields are announced":       patch(16, 255),
		"bytes are announced":                 patch(24, 255, 255, 255, 255, 255, 255, 255, 127),
		"unknown type 13":                     patch(33, 13),
		"the file has 23 there":               good[:len(good)-1],
		"truncated":                           good[:40],
		"stored as IQ4_XS":                    ggufBytes(23, 0, 64, 256),
		"stored as type 99":                   ggufBytes(99, 0, 64, 256),
		"blocks of 32":                        ggufBytes(8, 0, 64, 33),
		"dimensions":                          ggufBytes(0, 0, 64, 1, 1, 1, 1, 1),
		"too large to address":                ggufBytes(0, 0, 64, 1<<40, 1<<40),
		"offset 9223372036854775808 is too":   ggufBytes(0, 1<<63, 64, 1),
		"no multiple of the alignment":        ggufBytes(0, 4, 64, 1),
		"data ends 9,223,372,036,854,775,748": ggufBytes(0, 1<<63-64, 64, 1),
		"single number is stored as Q8_0":     ggufBytes(8, 0, 64),
	} {
		if _, err := parseGGUF("x", data); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestGGUFAlignmentAndOverlap(t *testing.T) {
	build := func(align any, offsets ...uint64) error {
		var b bytes.Buffer
		b.WriteString("GGUF")
		putNumbers(&b, uint32(3), uint64(len(offsets)), uint64(1))
		putText(&b, alignmentKey)
		if err := putValue(&b, align); err != nil {
			t.Fatal(err)
		}
		for i, o := range offsets {
			putText(&b, fmt.Sprint(i))
			putNumbers(&b, uint32(1), uint64(4), uint32(0), o)
		}
		b.Write(make([]byte, 4096))
		_, err := parseGGUF("x", b.Bytes())
		return err
	}
	if err := build(uint32(8), 16, 0, 40); err != nil {
		t.Errorf("aligned to 8: %v", err)
	}
	for name, err := range map[string]error{
		"alignment 12":  build(uint32(12), 0),
		"alignment 0":   build(uint32(0), 0),
		"wrong type":    build("8", 0),
		"overlap":       build(uint32(8), 0, 8),
		"same place":    build(uint32(8), 0, 0),
		"far alignment": build(uint32(1<<31), 0),
	} {
		if !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}

// leastAllocated is the least that f allocates in a few runs: the fuzzer's own goroutines
// allocate beside it, and the count is of the whole process.
func leastAllocated(f func()) uint64 {
	least := uint64(math.MaxUint64)
	for range 5 {
		before := allocated()
		f()
		least = min(least, allocated()-before)
	}
	return least
}

// FuzzGGUF: no input makes the reader panic or allocate far beyond its size.
func FuzzGGUF(f *testing.F) {
	for _, name := range []string{"kinds.gguf", "written.gguf"} {
		data, err := os.ReadFile(filepath.Join("testdata/gguf", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	tiny, err := os.ReadFile(writeTiny(f, tinyFields))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tiny)
	f.Add(ggufBytes(0, 0, 24, 3, 2))
	f.Add(binary.LittleEndian.AppendUint64([]byte("GGUF\x03\x00\x00\x00"), 1<<40))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := parseGGUF("x", data)
		if spent := leastAllocated(func() { _, _ = parseGGUF("x", data) }); spent > uint64(64*len(data)+1<<20) {
			t.Fatalf("%d bytes allocated for a file of %d", spent, len(data))
		}
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%v is no ErrFormat", err)
			}
			return
		}
		g.Metadata()
		if src, err := newLlamaGGUF(g); err == nil {
			for _, name := range src.Names() {
				src.Tensor(name)
			}
			src.file("config.json")
			src.file("tokenizer.json")
		}
		for _, name := range g.Names() {
			info, ok := g.Info(name)
			x, err := g.Tensor(name)
			if !ok || err != nil || info.Bytes != int64(len(x.Bytes())) {
				t.Fatalf("%q: %v", name, err)
			}
		}
	})
}

// allocated returns the bytes that were ever allocated.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

func BenchmarkDequantize(b *testing.B) {
	for _, kind := range []GGMLType{GGMLQ4_0, GGMLQ4_1, GGMLQ5_1, GGMLQ8_0, GGMLQ2_K, GGMLQ3_K, GGMLQ4_K, GGMLQ5_K, GGMLQ6_K} {
		k := ggmlKinds[kind]
		src, dst := make([]byte, 1<<10*k.bytes), make([]float32, 1<<10*k.block)
		b.Run(kind.String(), func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				k.decode(dst, src)
			}
		})
	}
}
