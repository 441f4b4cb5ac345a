package bundle

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
)

func folder() fstest.MapFS {
	return fstest.MapFS{
		"config.json":       {Data: []byte(`{"model_type": "llama"}`)},
		"model.safetensors": {Data: []byte("weights")},
	}
}

func checkContent(t *testing.T, files fstest.MapFS, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(files) {
		t.Errorf("%s has %d files, want %d", dir, len(entries), len(files))
	}
	for name, f := range files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != string(f.Data) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestMaterialiseOnce(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "tare")
	dir, err := materialise(folder(), parent)
	if err != nil {
		t.Fatal(err)
	}
	checkContent(t, folder(), dir)
	before, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := materialise(folder(), parent)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(again)
	if err != nil {
		t.Fatal(err)
	}
	if again != dir || !os.SameFile(before, after) {
		t.Errorf("the second call made %s anew, the first %s", again, dir)
	}
	if all, _ := os.ReadDir(parent); len(all) != 1 {
		t.Errorf("%d entries are left in the cache folder, want the one", len(all))
	}
}

func TestMaterialiseOtherContentElsewhere(t *testing.T) {
	parent := t.TempDir()
	first, err := materialise(folder(), parent)
	if err != nil {
		t.Fatal(err)
	}
	other := folder()
	other["model.safetensors"].Data = []byte("WEIGHTS")
	second, err := materialise(other, parent)
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Errorf("other weights of the same size share the folder %s", first)
	}
	checkContent(t, folder(), first)
	checkContent(t, other, second)
}

func TestMaterialiseRepairs(t *testing.T) {
	parent := t.TempDir()
	dir, err := materialise(folder(), parent)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func(path string) error{
		"truncated": func(path string) error { return os.Truncate(path, 3) },
		"missing":   os.Remove,
	} {
		if err := damage(filepath.Join(dir, "model.safetensors")); err != nil {
			t.Fatal(err)
		}
		again, err := materialise(folder(), parent)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		checkContent(t, folder(), again)
	}
}

func TestMaterialiseNoPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := materialise(folder(), file); err == nil {
		t.Error("a folder below a file was made")
	}
}

func TestFolder(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	dir, err := Folder()
	if !Has() {
		if !errors.Is(err, ErrNoModel) {
			t.Errorf("without a checkpoint: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config.json", "model.safetensors", "tokenizer.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	// Without a cache folder it is a temporary one.
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	t.Setenv("TMPDIR", t.TempDir())
	if _, err := Folder(); err != nil {
		t.Error(err)
	}
}
