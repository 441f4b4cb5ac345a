package merge

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"tare/engine/tensor"
)

// The worked example of WIDEN, computed independently of this code, rounded to six
// places: two models, one matrix, t = s = 1.
func TestWIDENByHand(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "base", named("w", tensor.F32, []float32{1, 0, 2, 0, 1, 0}, 2, 3))
	put(t, dir, "a", named("w", tensor.F32, []float32{1, 0.1, 2.2, 0.5, 1, 0.3}, 2, 3))
	put(t, dir, "b", named("w", tensor.F32, []float32{1.1, 0.3, 2, 0.05, 1, 0.4}, 2, 3))
	got := values(t, merged(t, dir, "merge_method: widen\nbase_model: base\nmodels: [{model: a}, {model: b}]", RunOptions{}), "w")
	for i, want := range []float64{1.066962, 0.275219, 2.15, 0.387839, 1, 0.392849} {
		if math.Abs(float64(got[i])-want) > 1e-6 {
			t.Errorf("entry %d: %g, want %g", i, got[i], want)
		}
	}
}

// An embedding's columns are its rows, and a vector is scored entry by entry: changes of
// 1, 2 and 3 have mean 2, so that the last is calibrated to s; softmax of one model is 1.
func TestWIDENOfRowsAndVectors(t *testing.T) {
	dir := t.TempDir()
	across := func(v []float32) []float32 { return []float32{v[0], v[3], v[1], v[4], v[2], v[5]} }
	base, a, b := []float32{1, 0, 2, 0, 1, 0}, []float32{1, 0.1, 2.2, 0.5, 1, 0.3}, []float32{1.1, 0.3, 2, 0.05, 1, 0.4}
	put(t, dir, "base", named("embed.weight", tensor.F32, across(base), 3, 2), named("norm", tensor.F32, []float32{1, 1, 1}, 3))
	put(t, dir, "a", named("embed.weight", tensor.F32, across(a), 3, 2), named("norm", tensor.F32, []float32{2, 3, -2}, 3))
	put(t, dir, "b", named("embed.weight", tensor.F32, across(b), 3, 2), named("norm", tensor.F32, []float32{1, 1, 1}, 3))
	text := "merge_method: widen\nbase_model: base\nparameters: {s: 0.5}\nmodels: [{model: a}]\n"
	if got := values(t, merged(t, dir, text, RunOptions{}), "norm"); !slices.Equal(got, []float32{2, 3, 1 - 0.5*3}) {
		t.Errorf("a vector: %v", got)
	}
	text = "merge_method: widen\nbase_model: base\nmodels: [{model: a}, {model: b}]\n"
	got := values(t, merged(t, dir, text, RunOptions{}), "embed.weight")
	for i, want := range []float64{1.066962, 0.387839, 0.275219, 1, 2.15, 0.392849} {
		if math.Abs(float64(got[i])-want) > 1e-6 {
			t.Errorf("an embedding: entry %d: %g, want %g", i, got[i], want)
		}
	}
}

// Normalised methods leave identical models as they are, and those that add changes
// leave the base where nothing changed.
func TestIdenticalModels(t *testing.T) {
	dir := t.TempDir()
	a := random(12*9, 4)
	for _, name := range []string{"base", "a", "b"} {
		put(t, dir, name, named("w", tensor.F32, a, 12, 9), named("norm", tensor.F32, a[:9], 9))
	}
	for method, text := range ofEachMethod() {
		if method == "passthrough" {
			continue // it scales
		}
		f := merged(t, dir, text, RunOptions{})
		for _, name := range []string{"w", "norm"} {
			for i, got := range values(t, f, name) {
				if math.Abs(float64(got-a[i])) > 4e-7*math.Abs(float64(a[i])) {
					t.Errorf("%s, %s: entry %d: %g, want %g", method, name, i, got, a[i])
				}
			}
		}
	}
}

