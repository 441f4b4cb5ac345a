package checkpoint

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"tare/engine/tensor"
)

func sample() []NamedTensor {
	idx := tensor.NewOf(tensor.I64, 3)
	copy(idx.I64(), []int64{-1, 1 << 40, 7})
	half := tensor.NewOf(tensor.BF16, 2, 3)
	if err := half.WriteF32([]float32{1, 2, 3, 4, 5, -6}, 0); err != nil {
		panic(err)
	}
	return []NamedTensor{
		{"z", tensor.FromF32([]float32{1, 2, 3, 4}, 2, 2)},
		{"odd", tensor.NewOf(tensor.U8, 3)},
		{`a "quoted" <name> & ü`, half},
		{"empty", tensor.New(0, 4)},
		{"index", idx},
	}
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	want, notes := sample(), map[string]string{"format": "pt", "k": "v\n"}
	if err := WriteFile(path, want, notes); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !reflect.DeepEqual(f.Metadata(), notes) {
		t.Errorf("metadata %v, want %v", f.Metadata(), notes)
	}
	for i, name := range f.Names() {
		x, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		w := want[i]
		if name != w.Name || x.DType() != w.Tensor.DType() || !reflect.DeepEqual(x.Shape(), w.Tensor.Shape()) || string(x.Bytes()) != string(w.Tensor.Bytes()) {
			t.Errorf("tensor %d: %q %s %v, want %q %s %v", i, name, x.DType(), x.Shape(), w.Name, w.Tensor.DType(), w.Tensor.Shape())
		}
	}
}

// The written bytes, taken apart without the reader.
func TestHeaderAsTheFormatSays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := WriteFile(path, sample(), nil); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := int(binary.LittleEndian.Uint64(data))
	if (8+n)%8 != 0 {
		t.Errorf("the data begins at byte %d, want a multiple of 8", 8+n)
	}
	var header map[string]struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets []int  `json:"data_offsets"`
	}
	if err := json.Unmarshal(data[8:8+n], &header); err != nil {
		t.Fatal(err)
	}
	if got := header["z"]; got.DType != "F32" || !reflect.DeepEqual(got.Shape, []int{2, 2}) || !reflect.DeepEqual(got.Offsets, []int{0, 16}) {
		t.Errorf("z is %+v", got)
	}
	if got := header["index"]; got.DType != "I64" || !reflect.DeepEqual(got.Offsets, []int{31, 55}) {
		t.Errorf("index is %+v", got)
	}
	if len(data) != 8+n+55 {
		t.Errorf("%d bytes, want %d", len(data), 8+n+55)
	}
}

// entries lists a folder.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestFailedWritesLeaveNothing(t *testing.T) {
	a := tensor.New(2, 2)
	specs := []Spec{{"a", tensor.F32, []int{2, 2}}, {"b", tensor.F32, []int{1}}}
	for name, c := range map[string]struct {
		write func(w *Writer) error
		says  string
	}{
		"missing tensor": {func(w *Writer) error { return errors.Join(w.Write(a), w.Close()) }, `"b"`},
		"other shape":    {func(w *Writer) error { return w.Write(tensor.New(4)) }, `"a"`},
		"other dtype":    {func(w *Writer) error { return w.Write(tensor.NewOf(tensor.F16, 2, 2)) }, `"a"`},
		"one too many": {func(w *Writer) error {
			return errors.Join(w.Write(a), w.Write(tensor.New(1)), w.Write(a))
		}, "all 2"},
		"aborted":      {func(w *Writer) error { w.Abort(); w.Abort(); return w.Write(a) }, "ended"},
		"closed twice": {func(w *Writer) error { w.Abort(); return w.Close() }, "ended"},
		"disk that ends": {func(w *Writer) error {
			w.out.f.Close()
			return errors.Join(w.Write(a), w.Write(tensor.New(1)), w.Close())
		}, "x.safetensors"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			w, err := Create(filepath.Join(dir, "x.safetensors"), specs, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.write(w); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %s", err, c.says)
			}
			if left := entries(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestAFailedWriteKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := put(t, filepath.Join(dir, "x.safetensors"), []byte("old"))
	w, err := Create(path, []Spec{{"a", tensor.F32, []int{1}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("the old file reads %q", got)
	}
}

func TestImpossibleSpecsAreRefused(t *testing.T) {
	for says, specs := range map[string][]Spec{
		"taken":     {{"a", tensor.F32, nil}, {"a", tensor.F32, nil}},
		"metadata":  {{"__metadata__", tensor.F32, nil}},
		"negative":  {{"a", tensor.F32, []int{-1}}},
		"too large": {{"a", tensor.F32, []int{1 << 40, 1 << 40}}},
		"UTF-8":     {{"\xff", tensor.F32, nil}},
	} {
		dir := t.TempDir()
		if _, err := Create(filepath.Join(dir, "x.safetensors"), specs, nil); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want one that says %s", err, says)
		}
		if left := entries(t, dir); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestFullDiskIsNamed(t *testing.T) {
	dir := t.TempDir()
	if _, known := freeBytes(dir); known { // an exabyte is announced, nothing is written
		_, err := Create(filepath.Join(dir, "x.safetensors"), []Spec{{"a", tensor.U8, []int{1 << 60}}}, nil)
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "disk is full") {
			t.Errorf("too large a file: %v", err)
		}
		if left := entries(t, dir); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	x := tensor.New(4)
	w, err := Create(filepath.Join(dir, "x.safetensors"), []Spec{{"a", tensor.F32, []int{4}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.out.f.Close()
	w.out.f = full
	w.buf.Reset(full)
	err = errors.Join(w.Write(x), w.Close())
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "x.safetensors: disk is full") {
		t.Errorf("a device that fills up: %v", err)
	}
	if left := entries(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWriteBytesReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.json")
	for _, text := range []string{"one", "two"} {
		if err := WriteBytes(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("reads %q, want %q", got, text)
		}
	}
	if got := entries(t, dir); !reflect.DeepEqual(got, []string{"x.json"}) {
		t.Errorf("the folder holds %v", got)
	}
	if err := WriteBytes(filepath.Join(dir, "none", "x.json"), nil); err == nil {
		t.Error("a folder that is not there: no error")
	}
}
