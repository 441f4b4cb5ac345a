package merge

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tare/engine/checkpoint"
)

// exact are the recipes whose order of operations mergekit defines, so that the bits
// must be its own. The others hold inner products or sums of whole tensors.
var exact = []string{"linear", "promoted", "task-arithmetic", "ties.", "breadcrumbs", "dare", "della", "nearswap", "ram.", "passthrough", "slices-of-two",
	"vocabulary-union", "vocabulary-base", "vocabulary-model"}

// Every recipe of testdata/parity gives what mergekit made of it (parity/merge.py).
func TestEqualsMergekit(t *testing.T) {
	paths, err := filepath.Glob("testdata/parity/*.yaml")
	if err != nil || len(paths) < 30 {
		t.Fatalf("%d recipes, %v", len(paths), err)
	}
	for _, path := range paths {
		name := filepath.Base(path)
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) {
			t.Parallel()
			want, err := checkpoint.Open(strings.TrimSuffix(path, ".yaml") + ".safetensors")
			if err != nil {
				t.Fatal(err)
			}
			defer want.Close()
			r, err := LoadRecipe(path)
			if err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(t.TempDir(), "out")
			if _, err := Run(t.Context(), r, out, RunOptions{}); err != nil {
				t.Fatal(err)
			}
			got, err := checkpoint.OpenFolder(out)
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			limit := 1e-6
			for _, prefix := range exact {
				if strings.HasPrefix(name, prefix) {
					limit = 0
				}
			}
			sameAsReference(t, got, want, limit)
		})
	}
}

// sameAsReference holds tensors, and the number of layers, to the reference's. Rows of
// embeddings are those of the same tokens: which number a new token gets is not defined.
func sameAsReference(t *testing.T, got *checkpoint.Folder, want *checkpoint.File, limit float64) {
	t.Helper()
	var config struct {
		Layers json.Number `json:"num_hidden_layers"`
		Tokens int         `json:"vocab_size"`
	}
	if err := json.Unmarshal(got.Config, &config); err != nil || config.Layers.String() != want.Metadata()["num_hidden_layers"] {
		t.Errorf("%s layers, want %s (%v)", config.Layers, want.Metadata()["num_hidden_layers"], err)
	}
	order := rowOrder(t, got, want)
	for _, name := range want.Names() {
		x, err := want.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		y, err := got.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		if x.DType() != y.DType() || size(x.Shape()) != size(y.Shape()) {
			t.Fatalf("%s is %s %v, want %s %v", name, y.DType(), y.Shape(), x.DType(), x.Shape())
		}
		a, _ := x.Float32s()
		b, _ := y.Float32s()
		worst, at := 0.0, 0
		for i := range a {
			from := i
			if order != nil && isVocabulary(name) {
				width := len(a) / x.Dim(0)
				from = order[i/width]*width + i%width
			}
			if d := math.Abs(float64(a[i]) - float64(b[from])); !(d <= worst) {
				worst, at = d, i
			}
		}
		if worst > limit {
			t.Errorf("%s: entry %d of %v differs by %.2g from %g", name, at, x.Shape(), worst, a[at])
		}
	}
	if len(got.Names()) != len(want.Names()) {
		t.Errorf("%d tensors, want %d", len(got.Names()), len(want.Names()))
	}
}

// rowOrder returns our row for each of the reference's, nil where the reference has no
// vocabulary of its own.
func rowOrder(t *testing.T, got *checkpoint.Folder, want *checkpoint.File) []int {
	t.Helper()
	text, ok := want.Metadata()["vocabulary"]
	if !ok {
		return nil
	}
	var reference map[string]int
	if err := json.Unmarshal([]byte(text), &reference); err != nil {
		t.Fatal(err)
	}
	own, err := tokensOf(&input{name: "merged", Folder: got})
	if err != nil {
		t.Fatal(err)
	}
	if len(own.ids) != len(reference) {
		t.Errorf("%d tokens, want %d", len(own.ids), len(reference))
	}
	info, _ := want.Info("lm_head.weight")
	order := make([]int, info.Shape[0])
	for i := range order {
		order[i] = i // padding
	}
	for word, id := range reference {
		ours, ok := own.ids[word]
		if !ok {
			t.Fatalf("token %q is missing", word)
		}
		order[id] = ours
	}
	return order
}

// mergekit's random masks and ours keep an entry equally often: the two frequencies
// differ by less than five standard deviations of their difference.
func TestRandomMasksOfMergekit(t *testing.T) {
	data, err := os.ReadFile("testdata/parity/random.json")
	if err != nil {
		t.Fatal(err)
	}
	var record struct {
		Rows        [][]float32
		Draws       int
		Dare, Della [][]int
	}
	if err := json.Unmarshal(data, &record); err != nil {
		t.Fatal(err)
	}
	shape := []int{2, 5}
	masks := map[string]func(seed uint64) mask{
		"dare":  func(seed uint64) mask { return coins{chance(0.3), stream(seed, "w", 0)} },
		"della": func(seed uint64) mask { return &ranked{shape, 0.5, 0.3, stream(seed, "w", 0)} },
	}
	for name, reference := range map[string][][]int{"dare": record.Dare, "della": record.Della} {
		kept := make([]int, 10)
		for seed := range record.Draws {
			v := append(append([]float32{}, record.Rows[0]...), record.Rows[1]...)
			masks[name](uint64(seed)).apply(v, 0)
			for i, x := range v {
				if x != 0 {
					kept[i]++
				}
			}
		}
		for i, k := range kept {
			n := float64(record.Draws)
			theirs := float64(reference[i/5][i%5])
			p := (theirs + float64(k)) / (2 * n)
			if math.Abs(float64(k)-theirs) > 5*math.Sqrt(2*n*p*(1-p)) {
				t.Errorf("%s: entry %d kept %d times, by mergekit %g times of %g", name, i, k, theirs, n)
			}
		}
	}
}