// The order of models means nothing to methods that treat them alike.
func TestOrderOfModels(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"base", "a", "b"} {
		put(t, dir, name, named("w", tensor.F32, random(20*30, uint64(i)), 20, 30))
	}
	for method, text := range ofEachMethod() {
		if strings.Contains(text, "merge_method: d") || !strings.Contains(text, "{model: b}") || strings.Contains(text, "passthrough") {
			continue // drawn by model; of one model
		}
		one := values(t, merged(t, dir, text, RunOptions{}), "w")
		other := values(t, merged(t, dir, strings.Replace(text, "{model: a}, {model: b}", "{model: b}, {model: a}", 1), RunOptions{}), "w")
		for i := range one {
			if math.Abs(float64(one[i]-other[i])) > 1e-5*(1+math.Abs(float64(one[i]))) {
				t.Fatalf("%s: entry %d: %g and %g", method, i, one[i], other[i])
			}
		}
	}
}

// kept returns which entries of one task vector a method keeps, from a base of zeros.
func kept(t *testing.T, dir, text string, o RunOptions) []bool {
	var found []bool
	for _, v := range values(t, merged(t, dir, text, o), "w") {
		found = append(found, v != 0)
	}
	return found
}

// Changes of magnitude 1 to n in mixed order and sign: what is kept follows by counting,
// ties by index.
func TestKeptFractions(t *testing.T) {
	dir := t.TempDir()
	const n = 2600
	v, tied := make([]float32, n), make([]float32, n)
	for i := range v {
		v[i] = float32((i*1201)%n+1) * float32(1-2*(i%2))
		tied[i] = float32(1 - 2*(i%2))
	}
	put(t, dir, "base", named("w", tensor.F32, make([]float32, n), n/10, 10), named("tied", tensor.F32, make([]float32, n), n))
	put(t, dir, "a", named("w", tensor.F32, v, n/10, 10), named("tied", tensor.F32, tied, n))
	size := func(i int) int { return int(math.Abs(float64(v[i]))) }
	for _, c := range []struct {
		text    string
		keep    func(i int) bool
		tied    int // how many of equal ones are kept
		earlier bool
	}{
		{"ties\nparameters: {density: 0.3}", func(i int) bool { return size(i) > n-780 }, 780, true},
		{"ties\nparameters: {density: 0.00001}", func(i int) bool { return size(i) == n }, 1, true},
		{"ties\nparameters: {density: 0}", func(int) bool { return false }, 0, true},
		{"ties", func(int) bool { return true }, n, true},
		// ⌊0.25 n⌋ below the ⌊0.1 n⌋ largest.
		{"breadcrumbs\nparameters: {density: 0.25, gamma: 0.1}", func(i int) bool { return size(i) > n-260-650 && size(i) <= n-260 }, 650, false},
		// The target leaves room for 130 only.
		{"breadcrumbs\nparameters: {density: 0.95, gamma: 0.1}", func(i int) bool { return size(i) <= n-130 }, 2470, true},
		// ⌊γ n⌋ = 0: nothing is an outlier.
		{"breadcrumbs_ties\nparameters: {density: 0.5, gamma: 0.0001}", func(i int) bool { return size(i) > n/2 }, n / 2, false},
	} {
		text := fmt.Sprintf("base_model: base\nmodels: [{model: a}]\nmerge_method: %s", c.text)
		for _, buffer := range []int64{0, 1} {
			f := merged(t, dir, text, RunOptions{Buffer: buffer})
			for i, x := range values(t, f, "w") {
				if want := c.keep(i); (x != 0) != want || want && x != v[i] {
					t.Fatalf("%s: entry %d is %g of %g", c.text, i, x, v[i])
				}
			}
			count := 0
			for _, x := range values(t, f, "tied") {
				if x != 0 {
					count++
				}
			}
			if count != c.tied {
				t.Errorf("%s: %d of equal entries kept, want %d", c.text, count, c.tied)
			}
			if c.earlier && c.tied > 0 && values(t, f, "tied")[c.tied-1] == 0 {
				t.Errorf("%s: of equal entries not the first are kept", c.text)
			}
		}
	}
}

