package checkpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"unsafe"
)

// A GGUF file, little-endian throughout:
//
//	"GGUF", version u32, tensors u64, fields u64
//	fields:  key string, type u32, value
//	tensors: name string, dimensions u32, each u64 (innermost first), type u32, offset u64
//	padding to the alignment, then the data; offsets count from here
//
// where a string is its length u64 and its bytes, and a list is its elements' type
// u32, their number u64, and the elements.
const (
	ggufMagic      = "GGUF"
	ggufVersion    = 3
	ggufAlignment  = 32 // unless general.alignment says otherwise
	alignmentKey   = "general.alignment"
	maxDimensions  = 4
	maxListDepth   = 4
	leastField     = 8 + 4 + 1     // bytes of the shortest field
	leastTensor    = 8 + 4 + 4 + 8 // bytes of the shortest tensor's entry
	leastInnerList = 4 + 8
)

// The types of metadata values.
const (
	valueU8 uint32 = iota
	valueI8
	valueU16
	valueI16
	valueU32
	valueI32
	valueF32
	valueBool
	valueString
	valueList
	valueU64
	valueI64
	valueF64
)

// cursor reads a header and remembers the first error, after which it gives zeros.
type cursor struct {
	file string
	data []byte
	at   int
	err  error
}

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = malformed(c.file, "byte %s: "+format, append([]any{commas(c.at)}, args...)...)
	}
}

