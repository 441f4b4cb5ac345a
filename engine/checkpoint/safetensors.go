package checkpoint

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/bits"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"tare/engine/tensor"
)

// A safetensors file is the header's length in 8 little-endian bytes, the header,
// a JSON object, and the data. The header gives each tensor's type, shape and place
// in the data, which the tensors fill without hole or overlap:
//
//	{"__metadata__":{"k":"v"}, "w":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}, …}
const (
	lengthBytes = 8
	maxHeader   = 100_000_000 // the format's own limit
	metadataKey = "__metadata__"
)

// File is an open safetensors file. It may be used by several goroutines.
type File struct {
	name     string // for messages
	mapping  *tensor.Mapping
	data     []byte // behind the header
	tensors  []placed
	index    map[string]int
	metadata map[string]string
}

// placed is a tensor and its place in the data.
type placed struct {
	Info
	begin, end int
}

// Open maps the file at path and checks its header. Tensors share the mapping: they
// must not be written, nor used after Close.
func Open(path string) (*File, error) {
	m, err := tensor.Map(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	f, err := parse(filepath.Base(path), m.Bytes())
	if err != nil {
		m.Close()
		return nil, err
	}
	f.mapping = m
	return f, nil
}

// parse reads a file's bytes, which the File then shares.
func parse(name string, data []byte) (*File, error) {
	if bytes.HasPrefix(data, []byte("version https://git-lfs")) {
		return nil, malformed(name, "a Git LFS pointer stands in the file's place; fetch the file itself (git lfs pull)")
	}
	if len(data) < lengthBytes {
		return nil, malformed(name, "the file has %d bytes, fewer than the 8 of the header's length: the file is truncated; download it again", len(data))
	}
	length := binary.LittleEndian.Uint64(data)
	rest := data[lengthBytes:]
	switch {
	case length > maxHeader:
		return nil, malformed(name, "a header of %d bytes is announced, the format allows %s: this is no safetensors file", length, commas(maxHeader))
	case length > uint64(len(rest)):
		return nil, malformed(name, "the header ends at byte %s, the file has %s: the file is truncated; download it again", commas(length+lengthBytes), commas(len(data)))
	}
	f := &File{name: name, data: rest[length:], index: map[string]int{}}
	if err := f.parseHeader(rest[:length]); err != nil {
		return nil, err
	}
	return f, f.place()
}

// parseHeader reads the JSON object.
func (f *File) parseHeader(header []byte) error {
	if len(header) == 0 || header[0] != '{' {
		return malformed(f.name, "the header does not begin with {: this is no safetensors file")
	}
	if !utf8.Valid(header) {
		return malformed(f.name, "the header is not valid UTF-8")
	}
	if plain, err := f.parsePlain(header); plain {
		return err
	}
	return f.parseJSON(header)
}

// parseJSON reads the object key by key, since decoding it whole would let the last of
// two tensors of one name win.
func (f *File) parseJSON(header []byte) error {
	seen := map[string]bool{}
	return eachKey(f.name, "the header", header, func(key string, dec *json.Decoder) error {
		if seen[key] {
			return malformed(f.name, "tensor %q is in the header twice", key)
		}
		seen[key] = true
		if key == metadataKey {
			return f.parseMetadata(dec)
		}
		return f.parseTensor(key, dec)
	})
}

func (f *File) parseMetadata(dec *json.Decoder) error {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return malformed(f.name, "%s: %v", metadataKey, err)
	}
	f.metadata = map[string]string{}
	return eachKey(f.name, metadataKey, raw, func(key string, dec *json.Decoder) error {
		var v *string
		if err := dec.Decode(&v); err != nil || v == nil {
			return malformed(f.name, "%s: the value of %q is not a string", metadataKey, key)
		}
		if _, twice := f.metadata[key]; twice {
			return malformed(f.name, "%s: %q is there twice", metadataKey, key)
		}
		f.metadata[key] = *v
		return nil
	})
}

func (f *File) parseTensor(name string, dec *json.Decoder) error {
	var e struct {
		DType   *string   `json:"dtype"`
		Shape   *[]uint64 `json:"shape"`
		Offsets []uint64  `json:"data_offsets"`
	}
	if err := dec.Decode(&e); err != nil {
		return malformed(f.name, "tensor %q: %v", name, err)
	}
	if e.DType == nil || e.Shape == nil || len(e.Offsets) != 2 {
		return malformed(f.name, "tensor %q: want dtype, shape and two data_offsets", name)
	}
	return f.add(described{name, *e.DType, *e.Shape, e.Offsets})
}

// described is what the header says of a tensor.
type described struct {
	name    string
	dtype   string
	shape   []uint64
	offsets []uint64 // two
}