// TIES by hand on five entries of two models: signs are elected by the weighted sum, and
// each entry is divided by the weights that took part.
func TestTIESByHand(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "base", named("w", tensor.F32, []float32{10, 10, 10, 10, 10}, 5))
	put(t, dir, "a", named("w", tensor.F32, []float32{11, 9, 12, 10, 10}, 5))
	put(t, dir, "b", named("w", tensor.F32, []float32{13, 13, 9, 10, 8}, 5))
	text := "merge_method: ties\nbase_model: base\nmodels: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 3}}]\nparameters: {density: 1}\n"
	// τ_a = 1 −1 2 0 0, τ_b = 3 3 −1 0 −2. Weighted: 1 −1 2 0 0 and 9 9 −3 0 −6.
	want := []float32{10 + 10./4, 10 + 9./3, 10 - 3./3, 10, 10 - 6./3}
	if got := values(t, merged(t, dir, text, RunOptions{}), "w"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Each entry is kept with its probability, independently of the others; the same seed
// gives the same mask and another seed another one. The bounds are five standard
// deviations.
func TestRandomMasks(t *testing.T) {
	dir := t.TempDir()
	const rows, columns = 300, 200
	n := rows * columns
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i%columns + 1)
	}
	put(t, dir, "base", named("w", tensor.F32, make([]float32, n), rows, columns))
	put(t, dir, "a", named("w", tensor.F32, v, rows, columns))
	for _, c := range []struct {
		method string
		p      func(column int) float64
	}{
		{"dare_linear\nparameters: {density: 0.3, rescale: false}", func(int) float64 { return 0.3 }},
		{"dare_ties\nparameters: {density: 0.8, rescale: false}", func(int) float64 { return 0.8 }},
		{"della_linear\nparameters: {density: 0.4, epsilon: 0.2, rescale: false}", func(c int) float64 { return 0.2 + 0.4*float64(c)/(columns-1) }},
		{"della\nparameters: {density: 0.4, epsilon: 0.2, rescale: false}", func(c int) float64 { return 0.2 + 0.4*float64(c)/(columns-1) }},
	} {
		text := "base_model: base\nmodels: [{model: a}]\nmerge_method: " + c.method
		mask := kept(t, dir, text, RunOptions{Seed: 1})
		for first := range 4 { // quarters of the columns
			count, mean, variance := 0., 0., 0.
			for i := range mask {
				if column := i % columns; column/(columns/4) == first {
					mean += c.p(column)
					variance += c.p(column) * (1 - c.p(column))
					if mask[i] {
						count++
					}
				}
			}
			if math.Abs(count-mean) > 5*math.Sqrt(variance) {
				t.Errorf("%s: %g kept in quarter %d, want %g ± %.0f", c.method, count, first, mean, math.Sqrt(variance))
			}
		}
		if !slices.Equal(mask, kept(t, dir, text, RunOptions{Seed: 1, Buffer: 1})) {
			t.Errorf("%s: the seed does not settle the mask", c.method)
		}
		agree := 0
		for i, k := range kept(t, dir, text, RunOptions{Seed: 2}) {
			if k == mask[i] {
				agree++
			}
		}
		if agree > n*9/10 {
			t.Errorf("%s: two seeds agree in %d of %d entries", c.method, agree, n)
		}
		// Rescaled, the sum of magnitudes is what it was.
		sum, want := 0., 0.
		for i, x := range values(t, merged(t, dir, strings.Replace(text, "rescale: false", "rescale: true, normalize: false", 1), RunOptions{Seed: 1}), "w") {
			sum, want = sum+float64(x), want+float64(v[i])
		}
		if math.Abs(sum-want) > 1e-5*want {
			t.Errorf("%s: rescaled to a sum of %g, want %g", c.method, sum, want)
		}
	}
}