// take returns the next n bytes, nil when they are not there.
func (c *cursor) take(n uint64) []byte {
	if c.err != nil {
		return nil
	}
	if left := uint64(len(c.data) - c.at); n > left {
		c.fail("%d bytes are announced, %s are left: the file is truncated; download it again", n, commas(left))
		return nil
	}
	b := c.data[c.at:][:n]
	c.at += int(n)
	return b
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (c *cursor) text() string { return string(c.take(c.u64())) }

// count reads a number of things that take at least so many bytes each, and checks
// that the rest of the file could hold them before anything is allocated for them.
func (c *cursor) count(what string, least int) int {
	n := c.u64()
	if c.err == nil && n > uint64(len(c.data)-c.at)/uint64(least) {
		c.fail("%d %s are announced, %s bytes are left: the file is truncated or no GGUF file", n, what, commas(len(c.data)-c.at))
	}
	if c.err != nil {
		return 0
	}
	return int(n)
}

// parseGGUF reads a file's bytes, which the GGUF then shares.
func parseGGUF(name string, data []byte) (*GGUF, error) {
	if bytes.HasPrefix(data, []byte("version https://git-lfs")) {
		return nil, malformed(name, "a Git LFS pointer stands in the file's place; fetch the file itself (git lfs pull)")
	}
	c := &cursor{file: name, data: data}
	if magic := c.take(4); c.err != nil || string(magic) != ggufMagic {
		return nil, malformed(name, "the file does not begin with %s: this is no GGUF file", ggufMagic)
	}
	g := &GGUF{name: name, data: data, version: c.u32(), byKey: map[string]int{}, index: map[string]int{}}
	switch {
	case c.err != nil:
		return nil, c.err
	case g.version&0xffff == 0 && g.version != 0:
		return nil, malformed(name, "the file is big-endian, which is not read; convert it with gguf-py's gguf_convert_endian.py")
	case g.version < 2 || g.version > ggufVersion:
		return nil, malformed(name, "version %d of GGUF, want 2 or %d; make the file again with a newer llama.cpp", g.version, ggufVersion)
	}
	tensors := c.count("tensors", leastTensor)
	fields := c.count("metadata fields", leastField)
	g.readFields(c, fields)
	g.readTensors(c, tensors)
	if c.err != nil {
		return nil, c.err
	}
	return g, g.place(c.at)
}

func (g *GGUF) readFields(c *cursor, n int) {
	for range n {
		key := c.text()
		value := c.value(c.u32())
		if _, twice := g.byKey[key]; twice {
			c.fail("the metadata has %.80q twice", key)
		}
		if c.err != nil {
			return
		}
		g.byKey[key] = len(g.fields)
		g.fields = append(g.fields, GGUFField{key, value})
	}
}

// value reads a metadata value of a type.
func (c *cursor) value(kind uint32) any {
	switch kind {
	case valueString:
		return c.text()
	case valueList:
		return c.list(0)
	}
	one := c.numbers(kind, 1)
	switch v := one.(type) {
	case []uint8:
		return first(v)
	case []int8:
		return first(v)
	case []uint16:
		return first(v)
	case []int16:
		return first(v)
	case []uint32:
		return first(v)
	case []int32:
		return first(v)
	case []float32:
		return first(v)
	case []bool:
		return first(v)
	case []uint64:
		return first(v)
	case []int64:
		return first(v)
	case []float64:
		return first(v)
	}
	return nil
}

func first[T any](list []T) (v T) {
	if len(list) > 0 {
		v = list[0]
	}
	return v
}

// list reads a list: a slice of the elements' type, []any for lists of lists.
func (c *cursor) list(depth int) any {
	kind := c.u32()
	switch kind {
	case valueString:
		list := make([]string, c.count("strings", 8))
		for i := range list {
			list[i] = c.text()
		}
		return list
	case valueList:
		if depth == maxListDepth {
			c.fail("lists stand inside each other more than %d deep", maxListDepth)
			return nil
		}
		list := make([]any, c.count("lists", leastInnerList))
		for i := range list {
			if list[i] = c.list(depth + 1); c.err != nil {
				return nil
			}
		}
		return list
	}
	return c.numbers(kind, c.count("values", max(1, valueSize(kind))))
}

// valueSize returns the bytes of a number or a bool, 0 for what is neither.
func valueSize(kind uint32) int {
	switch kind {
	case valueU8, valueI8, valueBool:
		return 1
	case valueU16, valueI16:
		return 2
	case valueU32, valueI32, valueF32:
		return 4
	case valueU64, valueI64, valueF64:
		return 8
	}
	return 0
}

// numbers reads n numbers or bools of a type.
func (c *cursor) numbers(kind uint32, n int) any {
	size := valueSize(kind)
	if size == 0 {
		c.fail("a metadata value has the unknown type %d", kind)
		return nil
	}
	raw := c.take(uint64(n) * uint64(size))
	if c.err != nil {
		return nil
	}
	switch kind {
	case valueU8:
		return bytes.Clone(raw)
	case valueI8:
		return copied[int8](raw, n)
	case valueU16:
		return copied[uint16](raw, n)
	case valueI16:
		return copied[int16](raw, n)
	case valueU32:
		return copied[uint32](raw, n)
	case valueI32:
		return copied[int32](raw, n)
	case valueF32:
		return copied[float32](raw, n)
	case valueU64:
		return copied[uint64](raw, n)
	case valueI64:
		return copied[int64](raw, n)
	case valueF64:
		return copied[float64](raw, n)
	}
	list := make([]bool, n)
	for i, b := range raw {
		if b > 1 {
			c.fail("a truth value is %d, want 0 or 1", b)
		}
		list[i] = b == 1
	}
	return list
}

// copied returns n numbers that stand unaligned in raw, in the machine's order of
// bytes, which is the file's.
func copied[T int8 | uint16 | int16 | uint32 | int32 | float32 | uint64 | int64 | float64](raw []byte, n int) []T {
	out := make([]T, n)
	if n > 0 {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&out[0])), len(raw)), raw)
	}
	return out
}

