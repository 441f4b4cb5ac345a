package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"tare/engine/tensor"
)

// writeFolder writes four tensors of 16 bytes into dir, with at most limit bytes a
// shard.
func writeFolder(dir string, limit int64, o FolderOptions) error {
	var specs []Spec
	for i := range 4 {
		specs = append(specs, Spec{fmt.Sprintf("t%d", i), tensor.F32, []int{4}})
	}
	o.ShardBytes = limit
	w, err := CreateFolder(dir, specs, o)
	if err != nil {
		return err
	}
	defer w.Abort()
	for i := range 4 {
		v := float32(i)
		if err := w.Write(tensor.FromF32([]float32{v, v, v, v}, 4)); err != nil {
			return err
		}
	}
	if err := w.File("config.json", []byte(`{"model_type":"llama"}`)); err != nil {
		return err
	}
	return w.Close()
}

func TestFolderRoundTrip(t *testing.T) {
	for limit, files := range map[int64][]string{
		0:  {"config.json", "model.safetensors"},
		40: {"config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"},
		1: {"config.json", "model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors", "model-00003-of-00004.safetensors",
			"model-00004-of-00004.safetensors", "model.safetensors.index.json"},
	} {
		parent := t.TempDir()
		dir := filepath.Join(parent, "deep", "model")
		if err := writeFolder(dir, limit, FolderOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := entries(t, dir); !reflect.DeepEqual(got, files) {
			t.Errorf("limit %d: files %v, want %v", limit, got, files)
		}
		if got := entries(t, filepath.Dir(dir)); len(got) != 1 {
			t.Errorf("beside the folder stands %v", got)
		}
		f, err := OpenFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got := f.Names(); !reflect.DeepEqual(got, []string{"t0", "t1", "t2", "t3"}) {
			t.Errorf("names %v", got)
		}
		for i, name := range f.Names() {
			x, err := f.Tensor(name)
			if err != nil || x.F32()[3] != float32(i) {
				t.Errorf("%s = %v, %v", name, x, err)
			}
			if info, ok := f.Info(name); !ok || info.Bytes != 16 || !contains(files, info.File) {
				t.Errorf("info %+v", info)
			}
		}
		if string(f.Config) != `{"model_type":"llama"}` || f.Metadata()["format"] != "pt" {
			t.Errorf("config %s, metadata %v", f.Config, f.Metadata())
		}
		if _, err := f.Read("tokenizer.json"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a file that is not there: %v", err)
		}
		if _, err := f.Read("../secret"); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a path out of the folder: %v", err)
		}
		if _, err := f.Tensor("t9"); !errors.Is(err, ErrMissing) {
			t.Errorf("a tensor that is not there: %v", err)
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func TestIndexAsTransformersReadsIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	if err := writeFolder(dir, 32, FolderOptions{}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "model.safetensors.index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		Metadata struct {
			Total int64 `json:"total_size"`
		} `json:"metadata"`
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	first, second := "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	if want := map[string]string{"t0": first, "t1": first, "t2": second, "t3": second}; index.Metadata.Total != 64 || !reflect.DeepEqual(index.WeightMap, want) {
		t.Errorf("index %+v", index)
	}
}

func TestOpenOneFile(t *testing.T) {
	dir := t.TempDir()
	path := put(t, filepath.Join(dir, "weights.safetensors"), golden())
	f, err := OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Config != nil || f.Dir != dir || len(f.Names()) != 2 {
		t.Errorf("%+v", f)
	}
}

func TestBrokenFoldersAreRefused(t *testing.T) {
	one := func(name string) []byte { return raw("{"+entry(name, "U8", "[1]", 0, 1)+"}", 1) }
	for name, c := range map[string]struct {
		files map[string]string
		kind  error
		says  string
	}{
		"nothing":         {map[string]string{"readme": ""}, ErrMissing, "model.safetensors"},
		"pickle":          {map[string]string{"pytorch_model.bin": ""}, ErrMissing, "pickle"},
		"adapter":         {map[string]string{"adapter_config.json": "{}"}, ErrMissing, "adapter"},
		"missing shard":   {map[string]string{indexName: `{"weight_map":{"a":"s1","b":"s2"}}`, "s1": string(one("a"))}, ErrMissing, "s2"},
		"no weight_map":   {map[string]string{indexName: `{}`}, ErrFormat, "weight_map"},
		"index no JSON":   {map[string]string{indexName: `{"weight_map":`}, ErrFormat, indexName},
		"index an array":  {map[string]string{indexName: `[]`}, ErrFormat, indexName},
		"map of numbers":  {map[string]string{indexName: `{"weight_map":{"a":1}}`}, ErrFormat, `"a"`},
		"mapped twice":    {map[string]string{indexName: `{"weight_map":{"a":"s1","a":"s2"}}`}, ErrFormat, `"a"`},
		"path traversal":  {map[string]string{indexName: `{"weight_map":{"a":"../s1"}}`}, ErrFormat, "../s1"},
		"absolute path":   {map[string]string{indexName: `{"weight_map":{"a":"/etc/passwd"}}`}, ErrFormat, "/etc/passwd"},
		"in two shards":   {map[string]string{indexName: `{"weight_map":{"a":"s1","b":"s2"}}`, "s1": string(one("a")), "s2": string(one("a"))}, ErrFormat, `"a"`},
		"lying index":     {map[string]string{indexName: `{"weight_map":{"a":"s1","c":"s1"}}`, "s1": string(one("a"))}, ErrFormat, `"c"`},
		"broken shard":    {map[string]string{indexName: `{"weight_map":{"a":"s1"}}`, "s1": "abc"}, ErrFormat, "s1"},
		"truncated whole": {map[string]string{"model.safetensors": string(golden()[:60])}, ErrFormat, "truncated"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, data := range c.files {
				put(t, filepath.Join(dir, file), []byte(data))
			}
			f, err := OpenFolder(dir)
			if err == nil {
				f.Close()
				t.Fatal("opens, want an error")
			}
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %v and %q", err, c.kind, c.says)
			}
		})
	}
	if _, err := OpenFolder(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func TestExistingFolders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "m")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := writeFolder(dir, 0, FolderOptions{}); err != nil {
		t.Errorf("an empty folder: %v", err)
	}
	if err := writeFolder(dir, 0, FolderOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a full folder: %v", err)
	}
	put(t, filepath.Join(dir, "stale"), nil)
	if err := writeFolder(dir, 1, FolderOptions{Overwrite: true}); err != nil {
		t.Errorf("overwriting: %v", err)
	}
	if got := entries(t, dir); contains(got, "stale") || contains(got, "model.safetensors") {
		t.Errorf("the old files are still there: %v", got)
	}
	home := t.TempDir()
	put(t, filepath.Join(home, "thesis.tex"), nil)
	if err := writeFolder(home, 0, FolderOptions{Overwrite: true}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a folder of something else: %v", err)
	}
	if got := entries(t, home); !reflect.DeepEqual(got, []string{"thesis.tex"}) {
		t.Errorf("a folder of something else now holds %v", got)
	}
}

