package checkpoint

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"syscall"
	"unicode/utf8"

	"tare/engine/tensor"
)

// writeBuffer gathers small tensors into writes of this size; larger ones go
// straight to the file.
const writeBuffer = 1 << 20

// WriteFile writes a safetensors file with the tensors in the given order. It
// appears under its name when it is whole.
func WriteFile(path string, tensors []NamedTensor, metadata map[string]string) error {
	w, err := Create(path, specsOf(tensors), metadata)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, t := range tensors {
		if err := w.Write(t.Tensor); err != nil {
			return err
		}
	}
	return w.Close()
}

func specsOf(tensors []NamedTensor) []Spec {
	specs := make([]Spec, len(tensors))
	for i, t := range tensors {
		specs[i] = Spec{t.Name, t.Tensor.DType(), t.Tensor.Shape()}
	}
	return specs
}

// Writer writes a safetensors file tensor by tensor. Nothing stands under the
// file's name until Close.
type Writer struct {
	specs []Spec
	next  int
	out   *output
	buf   *bufio.Writer
}

// Create starts a file that will hold the tensors of specs, in that order. The
// header is written at once.
func Create(path string, specs []Spec, metadata map[string]string) (*Writer, error) {
	header, size, err := buildHeader(filepath.Base(path), specs, metadata)
	if err != nil {
		return nil, err
	}
	if err := checkRoom(path, int64(len(header))+size); err != nil {
		return nil, err
	}
	out, err := createOutput(path)
	if err != nil {
		return nil, err
	}
	w := &Writer{specs: slices.Clone(specs), out: out, buf: bufio.NewWriterSize(out.f, writeBuffer)}
	if _, err := w.buf.Write(header); err != nil {
		return nil, out.fail(err)
	}
	return w, nil
}

// Write writes the next tensor, which must be as announced. After an error the
// file is gone and the Writer of no more use.
func (w *Writer) Write(t *tensor.Tensor) error {
	if w.out.f == nil {
		return fmt.Errorf("checkpoint: %s: the writer has ended", w.out.path)
	}
	if w.next == len(w.specs) {
		return w.out.fail(fmt.Errorf("all %d announced tensors are written", len(w.specs)))
	}
	s := w.specs[w.next]
	if t.DType() != s.DType || !slices.Equal(t.Shape(), s.Shape) {
		return w.out.fail(fmt.Errorf("tensor %q: %s %v is not the announced %s %v", s.Name, t.DType(), t.Shape(), s.DType, s.Shape))
	}
	if _, err := w.buf.Write(t.Bytes()); err != nil {
		return w.out.fail(fmt.Errorf("tensor %q: %w", s.Name, err))
	}
	w.next++
	return nil
}

// Close brings the file to the disk and gives it its name. When tensors are missing
// the file is removed and the error names the first.
func (w *Writer) Close() error {
	return w.out.finish(w.buf, w.next, len(w.specs), func(i int) string { return w.specs[i].Name })
}

// Abort removes what was written. After Close it does nothing.
func (w *Writer) Abort() { w.out.abort() }

// buildHeader returns the length and the header, padded with spaces so that the
// data begins at a multiple of 8, and the size of the data.
func buildHeader(file string, specs []Spec, metadata map[string]string) ([]byte, int64, error) {
	var b bytes.Buffer
	b.Write(make([]byte, lengthBytes))
	b.WriteByte('{')
	sep := ""
	if len(metadata) > 0 {
		note, err := json.Marshal(metadata) // keys come out sorted
		if err != nil {
			return nil, 0, fmt.Errorf("checkpoint: %s: metadata: %w", file, err)
		}
		fmt.Fprintf(&b, "%q:%s", metadataKey, note)
		sep = ","
	}
	seen := map[string]bool{metadataKey: true}
	var at int64
	for _, s := range specs {
		if seen[s.Name] {
			return nil, 0, fmt.Errorf("checkpoint: %s: tensor name %q is taken", file, s.Name)
		}
		seen[s.Name] = true
		size, err := s.bytes()
		if err != nil {
			return nil, 0, fmt.Errorf("checkpoint: %s: %w", file, err)
		}
		name, err := json.Marshal(s.Name)
		if err != nil {
			return nil, 0, fmt.Errorf("checkpoint: %s: tensor %q: %w", file, s.Name, err)
		}
		fmt.Fprintf(&b, `%s%s:{"dtype":"%s","shape":[`, sep, name, s.DType)
		for i, d := range s.Shape {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strconv.Itoa(d))
		}
		fmt.Fprintf(&b, `],"data_offsets":[%d,%d]}`, at, at+size)
		at += size
		sep = ","
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	header := b.Bytes()
	if len(header)-lengthBytes > maxHeader {
		return nil, 0, fmt.Errorf("checkpoint: %s: %d tensors make a header of %s bytes, the format allows %s; write shards", file, len(specs), commas(len(header)), commas(maxHeader))
	}
	binary.LittleEndian.PutUint64(header, uint64(len(header)-lengthBytes))
	return header, at, nil
}

// bytes returns the size of the tensor's data.
func (s Spec) bytes() (int64, error) {
	if !utf8.ValidString(s.Name) {
		return 0, fmt.Errorf("tensor name %q is not valid UTF-8", s.Name)
	}
	dims := make([]uint64, len(s.Shape))
	for i, d := range s.Shape {
		if d < 0 {
			return 0, fmt.Errorf("tensor %q has the negative shape %v", s.Name, s.Shape)
		}
		dims[i] = uint64(d)
	}
	_, size, ok := sizeOf(s.DType, dims)
	if !ok {
		return 0, fmt.Errorf("tensor %q: shape %v is too large to address", s.Name, s.Shape)
	}
	return int64(size), nil
}

// sortedKeys returns the keys of m in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// explain names a full disk in plain words; other errors pass as they are.
func explain(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("disk is full: %w", err)
	}
	return err
}

// removeQuietly removes a temporary file or folder; there is nobody to tell.
func removeQuietly(path string) { os.RemoveAll(path) }