func (g *GGUF) readTensors(c *cursor, n int) {
	for range n {
		name := c.text()
		dims := c.u32()
		if dims > maxDimensions {
			c.fail("tensor %.80q has %d dimensions, the format allows %d", name, dims, maxDimensions)
		}
		var shape []uint64
		for range min(dims, maxDimensions) {
			shape = append(shape, c.u64())
		}
		kind, offset := GGMLType(c.u32()), c.u64()
		if c.err != nil {
			return
		}
		t, err := newGGUFTensor(name, kind, shape, offset)
		if _, twice := g.index[name]; err == nil && twice {
			err = fmt.Errorf("it is in the header twice")
		}
		if err != nil {
			c.err = malformed(g.name, "tensor %.80q: %v", name, err)
			return
		}
		g.index[name] = len(g.tensors)
		g.tensors = append(g.tensors, t)
	}
}

// newGGUFTensor checks a tensor's type and shape, innermost dimension first, and
// computes its end; begin and end count from the start of the data.
func newGGUFTensor(name string, kind GGMLType, dims []uint64, offset uint64) (ggufTensor, error) {
	k, ok := ggmlKinds[kind]
	if !ok {
		return ggufTensor{}, fmt.Errorf("it is stored as %s, which is not read (known: %s)", kind, strings.Join(kindNames(), ", "))
	}
	if len(dims) > 0 && dims[0]%uint64(k.block) != 0 {
		return ggufTensor{}, fmt.Errorf("rows of %d do not divide into the blocks of %d that %s has", dims[0], k.block, kind)
	}
	if len(dims) == 0 && k.block > 1 {
		return ggufTensor{}, fmt.Errorf("a single number is stored as %s", kind)
	}
	outermost := slices.Clone(dims)
	slices.Reverse(outermost)
	shape, weights, ok := sizeOf(k.dtype, outermost) // no larger when decoded
	if !ok {
		return ggufTensor{}, fmt.Errorf("shape %v is too large to address", outermost)
	}
	size := weights / uint64(k.dtype.Size()) / uint64(k.block) * uint64(k.bytes)
	if offset > math.MaxInt-size {
		return ggufTensor{}, fmt.Errorf("offset %d is too large to address", offset)
	}
	return ggufTensor{name, kind, shape, int(offset), int(offset + size)}, nil
}

func kindNames() []string {
	kinds := make([]GGMLType, 0, len(ggmlKinds))
	for k := range ggmlKinds {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.String()
	}
	return names
}

// place finds the start of the data behind the header, checks that every tensor lies
// in the file, aligned and apart from the others, and sorts them by offset.
func (g *GGUF) place(header int) error {
	align := uint64(ggufAlignment)
	if v, ok := g.Value(alignmentKey); ok {
		a, isU32 := v.(uint32)
		if !isU32 || a == 0 || a&(a-1) != 0 {
			return malformed(g.name, "%s is %v, want a power of two as u32", alignmentKey, v)
		}
		align = uint64(a)
	}
	start := (uint64(header) + align - 1) / align * align
	if len(g.tensors) == 0 {
		return nil
	}
	if start > uint64(len(g.data)) {
		return malformed(g.name, "the data begins at byte %d, the file has %s: the file is truncated; download it again", start, commas(len(g.data)))
	}
	room := len(g.data) - int(start)
	for i := range g.tensors {
		t := &g.tensors[i]
		if uint64(t.begin)%align != 0 {
			return malformed(g.name, "tensor %q: offset %s is no multiple of the alignment %d", t.name, commas(t.begin), align)
		}
		if t.end > room {
			return malformed(g.name, "tensor %q: data ends %s bytes behind the header, the file has %s there: the file is truncated; download it again", t.name, commas(t.end), commas(room))
		}
		t.begin += int(start)
		t.end += int(start)
	}
	sort.SliceStable(g.tensors, func(i, j int) bool {
		a, b := g.tensors[i], g.tensors[j]
		return a.begin < b.begin || a.begin == b.begin && a.end < b.end
	})
	for i, t := range g.tensors {
		g.index[t.name] = i
		if i > 0 && t.begin < g.tensors[i-1].end {
			return malformed(g.name, "tensors %q and %q overlap at byte %s", g.tensors[i-1].name, t.name, commas(t.begin))
		}
	}
	return nil
}