func TestFailedFoldersLeaveNothing(t *testing.T) {
	specs := []Spec{{"a", tensor.F32, []int{1}}, {"b", tensor.F32, []int{1}}}
	x := tensor.New(1)
	for name, fail := range map[string]func(w *FolderWriter) error{
		"aborted":          func(w *FolderWriter) error { w.Abort(); return w.Write(x) },
		"missing shard":    func(w *FolderWriter) error { return errors.Join(w.Write(x), w.Close()) },
		"other shape":      func(w *FolderWriter) error { defer w.Abort(); return w.Write(tensor.New(2)) },
		"name with a path": func(w *FolderWriter) error { defer w.Abort(); return w.File("../x", nil) },
		"one too many":     func(w *FolderWriter) error { defer w.Abort(); return errors.Join(w.Write(x), w.Write(x), w.Write(x)) },
	} {
		for _, limit := range []int64{0, 1} {
			parent := t.TempDir()
			w, err := CreateFolder(filepath.Join(parent, "m"), specs, FolderOptions{ShardBytes: limit})
			if err != nil {
				t.Fatal(err)
			}
			if fail(w) == nil {
				t.Errorf("%s: no error", name)
			}
			if left := entries(t, parent); len(left) > 0 {
				t.Errorf("%s: left behind %v", name, left)
			}
		}
	}
}

func TestCopyFromCopiesWhatIsThere(t *testing.T) {
	from := t.TempDir()
	put(t, filepath.Join(from, "model.safetensors"), golden())
	put(t, filepath.Join(from, "tokenizer.json"), []byte("{}"))
	src, err := OpenFolder(from)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dir := filepath.Join(t.TempDir(), "m")
	w, err := CreateFolder(dir, nil, FolderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.CopyFrom(src, AuxiliaryFiles()...), w.Close()); err != nil {
		t.Fatal(err)
	}
	if got := entries(t, dir); !reflect.DeepEqual(got, []string{"model.safetensors", "tokenizer.json"}) {
		t.Errorf("files %v", got)
	}
}

func TestAdapterRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "adapter")
	tensors := []NamedTensor{{"base_model.model.q.lora_A.weight", tensor.FromF32([]float32{1, 2}, 1, 2)}}
	for range 2 { // the second replaces the first
		if err := SaveAdapter(dir, map[string]any{"peft_type": "LORA", "r": 1}, tensors); err != nil {
			t.Fatal(err)
		}
	}
	if got := entries(t, filepath.Dir(dir)); !reflect.DeepEqual(got, []string{"adapter"}) {
		t.Errorf("beside the adapter stands %v", got)
	}
	a, err := OpenAdapter(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if !reflect.DeepEqual(a.Config, map[string]any{"peft_type": "LORA", "r": 1.0}) {
		t.Errorf("config %v", a.Config)
	}
	x, err := a.Tensor("base_model.model.q.lora_A.weight")
	if err != nil || !reflect.DeepEqual(x.F32(), []float32{1, 2}) {
		t.Errorf("tensor %v, %v", x, err)
	}
}

func TestBrokenAdaptersAreRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenAdapter(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no config: %v", err)
	}
	for _, text := range []string{"null", "[]", "{"} {
		put(t, filepath.Join(dir, adapterConfigName), []byte(text))
		if _, err := OpenAdapter(dir); !errors.Is(err, ErrFormat) {
			t.Errorf("config %s: %v", text, err)
		}
	}
	put(t, filepath.Join(dir, adapterConfigName), []byte("{}"))
	if _, err := OpenAdapter(dir); !errors.Is(err, ErrMissing) {
		t.Errorf("no weights: %v", err)
	}
	model := filepath.Join(t.TempDir(), "m")
	if err := writeFolder(model, 0, FolderOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := SaveAdapter(model, map[string]any{}, nil); err == nil {
		t.Error("an adapter replaces a model")
	}
}
