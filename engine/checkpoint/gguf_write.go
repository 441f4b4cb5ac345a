package checkpoint

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

// GGUFSpec announces a tensor that will be written to a GGUF file. The shape has the
// outermost dimension first, as everywhere but in the file.
type GGUFSpec struct {
	Name  string
	Type  GGMLType
	Shape []int
}

// GGUFWriter writes a GGUF file tensor by tensor. Nothing stands under the file's name
// until Close.
type GGUFWriter struct {
	specs []GGUFSpec
	sizes []int64
	next  int
	out   *output
	buf   *bufio.Writer
}

// longestName is the most bytes of a tensor's name that llama.cpp takes.
const longestName = 63

// CreateGGUF starts a GGUF file (version 3) with this metadata, in its order, that will
// hold the tensors of specs, in theirs. The header is written at once.
func CreateGGUF(path string, fields []GGUFField, specs []GGUFSpec) (*GGUFWriter, error) {
	file := filepath.Base(path)
	header, sizes, err := ggufHeader(fields, specs)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %s: %w", file, err)
	}
	need := int64(len(header))
	for _, n := range sizes {
		need += padded(n)
	}
	if err := checkRoom(path, need); err != nil {
		return nil, err
	}
	out, err := createOutput(path)
	if err != nil {
		return nil, err
	}
	w := &GGUFWriter{specs: slices.Clone(specs), sizes: sizes, out: out, buf: bufio.NewWriterSize(out.f, writeBuffer)}
	if _, err := w.buf.Write(header); err != nil {
		return nil, out.fail(err)
	}
	return w, nil
}

// Write converts the next tensor to its announced type and writes it. Weights that are
// not finite, or leave the range of F16, are refused. After an error the file is gone
// and the GGUFWriter of no more use.
func (w *GGUFWriter) Write(t *tensor.Tensor) error {
	if w.out.f == nil {
		return fmt.Errorf("checkpoint: %s: the writer has ended", w.out.path)
	}
	if w.next == len(w.specs) {
		return w.out.fail(fmt.Errorf("all %d announced tensors are written", len(w.specs)))
	}
	s, size := w.specs[w.next], w.sizes[w.next]
	if !slices.Equal(t.Shape(), s.Shape) {
		return w.out.fail(fmt.Errorf("tensor %q: shape %v is not the announced %v", s.Name, t.Shape(), s.Shape))
	}
	data, err := encodeAs(s.Type, t)
	if err == nil {
		if _, err = w.buf.Write(data); err == nil {
			_, err = w.buf.Write(make([]byte, padded(size)-size))
		}
	}
	if err != nil {
		return w.out.fail(fmt.Errorf("tensor %q: %w", s.Name, err))
	}
	w.next++
	return nil
}

// Close brings the file to the disk and gives it its name. When tensors are missing
// the file is removed and the error names the first.
func (w *GGUFWriter) Close() error {
	return w.out.finish(w.buf, w.next, len(w.specs), func(i int) string { return w.specs[i].Name })
}

// Abort removes what was written. After Close it does nothing.
func (w *GGUFWriter) Abort() { w.out.abort() }

// padded is n rounded up to the alignment.
func padded(n int64) int64 { return (n + ggufAlignment - 1) / ggufAlignment * ggufAlignment }

// encodeAs returns the bytes of t in a storage type.
func encodeAs(kind GGMLType, t *tensor.Tensor) ([]byte, error) {
	k := ggmlKinds[kind]
	if k.encode == nil && !k.dtype.IsFloat() || !t.DType().IsFloat() {
		if k.encode == nil && k.dtype == t.DType() {
			return t.Bytes(), nil
		}
		return nil, fmt.Errorf("%s does not convert to %s", t.DType(), kind)
	}
	if i := t.FirstNonFinite(); i >= 0 {
		return nil, &kinded{fmt.Sprintf("entry %d is NaN or Inf", i), ErrNonFinite}
	}
	if k.encode == nil {
		out, err := t.To(k.dtype)
		if err != nil {
			return nil, err
		}
		if i := out.FirstNonFinite(); i >= 0 {
			return nil, &kinded{fmt.Sprintf("entry %d is too large for %s; choose BF16 or F32", i, kind), ErrNonFinite}
		}
		return out.Bytes(), nil
	}
	src, err := t.Float32s()
	if err != nil {
		return nil, err
	}
	blocks := len(src) / k.block
	dst := make([]byte, blocks*k.bytes)
	kernel.Parallel(blocks, blockGrain/k.block, func(lo, hi int) {
		k.encode(dst[lo*k.bytes:hi*k.bytes], src[lo*k.block:hi*k.block])
	})
	for b := range blocks { // every block that is written begins with its f16 scale
		if dst[b*k.bytes+1]&0x7c == 0x7c {
			return nil, &kinded{fmt.Sprintf("the scale of entries %d to %d is too large for the f16 of %s; choose BF16 or F32", b*k.block, (b+1)*k.block-1, kind), ErrNonFinite}
		}
	}
	return dst, nil
}

