package merge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tare/engine/checkpoint"
	"tare/engine/tensor"
)

// named makes a tensor of a model.
func named(name string, dtype tensor.DType, values []float32, shape ...int) checkpoint.NamedTensor {
	t := tensor.NewOf(dtype, shape...)
	if err := t.WriteF32(values, 0); err != nil {
		panic(err)
	}
	return checkpoint.NamedTensor{Name: name, Tensor: t}
}

const testConfig = `{"model_type": "llama", "hidden_size": 3, "torch_dtype": "float32"}`

// put writes a model folder under dir.
func put(t testing.TB, dir, name string, tensors ...checkpoint.NamedTensor) {
	t.Helper()
	folder := filepath.Join(dir, name)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := checkpoint.WriteFile(filepath.Join(folder, "model.safetensors"), tensors, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "config.json"), []byte(testConfig), 0o666); err != nil {
		t.Fatal(err)
	}
}

// recipe reads a recipe whose models lie in dir.
func recipe(t testing.TB, dir, text string) *Recipe {
	t.Helper()
	r, err := ParseRecipe([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Dir = dir
	return r
}

// merged runs a recipe and opens the result.
func merged(t testing.TB, dir, text string, o RunOptions) *checkpoint.Folder {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Run(t.Context(), recipe(t, dir, text), out, o); err != nil {
		t.Fatal(err)
	}
	f, err := checkpoint.OpenFolder(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func values(t testing.TB, f *checkpoint.Folder, name string) []float32 {
	t.Helper()
	x, err := f.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	v, err := x.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestLinearClosedForm(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", named("w", tensor.F32, []float32{1, 2, -4, 8}, 2, 2))
	put(t, dir, "b", named("w", tensor.F32, []float32{3, 0, 4, -8}, 2, 2))
	const text = "merge_method: linear\nmodels:\n- {model: a, parameters: {weight: 1}}\n- {model: b, parameters: {weight: 3}}\n"
	// (1·a + 3·b)/4, and without the division 1·a + 3·b; all exact in f32.
	for suffix, want := range map[string][]float32{
		"":                               {2.5, 0.5, 2, -4},
		"parameters: {normalize: true}":  {2.5, 0.5, 2, -4},
		"parameters: {normalize: false}": {10, 2, 8, -16},
	} {
		if got := values(t, merged(t, dir, text+suffix, RunOptions{}), "w"); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", suffix, got, want)
		}
	}
	opposed := recipe(t, dir, "merge_method: linear\nmodels:\n- {model: a, parameters: {weight: 1}}\n- {model: b, parameters: {weight: -1}}\n")
	if _, err := Run(t.Context(), opposed, filepath.Join(dir, "out"), RunOptions{}); !errors.Is(err, ErrWeights) {
		t.Errorf("weights that sum to zero: %v", err)
	}
}

// random returns values of all signs and magnitudes, minus zero among them.
func random(n int, seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64() * math.Exp(2*r.NormFloat64()))
	}
	v[n/2] = float32(math.Copysign(0, -1))
	return v
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

func TestIdentities(t *testing.T) {
	dir := t.TempDir()
	base, a, b := random(64, 1), random(64, 2), random(64, 3)
	put(t, dir, "base", named("w", tensor.F32, base, 8, 8))
	put(t, dir, "a", named("w", tensor.F32, a, 8, 8))
	put(t, dir, "b", named("w", tensor.F32, b, 8, 8))
	ta := "merge_method: task_arithmetic\nbase_model: base\n"
	for _, c := range []struct {
		name, text string
		want       []float32
	}{
		{"one model at weight 1", ta + "models: [{model: a, parameters: {weight: 1}}]", a},
		{"lambda 0", ta + "parameters: {lambda: 0}\nmodels: [{model: a}, {model: b}]", base},
		{"the base among the models adds nothing", ta + "models: [{model: base}, {model: a}]", a},
		{"weights 1 and 0", ta + "models: [{model: a, parameters: {weight: 0}}, {model: b}]", b},
		{"linear with one weight", "merge_method: linear\nmodels: [{model: a, parameters: {weight: 0}}, {model: b, parameters: {weight: 1}}]", b},
		{"linear of one model twice", "merge_method: linear\nmodels: [{model: a}, {model: a}]", a},
	} {
		if got := values(t, merged(t, dir, c.text, RunOptions{}), "w"); !sameBits(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	// θ_base + λ Σ wᵢ (θᵢ − θ_base) in float64.
	got := values(t, merged(t, dir, ta+"parameters: {lambda: 0.5}\nmodels: [{model: a, parameters: {weight: 0.75}}, {model: b, parameters: {weight: -0.5}}]", RunOptions{}), "w")
	for i := range got {
		x, y, z := float64(base[i]), float64(a[i]), float64(b[i])
		want := x + 0.5*(0.75*(y-x)-0.5*(z-x))
		if scale := math.Abs(x) + math.Abs(y) + math.Abs(z); math.Abs(float64(got[i])-want) > 1e-6*scale {
			t.Errorf("entry %d: %g, want %g", i, got[i], want)
		}
	}
}

// bigModel has tensors of many shapes, one of them not floating-point.
func bigModel(seed uint64, dtype tensor.DType) []checkpoint.NamedTensor {
	at := seed * 100
	make := func(name string, shape ...int) checkpoint.NamedTensor {
		n := 1
		for _, d := range shape {
			n *= d
		}
		at++
		return named(name, dtype, random(max(n, 1), at)[:n], shape...)
	}
	ids := tensor.NewOf(tensor.I64, 3)
	copy(ids.I64(), []int64{5, 6, 7})
	return []checkpoint.NamedTensor{
		make("model.embed_tokens.weight", 67, 33), make("model.layers.0.w", 31, 129), make("model.layers.0.norm", 77),
		make("model.layers.1.w", 129, 5), make("model.layers.1.scalar"), make("model.layers.1.empty", 0, 4),
		make("model.layers.1.conv", 3, 4, 5), {Name: "ids", Tensor: ids},
	}
}

// ofEachMethod is a recipe of every row of the family over the models a, b and base.
func ofEachMethod() map[string]string {
	params := map[string]string{"slerp": "t: [0.2, 0.9]", "karcher": "", "nearswap": "t: 0.3", "arcee_fusion": "", "sce": "select_topk: 0.4", "multislerp": "weight: 0.4", "ram": "epsilon: 0.5", "ramplus_tl": "epsilon: 0.5, r: 0.4, alpha: 0.9", "passthrough": "scale: 0.5", "widen": "", "nuslerp": "weight: 0.3, nuslerp_flatten: false",
		"model_stock": "filter_wise: true", "linear": "weight: [0.1, 0.7]", "task_arithmetic": "weight: [0.1, 0.7]"}
	texts := map[string]string{}
	for _, m := range Methods() {
		own, special := params[m.Name]
		if !special {
			own = "weight: [0.1, 0.7], density: 0.4, rescale: true"
		}
		models := "{model: a}"
		if m.Most != 1 {
			models += ", {model: b}"
		}
		base := "base_model: base\n"
		if m.Base == BaseIsModel {
			base = ""
		}
		texts[m.Name] = fmt.Sprintf("merge_method: %s\n%smodels: [%s]\nparameters: {%s}\n", m.Name, base, models, own)
	}
	texts["nuslerp by columns"] = strings.Replace(texts["nuslerp"], "flatten: false", "flatten: false, nuslerp_row_wise: true", 1)
	texts["nuslerp of tensors"] = strings.Replace(texts["nuslerp"], "flatten: false", "flatten: true", 1)
	texts["model_stock of tensors"] = strings.Replace(texts["model_stock"], "wise: true", "wise: false", 1)
	return texts
}

func TestTinyBuffersGiveTheSameBits(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "base", bigModel(1, tensor.BF16)...)
	put(t, dir, "a", bigModel(2, tensor.F32)...)
	put(t, dir, "b", bigModel(3, tensor.F16)...)
	for method, text := range ofEachMethod() {
		dtype := ""
		if len(method)%2 == 0 {
			dtype = "dtype: bfloat16"
		}
		whole := merged(t, dir, text+dtype, RunOptions{Seed: 7})
		cut := merged(t, dir, text+dtype, RunOptions{Seed: 7, Buffer: 1, ShardBytes: 9000})
		sameTensors(t, method+" "+dtype, whole, cut)
	}
}

func sameTensors(t *testing.T, what string, a, b *checkpoint.Folder) {
	t.Helper()
	if !slices.Equal(a.Names(), b.Names()) {
		t.Fatalf("%s: tensors %v, want %v", what, b.Names(), a.Names())
	}
	for _, name := range a.Names() {
		x, err := a.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		y, err := b.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		if x.DType() != y.DType() || !slices.Equal(x.Shape(), y.Shape()) || !bytes.Equal(x.Bytes(), y.Bytes()) {
			t.Errorf("%s: %s differs", what, name)
		}
	}
}

// The bf16 nearest to the f32 sum, the even one of two at equal distance: 1 + 2⁻⁸
// lies between 1 and 1 + 2⁻⁷ and goes to 1; 1 + 3·2⁻⁸ goes to 1 + 2⁻⁶.
func TestRoundsToNearestEven(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", named("w", tensor.BF16, []float32{1, 1, 1, 1}, 4))
	put(t, dir, "b", named("w", tensor.BF16, []float32{0x1p-8, 3 * 0x1p-8, 0x1.02p-8, 0x1p-9}, 4))
	const text = "merge_method: linear\nparameters: {normalize: false}\nmodels: [{model: a}, {model: b}]\n"
	want := []float32{1, 1 + 0x1p-6, 1 + 0x1p-7, 1}
	f := merged(t, dir, text, RunOptions{})
	if got := values(t, f, "w"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	// Stored as f32 nothing is lost, and the configuration says so.
	f = merged(t, dir, text+"out_dtype: float32", RunOptions{})
	if got := values(t, f, "w"); !slices.Equal(got, []float32{1 + 0x1p-8, 1 + 3*0x1p-8, 1 + 0x1.02p-8, 1 + 0x1p-9}) {
		t.Errorf("in f32: %v", got)
	}
	f = merged(t, dir, text+"dtype: float16", RunOptions{})
	var config map[string]any
	if err := json.Unmarshal(f.Config, &config); err != nil || config["torch_dtype"] != "float16" || config["hidden_size"] != 3.0 {
		t.Errorf("config %s, %v", f.Config, err)
	}
}

func TestFolderIsAModel(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		put(t, dir, name, named("w", tensor.F32, []float32{1, 2}, 2))
		if err := os.WriteFile(filepath.Join(dir, name, "tokenizer.json"), []byte(`{"model":{"vocab":{"x":0}}, "`+name+`":1}`), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	text := "merge_method: linear\ntokenizer_source: b\nmodels: [{model: a}, {model: b}]\n"
	f := merged(t, dir, text, RunOptions{})
	if tokenizer, err := f.Read("tokenizer.json"); err != nil || !bytes.Contains(tokenizer, []byte(`"b"`)) {
		t.Errorf("tokenizer %s, %v", tokenizer, err)
	}
	if string(f.Config) != testConfig {
		t.Errorf("config %s", f.Config)
	}
	data, err := f.Read(ProvenanceFile)
	var made struct {
		Recipe string
		Inputs []InputReport
	}
	if err == nil {
		err = json.Unmarshal(data, &made)
	}
	if err != nil || made.Recipe != text || len(made.Inputs) != 2 || made.Inputs[1].Model != "b" || made.Inputs[1].Bytes != 8 ||
		len(made.Inputs[1].Files["model.safetensors"]) != 64 || bytes.Contains(data, []byte(dir)) {
		t.Errorf("provenance %s, %v", data, err)
	}
	if card, err := f.Read("README.md"); err != nil || !bytes.Contains(card, []byte(text)) {
		t.Errorf("card %s, %v", card, err)
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", bigModel(1, tensor.BF16)...)
	out := filepath.Join(dir, "out")
	r, err := Run(t.Context(), recipe(t, dir, "merge_method: linear\nmodels: [{model: a}]"), out, RunOptions{DryRun: true, Buffer: 14 * 100})
	if err != nil {
		t.Fatal(err)
	}
	// One input: two f32 slots, f32 and a stored result, 14 bytes an element.
	n := 67*33 + 31*129 + 77 + 129*5 + 1 + 60
	if r.OutputBytes != int64(2*n+3*8) || r.Parameters != int64(n+3) || r.BufferBytes != 1400 || r.Tensors != 8 || !r.DryRun {
		t.Errorf("%+v", r)
	}
	for _, p := range r.Plan {
		// 100 entries at a time.
		want, ok := map[string]int{"model.embed_tokens.weight": 23, "model.layers.0.w": 40, "model.layers.0.norm": 1, "ids": 0}[p.Name]
		if ok && p.Pieces != want {
			t.Errorf("%s in %d pieces, want %d", p.Name, p.Pieces, want)
		}
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the output is there: %v", err)
	}
}

func TestMismatchesAreNamed(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", named("u", tensor.F32, []float32{1, 2}, 2), named("w", tensor.F32, []float32{1, 2}, 2))
	put(t, dir, "short", named("u", tensor.F32, []float32{1, 2}, 2))
	put(t, dir, "wide", named("u", tensor.F32, []float32{1, 2}, 2), named("w", tensor.F32, []float32{1, 2}, 1, 2))
	put(t, dir, "gpt", named("u", tensor.F32, []float32{1, 2}, 2), named("w", tensor.F32, []float32{1, 2}, 2))
	if err := os.WriteFile(filepath.Join(dir, "gpt", "config.json"), []byte(`{"model_type":"gpt2"}`), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		model string
		want  []string
		kind  error
	}{
		{"short", []string{"model short lacks tensor \"w\"", "which a has"}, ErrMismatch},
		{"wide", []string{`tensor "w"`, "[2] in a", "[1 2] in wide"}, ErrMismatch},
		{"gpt", []string{"model_type", "llama in a", "gpt2 in gpt"}, ErrMismatch},
		{"none", []string{"model none", "folders on disk"}, os.ErrNotExist},
		{"a+adapter", []string{"model a+adapter", "adapter_config.json"}, os.ErrNotExist},
	} {
		r := recipe(t, dir, fmt.Sprintf("merge_method: linear\nmodels: [{model: a}, {model: %q}]", c.model))
		_, err := Run(t.Context(), r, filepath.Join(dir, "out"), RunOptions{})
		if !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", c.model, err)
		}
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want it to say %q", c.model, err, want)
			}
		}
	}
	if _, err := Run(t.Context(), recipe(t, dir, "merge_method: linear\nmodels: [{model: a}]"), filepath.Join(dir, "a"), RunOptions{Overwrite: true}); err == nil {
		t.Error("a model of the recipe was overwritten")
	}
}

// leftovers lists what stands in a folder beside the named entries.
func leftovers(t *testing.T, dir string, known ...string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(known, e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestNonFiniteIsRefused(t *testing.T) {
	dir := t.TempDir()
	bad := random(500, 1)
	bad[321] = float32(math.Inf(-1))
	bad[400] = float32(math.NaN())
	put(t, dir, "a", named("w", tensor.BF16, random(500, 2), 500), named("z", tensor.F32, []float32{3e38, 60000}, 2))
	put(t, dir, "b", named("w", tensor.F32, bad, 500), named("z", tensor.F32, []float32{3e38, 60000}, 2))
	for _, buffer := range []int64{0, 22 * 7} {
		_, err := Run(t.Context(), recipe(t, dir, "merge_method: linear\nmodels: [{model: a}, {model: b}]"), filepath.Join(dir, "out"), RunOptions{Buffer: buffer})
		if !errors.Is(err, checkpoint.ErrNonFinite) || !strings.Contains(err.Error(), `model b, tensor "w": -Inf at index 321`) {
			t.Errorf("buffer %d: %v", buffer, err)
		}
	}
	for suffix, want := range map[string]string{"": "+Inf at index 0", "out_dtype: float16": "at index 0 does not fit F16"} {
		_, err := Run(t.Context(), recipe(t, dir, "merge_method: linear\nparameters: {normalize: false}\nmodels: [{model: a}, {model: a}]\n"+suffix), filepath.Join(dir, "out"), RunOptions{})
		if !errors.Is(err, checkpoint.ErrNonFinite) || !strings.Contains(err.Error(), want) {
			t.Errorf("overflow: %v, want it to say %q", err, want)
		}
	}
	if left := leftovers(t, dir, "a", "b"); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func TestInterruptLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", bigModel(1, tensor.BF16)...)
	put(t, dir, "b", bigModel(2, tensor.BF16)...)
	r := recipe(t, dir, "merge_method: linear\nmodels: [{model: a}, {model: b}]")
	for _, after := range []int{0, 1, 10, 24} {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		if after == 0 {
			cancel()
		}
		_, err := Run(ctx, r, filepath.Join(dir, "out"), RunOptions{Buffer: 22 * 200, Progress: func(int64, int64, string) {
			if calls++; calls == after {
				cancel()
			}
		}})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("stopped after %d pieces: %v", after, err)
		}
		if left := leftovers(t, dir, "a", "b"); left != nil {
			t.Errorf("stopped after %d pieces, left behind: %v", after, left)
		}
	}
	var last [2]int64
	if _, err := Run(t.Context(), r, filepath.Join(dir, "out"), RunOptions{Progress: func(done, total int64, _ string) { last = [2]int64{done, total} }}); err != nil || last[0] != last[1] || last[0] == 0 {
		t.Errorf("after an interrupted run: %v, progress ended at %v", err, last)
	}
	if _, err := Run(t.Context(), r, filepath.Join(dir, "out"), RunOptions{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("over an existing model: %v", err)
	}
	if _, err := Run(t.Context(), r, filepath.Join(dir, "out"), RunOptions{Overwrite: true}); err != nil {
		t.Errorf("overwriting: %v", err)
	}
}

// A merge in several files that is interrupted goes on from the last whole one, to the
// same bytes; another merge to that place begins anew.
func TestInterruptedMergeGoesOn(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", bigModel(1, tensor.BF16)...)
	put(t, dir, "b", bigModel(2, tensor.BF16)...)
	r := recipe(t, dir, "merge_method: linear\nmodels: [{model: a}, {model: b}]")
	options := RunOptions{ShardBytes: 3000}
	whole := filepath.Join(dir, "whole")
	if _, err := Run(t.Context(), r, whole, options); err != nil {
		t.Fatal(err)
	}
	interrupt := func(out string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		o := options
		o.Progress = func(_, _ int64, name string) {
			if name == "model.layers.1.w" { // of the third file
				cancel()
			}
		}
		_, err := Run(ctx, r, out, o)
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "files of weights are finished") {
			t.Fatalf("interrupted: %v", err)
		}
	}
	out := filepath.Join(dir, "out")
	interrupt(out)
	if left := leftovers(t, dir, "a", "b", "whole"); !slices.Equal(left, []string{".out.part"}) {
		t.Errorf("left behind: %v", left)
	}
	resumed := 0
	options.Resumed = func(files, all int) { resumed = files }
	report, err := Run(t.Context(), r, out, options)
	if err != nil || resumed < 2 || report.Resumed != resumed {
		t.Fatalf("%d files were taken up, %v", resumed, err)
	}
	sameFolders(t, whole, out)
	if left := leftovers(t, dir, "a", "b", "whole", "out"); left != nil {
		t.Errorf("left behind: %v", left)
	}

	other := recipe(t, dir, "merge_method: linear\nmodels: [{model: a}, {model: a}]")
	interrupt(filepath.Join(dir, "second"))
	resumed = 0
	if _, err := Run(t.Context(), other, filepath.Join(dir, "second"), options); err != nil || resumed != 0 {
		t.Errorf("another recipe took up %d files, %v", resumed, err)
	}
	// Weights that have changed since are another merge as well.
	interrupt(filepath.Join(dir, "third"))
	put(t, dir, "b", bigModel(3, tensor.BF16)...)
	if _, err := Run(t.Context(), r, filepath.Join(dir, "third"), options); err != nil || resumed != 0 {
		t.Errorf("other weights took up %d files, %v", resumed, err)
	}
}

// sameFolders holds the weights of two folders to the same bytes, file by file.
func sameFolders(t *testing.T, a, b string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(a, "*.safetensors*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		x, errX := os.ReadFile(file)
		y, errY := os.ReadFile(filepath.Join(b, filepath.Base(file)))
		if errX != nil || errY != nil || !bytes.Equal(x, y) {
			t.Errorf("%s differs: %v, %v", filepath.Base(file), errX, errY)
		}
	}
}

// TestKilledMerge kills a merging process at random moments, three times or as often as
// TARE_KILLS says: what it leaves is nothing or what the next goes on from, and the end
// is the same bytes.
func TestKilledMerge(t *testing.T) {
	if out := os.Getenv("TARE_MERGE_CHILD"); out != "" {
		r := recipe(t, filepath.Dir(out), killedRecipe)
		if _, err := Run(t.Context(), r, out, killedOptions); err != nil {
			t.Fatal(err)
		}
		return
	}
	if testing.Short() {
		t.Skip("it starts processes")
	}
	kills := 3
	if n, err := strconv.Atoi(os.Getenv("TARE_KILLS")); err == nil {
		kills = n
	}
	dir := t.TempDir()
	for i, name := range []string{"base", "a", "b"} {
		var tensors []checkpoint.NamedTensor
		for layer := range 24 {
			tensors = append(tensors, named(fmt.Sprintf("model.layers.%d.w", layer), tensor.BF16, random(1<<14, uint64(100*i+layer)), 128, 128))
		}
		put(t, dir, name, tensors...)
	}
	whole := filepath.Join(dir, "whole")
	if _, err := Run(t.Context(), recipe(t, dir, killedRecipe), whole, killedOptions); err != nil {
		t.Fatal(err)
	}
	draw := rand.New(rand.NewPCG(1, 2))
	out := filepath.Join(dir, "out")
	killed, resumed := 0, 0
	for killed < kills {
		child := exec.Command(os.Args[0], "-test.run=^TestKilledMerge$")
		child.Env = append(os.Environ(), "TARE_MERGE_CHILD="+out)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		// From when its first file stands there it lives for a moment of random length.
		first := filepath.Join(dir, ".out.part", "model-00001-of-00024.safetensors")
		for range 10000 {
			_, errFirst := os.Stat(first)
			_, errOut := os.Stat(out)
			if errFirst == nil || errOut == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(draw.IntN(int(15 * time.Millisecond))))
		child.Process.Kill()
		child.Wait()
		killed++
		if _, err := os.Stat(out); err == nil { // it was faster
			sameFolders(t, whole, out)
			os.RemoveAll(out)
			continue
		}
		if left := leftovers(t, dir, "base", "a", "b", "whole", ".out.part"); left != nil {
			t.Fatalf("left behind: %v", left)
		}
		if draw.IntN(4) == 0 {
			continue // the next child goes on, and is killed
		}
		report, err := Run(t.Context(), recipe(t, dir, killedRecipe), out, killedOptions)
		if err != nil {
			t.Fatal(err)
		}
		if report.Resumed > 0 {
			resumed++
		}
		sameFolders(t, whole, out)
		os.RemoveAll(out)
	}
	t.Logf("%d killed, %d of the runs after them went on from files of theirs", killed, resumed)
}

const killedRecipe = "merge_method: dare_ties\nbase_model: base\nmodels: [{model: a}, {model: b}]\nparameters: {density: 0.4, weight: 0.5}\n"

var killedOptions = RunOptions{ShardBytes: 2 << 14, Buffer: 1, Seed: 5}

func TestWholeNumbersAreKept(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", bigModel(1, tensor.BF16)...)
	other := bigModel(2, tensor.BF16)
	put(t, dir, "b", other...)
	f := merged(t, dir, "merge_method: linear\nmodels: [{model: a}, {model: b}]", RunOptions{})
	ids, err := f.Tensor("ids")
	if err != nil || !slices.Equal(ids.I64(), []int64{5, 6, 7}) {
		t.Errorf("%v, %v", ids, err)
	}
	other[len(other)-1].Tensor.I64()[1] = 9
	put(t, dir, "c", other...)
	_, err = Run(t.Context(), recipe(t, dir, "merge_method: linear\nmodels: [{model: a}, {model: c}]"), filepath.Join(dir, "out"), RunOptions{})
	if !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), `tensor "ids" is I64`) {
		t.Errorf("numbers that differ: %v", err)
	}
}