// On the circle all is known: between vectors at right angles slerp goes along the arc,
// the Karcher mean of three is at their mean angle, and the mean of norms is its norm.
func TestOnTheCircle(t *testing.T) {
	dir := t.TempDir()
	at := func(degrees, norm float64) []float32 {
		sin, cos := math.Sincos(degrees * math.Pi / 180)
		return []float32{float32(norm * cos), float32(norm * sin)}
	}
	put(t, dir, "base", named("w", tensor.F32, []float32{0, 0}, 2))
	for name, v := range map[string][]float32{"east": at(0, 1), "north": at(90, 1), "a": at(0, 1), "b": at(10, 2), "c": at(80, 3)} {
		put(t, dir, name, named("w", tensor.F32, v, 2))
	}
	for text, want := range map[string][]float32{
		"slerp\nbase_model: east\nmodels: [{model: north}]\nparameters: {t: 0.25}":                                             at(22.5, 1),
		"slerp\nbase_model: east\nmodels: [{model: north}]\nparameters: {t: 0}":                                                at(0, 1),
		"slerp\nbase_model: east\nmodels: [{model: north}]\nparameters: {t: 1}":                                                at(90, 1),
		"nuslerp\nmodels: [{model: east, parameters: {weight: 3}}, {model: north, parameters: {weight: 1}}]":                   at(22.5, 1),
		"nuslerp\nbase_model: base\nmodels: [{model: east, parameters: {weight: 1}}, {model: north, parameters: {weight: 2}}]": at(60, 1),
		"karcher\nmodels: [{model: a}, {model: b}, {model: c}]\nparameters: {max_iter: 50}":                                    at(30, 2),
		"karcher\nmodels: [{model: b}]": at(10, 2),
		// Right angles between changes: c = 0, the base is kept.
		"model_stock\nbase_model: base\nmodels: [{model: east}, {model: north}]": {0, 0},
	} {
		got := values(t, merged(t, dir, "merge_method: "+text, RunOptions{}), "w")
		if math.Abs(float64(got[0]-want[0])) > 1e-6 || math.Abs(float64(got[1]-want[1])) > 1e-6 {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	// Changes of 60 degrees: r = 2 c/(1 + c) = 2/3 of the way to their average.
	put(t, dir, "sixty", named("w", tensor.F32, at(60, 1), 2))
	got := values(t, merged(t, dir, "merge_method: model_stock\nbase_model: base\nmodels: [{model: east}, {model: sixty}]", RunOptions{}), "w")
	if want := 2. / 3 * (1 + 0.5) / 2; math.Abs(float64(got[0])-want) > 1e-6 {
		t.Errorf("model stock: %v, want %g first", got, want)
	}
}

// With γ = 0 and nothing dropped Breadcrumbs is task arithmetic.
func TestBreadcrumbsOfAll(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"base", "a", "b"} {
		put(t, dir, name, named("w", tensor.F32, random(700, uint64(i)), 70, 10))
	}
	const models = "\nbase_model: base\nparameters: {lambda: 0.3%s}\nmodels: [{model: a}, {model: b}]"
	crumbs := values(t, merged(t, dir, fmt.Sprintf("merge_method: breadcrumbs"+models, ", density: 1, gamma: 0"), RunOptions{}), "w")
	plain := values(t, merged(t, dir, fmt.Sprintf("merge_method: task_arithmetic"+models, ""), RunOptions{}), "w")
	if !sameBits(crumbs, plain) {
		t.Error("they differ")
	}
}

func TestParametersThatDoNotGo(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"base", "a"} {
		put(t, dir, name, named("w", tensor.F32, []float32{1, 2}, 2))
	}
	for text, want := range map[string]string{
		"ties\nparameters: {density: 1.5}":                "w: density is 1.5, want 0 to 1",
		"della\nparameters: {density: 0.1, epsilon: 0.2}": "density 0.1 ± epsilon 0.2 reaches 0 or 1",
		"slerp": "w: no value of t",
		"task_arithmetic\nparameters: {normalize: true, weight: 0}": ErrWeights.Error(),
	} {
		_, err := Run(t.Context(), recipe(t, dir, "base_model: base\nmodels: [{model: a}]\nmerge_method: "+text), dir+"/out", RunOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to say %q", text, err, want)
		}
	}
}