// ggufHeader returns everything before the data, padded, and the tensors' sizes.
func ggufHeader(fields []GGUFField, specs []GGUFSpec) ([]byte, []int64, error) {
	var b bytes.Buffer
	b.WriteString(ggufMagic)
	putNumbers(&b, uint32(ggufVersion), uint64(len(specs)), uint64(len(fields)))
	seen := map[string]bool{}
	for _, f := range fields {
		switch {
		case f.Key == alignmentKey:
			return nil, nil, fmt.Errorf("metadata: %s is always %d here; leave it out", f.Key, ggufAlignment)
		case seen[f.Key]:
			return nil, nil, fmt.Errorf("metadata: the key %q is there twice", f.Key)
		}
		seen[f.Key] = true
		putText(&b, f.Key)
		if err := putValue(&b, f.Value); err != nil {
			return nil, nil, fmt.Errorf("metadata: %s: %w", f.Key, err)
		}
	}
	sizes, at := make([]int64, len(specs)), int64(0)
	seen = map[string]bool{}
	for i, s := range specs {
		size, err := s.bytes()
		if err == nil && seen[s.Name] {
			err = fmt.Errorf("the name is taken")
		}
		if err != nil {
			return nil, nil, fmt.Errorf("tensor %q: %w", s.Name, err)
		}
		seen[s.Name], sizes[i] = true, size
		putText(&b, s.Name)
		putNumbers(&b, uint32(len(s.Shape)))
		for d := len(s.Shape) - 1; d >= 0; d-- {
			putNumbers(&b, uint64(s.Shape[d]))
		}
		putNumbers(&b, uint32(s.Type), uint64(at))
		if at > math.MaxInt64-padded(size) {
			return nil, nil, fmt.Errorf("tensor %q: the data is too large to address", s.Name)
		}
		at += padded(size)
	}
	b.Write(make([]byte, padded(int64(b.Len()))-int64(b.Len())))
	return b.Bytes(), sizes, nil
}

// bytes checks an announced tensor and returns the size of its data.
func (s GGUFSpec) bytes() (int64, error) {
	k, ok := ggmlKinds[s.Type]
	switch {
	case !ok || k.decode != nil && k.encode == nil:
		return 0, fmt.Errorf("%s is not written", s.Type)
	case len(s.Name) == 0 || len(s.Name) > longestName:
		return 0, fmt.Errorf("the name has %d bytes, llama.cpp allows 1 to %d", len(s.Name), longestName)
	case len(s.Shape) > maxDimensions:
		return 0, fmt.Errorf("shape %v has %d dimensions, the format allows %d", s.Shape, len(s.Shape), maxDimensions)
	}
	dims := make([]uint64, 0, maxDimensions)
	for _, d := range s.Shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v is negative", s.Shape)
		}
		dims = append(dims, uint64(d))
	}
	slices.Reverse(dims)
	t, err := newGGUFTensor(s.Name, s.Type, dims, 0)
	return int64(t.end), err
}

func putNumbers(b *bytes.Buffer, values ...any) {
	for _, v := range values {
		binary.Write(b, binary.LittleEndian, v) // to memory, of fixed size: no error
	}
}

func putText(b *bytes.Buffer, s string) {
	putNumbers(b, uint64(len(s)))
	b.WriteString(s)
}

// putValue writes a metadata value behind its type.
func putValue(b *bytes.Buffer, value any) error {
	if s, ok := value.(string); ok {
		putNumbers(b, valueString)
		putText(b, s)
		return nil
	}
	if list, ok := value.([]string); ok {
		putNumbers(b, valueList, valueString, uint64(len(list)))
		for _, s := range list {
			putText(b, s)
		}
		return nil
	}
	kind, n, ok := valueKind(value)
	if !ok {
		return fmt.Errorf("%T is no type of metadata; use a bool, a string, a number of fixed size, or a slice of these", value)
	}
	if n < 0 {
		putNumbers(b, kind, value)
		return nil
	}
	putNumbers(b, valueList, kind, uint64(n), value)
	return nil
}

// listLen returns the length of a metadata list, −1 for a single value.
func listLen(value any) int {
	switch v := value.(type) {
	case []string:
		return len(v)
	case []any:
		return len(v)
	}
	_, n, _ := valueKind(value)
	return n
}

// valueKind returns the type of a number or bool, or that of a list's elements with
// their number; n is −1 for a single value.
func valueKind(value any) (kind uint32, n int, ok bool) {
	switch v := value.(type) {
	case uint8:
		return valueU8, -1, true
	case int8:
		return valueI8, -1, true
	case uint16:
		return valueU16, -1, true
	case int16:
		return valueI16, -1, true
	case uint32:
		return valueU32, -1, true
	case int32:
		return valueI32, -1, true
	case float32:
		return valueF32, -1, true
	case bool:
		return valueBool, -1, true
	case uint64:
		return valueU64, -1, true
	case int64:
		return valueI64, -1, true
	case float64:
		return valueF64, -1, true
	case []uint8:
		return valueU8, len(v), true
	case []int8:
		return valueI8, len(v), true
	case []uint16:
		return valueU16, len(v), true
	case []int16:
		return valueI16, len(v), true
	case []uint32:
		return valueU32, len(v), true
	case []int32:
		return valueI32, len(v), true
	case []float32:
		return valueF32, len(v), true
	case []bool:
		return valueBool, len(v), true
	case []uint64:
		return valueU64, len(v), true
	case []int64:
		return valueI64, len(v), true
	case []float64:
		return valueF64, len(v), true
	}
	return 0, -1, false
}