// add checks an entry and takes it in.
func (f *File) add(e described) error {
	name := e.name
	dtype, err := tensor.ParseDType(e.dtype)
	if err == nil && dtype.String() != e.dtype {
		err = fmt.Errorf("dtype %q is written %s in this format", e.dtype, dtype)
	}
	if err != nil {
		return malformed(f.name, "tensor %q: %v", name, err)
	}
	shape, size, ok := sizeOf(dtype, e.shape)
	if !ok {
		return malformed(f.name, "tensor %q: shape %v is too large to address", name, e.shape)
	}
	begin, end := e.offsets[0], e.offsets[1]
	switch {
	case end < begin:
		return malformed(f.name, "tensor %q: data_offsets [%d, %d] run backwards", name, begin, end)
	case end-begin != size:
		return malformed(f.name, "tensor %q: data_offsets [%d, %d] hold %s bytes, %s %v takes %s", name, begin, end, commas(end-begin), dtype, shape, commas(size))
	case end > uint64(len(f.data)):
		return malformed(f.name, "tensor %q: data ends at byte %s, the file has %s: the file is truncated; download it again", name, commas(end), commas(len(f.data)))
	}
	f.tensors = append(f.tensors, placed{Info{name, dtype, shape, int64(size), f.name}, int(begin), int(end)})
	return nil
}

// sizeOf returns the shape and the bytes it takes, unless that leaves the range of
// an int.
func sizeOf(dtype tensor.DType, dims []uint64) (shape []int, size uint64, ok bool) {
	shape, size, ok = make([]int, len(dims)), uint64(dtype.Size()), true
	empty := false
	for i, d := range dims {
		if d > math.MaxInt {
			return nil, 0, false
		}
		shape[i] = int(d)
		empty = empty || d == 0
		var high uint64
		if high, size = bits.Mul64(size, d); high != 0 || size > math.MaxInt {
			ok = false
		}
	}
	if empty {
		return shape, 0, true
	}
	return shape, size, ok
}

// place sorts the tensors by offset and checks that they fill the data.
func (f *File) place() error {
	slices.SortStableFunc(f.tensors, func(a, b placed) int { return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end)) })
	f.index = make(map[string]int, len(f.tensors))
	at, before := 0, "the start"
	for i, t := range f.tensors {
		if i > 0 && t.begin != at {
			before = fmt.Sprintf("tensor %q", f.tensors[i-1].Name)
		}
		if t.begin < at {
			return malformed(f.name, "tensor %q begins at byte %s, inside %s, which ends at %s: they overlap", t.Name, commas(t.begin), before, commas(at))
		}
		if t.begin > at {
			return malformed(f.name, "tensor %q begins at byte %s, %s ends at %s: there is a hole", t.Name, commas(t.begin), before, commas(at))
		}
		at = t.end
		f.index[t.Name] = i
	}
	if at != len(f.data) {
		return malformed(f.name, "%s bytes follow the last tensor, which ends at byte %s", commas(len(f.data)-at), commas(at))
	}
	return nil
}

// eachKey calls value for every key of a JSON object, with the decoder before the
// key's value, and checks that nothing follows the object.
func eachKey(file, what string, object []byte, value func(key string, dec *json.Decoder) error) error {
	dec := json.NewDecoder(bytes.NewReader(object))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return malformed(file, "%s is no JSON object", what)
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return malformed(file, "%s: %v", what, err)
		}
		if err := value(key.(string), dec); err != nil { // a key of an object is a string
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return malformed(file, "%s: %v", what, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return malformed(file, "%s: something follows the JSON object", what)
	}
	return nil
}

// Metadata returns the file's own notes, nil when it has none.
func (f *File) Metadata() map[string]string { return f.metadata }

// Names returns the tensors' names in the order of their data.
func (f *File) Names() []string {
	names := make([]string, len(f.tensors))
	for i, t := range f.tensors {
		names[i] = t.Name
	}
	return names
}

// Info returns what the file says of a tensor.
func (f *File) Info(name string) (Info, bool) {
	i, ok := f.index[name]
	if !ok {
		return Info{}, false
	}
	return f.tensors[i].Info, true
}

// Tensor returns a read-only tensor over the file's bytes. Only one that the file does
// not align to its type is copied.
func (f *File) Tensor(name string) (*tensor.Tensor, error) {
	i, ok := f.index[name]
	if !ok {
		return nil, missing(f.name, "no tensor %q among its %d", name, len(f.tensors))
	}
	if f.data == nil && f.tensors[i].Bytes > 0 {
		return nil, fmt.Errorf("checkpoint: %s is closed", f.name)
	}
	info := f.tensors[i]
	t, err := tensor.FromBytes(info.DType, f.data[info.begin:info.end], info.Shape...)
	if err == nil {
		t.SetReadOnly()
	}
	return t, err
}

// Forget tells that the entries from lo up to hi of a tensor are not needed soon, so
// that walking through a large file does not fill the memory with it.
func (f *File) Forget(name string, lo, hi int) {
	i, ok := f.index[name]
	if !ok || f.mapping == nil {
		return
	}
	start := len(f.mapping.Bytes()) - len(f.data) + f.tensors[i].begin
	each := f.tensors[i].DType.Size()
	f.mapping.Forget(start+lo*each, start+hi*each)
}

// Close unmaps the file.
func (f *File) Close() error {
	m := f.mapping
	f.mapping, f.data = nil, nil
	if m == nil {
		return nil
	}
	return m.Close()
}
