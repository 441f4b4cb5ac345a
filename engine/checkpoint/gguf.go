package checkpoint

import (
	"fmt"
	"path/filepath"
	"strings"

	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// GGMLType is how a GGUF file stores a tensor: plain numbers, or blocks of small
// integers with a scale each. The values are the format's.
type GGMLType uint32

// The storage types that are read. Q4_0 and the like keep 32 weights a block, the K
// kinds 256.
const (
	GGMLF32  GGMLType = 0
	GGMLF16  GGMLType = 1
	GGMLQ4_0 GGMLType = 2
	GGMLQ4_1 GGMLType = 3
	GGMLQ5_0 GGMLType = 6
	GGMLQ5_1 GGMLType = 7
	GGMLQ8_0 GGMLType = 8
	GGMLQ2_K GGMLType = 10
	GGMLQ3_K GGMLType = 11
	GGMLQ4_K GGMLType = 12
	GGMLQ5_K GGMLType = 13
	GGMLQ6_K GGMLType = 14
	GGMLI8   GGMLType = 24
	GGMLI16  GGMLType = 25
	GGMLI32  GGMLType = 26
	GGMLI64  GGMLType = 27
	GGMLF64  GGMLType = 28
	GGMLBF16 GGMLType = 30
)

// ggmlKind is what is known of a storage type: weights and bytes a block, and either
// the element type that stands for it as it is, or how blocks become f32 and back.
type ggmlKind struct {
	name         string
	block, bytes int
	dtype        tensor.DType
	decode       func(dst []float32, src []byte) // whole blocks; nil for plain numbers
	encode       func(dst []byte, src []float32) // whole blocks; nil where none is written
	file         uint32                          // general.file_type of a file that is mostly this
}

var ggmlKinds = map[GGMLType]ggmlKind{
	GGMLF32:  {name: "F32", block: 1, bytes: 4, dtype: tensor.F32, file: 0},
	GGMLF16:  {name: "F16", block: 1, bytes: 2, dtype: tensor.F16, file: 1},
	GGMLBF16: {name: "BF16", block: 1, bytes: 2, dtype: tensor.BF16, file: 32},
	GGMLF64:  {name: "F64", block: 1, bytes: 8, dtype: tensor.F64},
	GGMLI8:   {name: "I8", block: 1, bytes: 1, dtype: tensor.I8},
	GGMLI16:  {name: "I16", block: 1, bytes: 2, dtype: tensor.I16},
	GGMLI32:  {name: "I32", block: 1, bytes: 4, dtype: tensor.I32},
	GGMLI64:  {name: "I64", block: 1, bytes: 8, dtype: tensor.I64},
	GGMLQ4_0: {name: "Q4_0", block: 32, bytes: 18, decode: decodeQ4_0, encode: encodeQ4_0, file: 2},
	GGMLQ4_1: {name: "Q4_1", block: 32, bytes: 20, decode: decodeQ4_1},
	GGMLQ5_0: {name: "Q5_0", block: 32, bytes: 22, decode: decodeQ5_0},
	GGMLQ5_1: {name: "Q5_1", block: 32, bytes: 24, decode: decodeQ5_1},
	GGMLQ8_0: {name: "Q8_0", block: 32, bytes: 34, decode: decodeQ8_0, encode: encodeQ8_0, file: 7},
	GGMLQ2_K: {name: "Q2_K", block: superBlock, bytes: 84, decode: decodeQ2_K},
	GGMLQ3_K: {name: "Q3_K", block: superBlock, bytes: 110, decode: decodeQ3_K},
	GGMLQ4_K: {name: "Q4_K", block: superBlock, bytes: 144, decode: decodeQ4_K},
	GGMLQ5_K: {name: "Q5_K", block: superBlock, bytes: 176, decode: decodeQ5_K},
	GGMLQ6_K: {name: "Q6_K", block: superBlock, bytes: 210, decode: decodeQ6_K},
}

// unreadTypes names storage types for the error about them.
var unreadTypes = map[GGMLType]string{
	4: "Q4_2", 5: "Q4_3", 9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL",
	21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}

// String returns the format's name of t, such as "Q4_K".
func (t GGMLType) String() string {
	if k, ok := ggmlKinds[t]; ok {
		return k.name
	}
	if name, ok := unreadTypes[t]; ok {
		return name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// GGUFTypes lists the storage types that WriteGGUF writes.
func GGUFTypes() []GGMLType { return []GGMLType{GGMLF32, GGMLF16, GGMLBF16, GGMLQ8_0, GGMLQ4_0} }

// ParseGGMLType reads the name of a type of GGUFTypes, in any case.
func ParseGGMLType(s string) (GGMLType, error) {
	var known []string
	for _, t := range GGUFTypes() {
		if strings.EqualFold(s, t.String()) {
			return t, nil
		}
		known = append(known, strings.ToLower(t.String()))
	}
	return 0, fmt.Errorf("checkpoint: unknown type %q (known: %s)", s, strings.Join(known, ", "))
}

// GGUFField is one entry of a GGUF file's metadata. Value is a bool, a string, a
// number of fixed size (uint8 … int64, float32, float64), or a slice of one of these;
// lists of lists, which are read and not written, are []any of slices.
type GGUFField struct {
	Key   string
	Value any
}

// GGUF is an open GGUF file. It may be used by several goroutines.
type GGUF struct {
	name    string // for messages
	mapping *tensor.Mapping
	data    []byte // the whole file
	version uint32
	fields  []GGUFField
	byKey   map[string]int
	tensors []ggufTensor
	index   map[string]int
}

// ggufTensor is a tensor and its place in the file.
type ggufTensor struct {
	name       string
	kind       GGMLType
	shape      []int // outermost dimension first; the file has it last
	begin, end int
}

// OpenGGUF maps the GGUF file at path (version 2 or 3) and checks its header. Tensors
// of plain numbers share the mapping: they must not be written, nor used after Close.
func OpenGGUF(path string) (*GGUF, error) {
	m, err := tensor.Map(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	g, err := parseGGUF(filepath.Base(path), m.Bytes())
	if err != nil {
		m.Close()
		return nil, err
	}
	g.mapping = m
	return g, nil
}

// Fields returns the metadata in the file's order; the caller must not change it.
func (g *GGUF) Fields() []GGUFField { return g.fields }

// Value returns the metadata under a key.
func (g *GGUF) Value(key string) (any, bool) {
	i, ok := g.byKey[key]
	if !ok {
		return nil, false
	}
	return g.fields[i].Value, true
}

// Names returns the tensors' names in the order of their data.
func (g *GGUF) Names() []string {
	names := make([]string, len(g.tensors))
	for i, t := range g.tensors {
		names[i] = t.name
	}
	return names
}

// Type returns how a tensor is stored.
func (g *GGUF) Type(name string) (GGMLType, bool) {
	i, ok := g.index[name]
	if !ok {
		return 0, false
	}
	return g.tensors[i].kind, true
}

// Info returns what Tensor will give: blocks of small integers count as F32, with the
// bytes that these take.
func (g *GGUF) Info(name string) (Info, bool) {
	i, ok := g.index[name]
	if !ok {
		return Info{}, false
	}
	t := g.tensors[i]
	kind := ggmlKinds[t.kind]
	blocks := int64(t.end-t.begin) / int64(kind.bytes)
	return Info{t.name, kind.dtype, t.shape, blocks * int64(kind.block*kind.dtype.Size()), g.name}, true
}

// Tensor returns a tensor: over the file's bytes when they are plain numbers. Blocks
// of small integers are widened to f32 on all cores at each call and not kept, so the
// caller holds 4 bytes a weight where the file has about one half to one.
func (g *GGUF) Tensor(name string) (*tensor.Tensor, error) {
	i, ok := g.index[name]
	if !ok {
		return nil, missing(g.name, "no tensor %q among its %d", name, len(g.tensors))
	}
	t := g.tensors[i]
	if g.data == nil {
		return nil, fmt.Errorf("checkpoint: %s is closed", g.name)
	}
	kind, src := ggmlKinds[t.kind], g.data[t.begin:t.end]
	if kind.decode == nil {
		return tensor.FromBytes(kind.dtype, src, t.shape...)
	}
	out := tensor.New(t.shape...)
	dst := out.F32()
	kernel.Parallel(len(src)/kind.bytes, blockGrain/kind.block, func(lo, hi int) {
		kind.decode(dst[lo*kind.block:hi*kind.block], src[lo*kind.bytes:hi*kind.bytes])
	})
	return out, nil
}

// blockGrain is the least number of weights that are worth a thread's while.
const blockGrain = 1 << 14

// storedKey is where Metadata tells the storage types.
const storedKey = "gguf.stored"

// Metadata returns the single values as text. Lists are told by their length, and the
// storage types by how many tensors have them.
func (g *GGUF) Metadata() map[string]string {
	counts := map[string]int{}
	for _, t := range g.tensors {
		counts[t.kind.String()]++
	}
	var stored []string
	for _, kind := range sortedKeys(counts) {
		stored = append(stored, fmt.Sprintf("%d × %s", counts[kind], kind))
	}
	m := map[string]string{storedKey: strings.Join(stored, ", ")}
	for _, f := range g.fields {
		if n := listLen(f.Value); n >= 0 {
			m[f.Key] = fmt.Sprintf("[%d values]", n)
		} else {
			m[f.Key] = fmt.Sprint(f.Value)
		}
	}
	return m
}

// Close unmaps the file.
func (g *GGUF) Close() error {
	m := g.mapping
	g.mapping, g.data = nil, nil
	if m == nil {
		return nil
	}
	return m.Close()
}
