package checkpoint

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tare/engine/tensor"
)

func TestWriteFuncEqualsWrite(t *testing.T) {
	dir := t.TempDir()
	whole := tensor.FromF32([]float32{1, 2, 3, 4, 5, 6}, 3, 2)
	specs := []Spec{{"a", tensor.F32, []int{3, 2}}, {"empty", tensor.F32, []int{0}}, {"b", tensor.F32, []int{3, 2}}}
	w, err := CreateFolder(filepath.Join(dir, "pieces"), specs, FolderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pieces := func(put func([]byte) error) error {
		for at := 0; at < 24; at += 7 {
			if err := put(whole.Bytes()[at:min(at+7, 24)]); err != nil {
				return err
			}
		}
		return nil
	}
	for _, write := range []func() error{
		func() error { return w.WriteFunc(pieces) },
		func() error { return w.WriteFunc(func(func([]byte) error) error { return nil }) },
		func() error { return w.Write(whole) },
		w.Close,
	} {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := OpenFolder(filepath.Join(dir, "pieces"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, name := range []string{"a", "b"} {
		got, err := f.Tensor(name)
		if err != nil || !bytes.Equal(got.Bytes(), whole.Bytes()) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestWriteFuncRefusesOtherSizes(t *testing.T) {
	for _, c := range []struct {
		bytes int
		want  string
	}{{4, `tensor "a": 4 bytes for F32 [2], want 8`}, {12, `tensor "a": 12 bytes or more for F32 [2], want 8`}} {
		dir := t.TempDir()
		w, err := Create(filepath.Join(dir, "x.safetensors"), []Spec{{"a", tensor.F32, []int{2}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = w.WriteFunc(func(put func([]byte) error) error { return put(make([]byte, c.bytes)) })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d bytes: %v", c.bytes, err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%d bytes: %d files are left", c.bytes, len(left))
		}
	}
}
