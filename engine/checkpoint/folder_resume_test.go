package checkpoint

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tare/engine/tensor"
)

// Three files of one tensor each, the writer ended within the second: the first stays
// for a writer of the same mark, and for no other.
func TestResumedFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	x := tensor.FromF32([]float32{1, 2, 3, 4}, 4)
	specs := specsOf([]NamedTensor{{"a", x}, {"b", x}, {"c", x}})
	create := func(mark string) *FolderWriter {
		t.Helper()
		w, err := CreateFolder(dir, specs, FolderOptions{ShardBytes: 16, Resume: mark})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	write := func(w *FolderWriter, n int) {
		t.Helper()
		for range n {
			if err := w.Write(x); err != nil {
				t.Fatal(err)
			}
		}
	}
	w := create("one")
	write(w, 1)
	if _, err := CreateFolder(dir, specs, FolderOptions{ShardBytes: 16, Resume: "one"}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second writer: %v", err)
	}
	if n := w.Suspend(); n != 0 { // the only file is not closed yet
		t.Errorf("%d files stay", n)
	}
	w = create("one")
	write(w, 2)
	if n := w.Suspend(); n != 1 {
		t.Errorf("%d files stay, want 1", n)
	}
	w = create("one")
	if tensors, files, all := w.Done(); tensors != 1 || files != 1 || all != 3 {
		t.Errorf("taken up: %d tensors, %d of %d files", tensors, files, all)
	}
	write(w, 1)
	w.Suspend()
	w = create("two")
	if tensors, _, _ := w.Done(); tensors != 0 {
		t.Errorf("another mark took up %d tensors", tensors)
	}
	write(w, 3)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var names []string
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if err != nil || !slices.Equal(names, []string{"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors", indexName}) {
		t.Errorf("%v, %v", names, err)
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 1 {
		t.Errorf("left beside it: %v, %v", left, err)
	}
}
