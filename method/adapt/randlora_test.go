package adapt

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
	"tare/method/optim"
)

// trainFor takes steps of plain descent on the little batch.
func trainFor(t *testing.T, m *model.Llama, steps int) {
	t.Helper()
	loop := &train.Loop{Task: repeat{m}, Params: m.Params(), Optimizer: &optim.SGD{}, Tape: grad.NewTape(nil),
		Options: train.Options{Steps: steps, LR: 0.1}}
	if err := loop.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// formula returns ΔW as the method's definition says it, in float64.
func formula(w *randWeight) *mat.Dense {
	out, in := w.Dims()
	m, r, bases := min(out, in), w.lambda.Value.Dim(0), w.lambda.Value.Dim(1)
	at := func(p *grad.Param, i ...int) float64 {
		flat := 0
		for d, x := range i {
			flat = flat*p.Value.Dim(d) + x
		}
		return float64(p.Value.F32()[flat])
	}
	delta := mat.NewDense(out, in, nil)
	for big := range max(out, in) {
		for small := range m {
			var sum float64
			for k := range r {
				for n := range bases {
					column := k*bases + n // of B [M, N·r] as it lies in memory
					base := at(w.a, k, n%w.a.Value.Dim(1), small)
					sum += at(w.b, big, column/r, column%r) * at(w.lambda, k, n) * base * at(w.gamma, n, small)
				}
			}
			if out < in {
				delta.Set(small, big, float64(w.scale)*sum)
			} else {
				delta.Set(big, small, float64(w.scale)*sum)
			}
		}
	}
	return delta
}

// The update's rank is r while γ is constant, and full from the second step on, the
// first in which γ has a gradient; with distinct bases it is full after the first.
func TestRandLoRAHasFullRank(t *testing.T) {
	for _, c := range []struct {
		entries  string
		distinct bool
		steps    int
		full     bool
	}{{"uniform", false, 1, false}, {"uniform", false, 2, true}, {"normal", false, 2, true}, {"uniform", true, 1, true}, {"normal", true, 1, true}} {
		t.Run(fmt.Sprint(c.entries, " distinct ", c.distinct, " steps ", c.steps), func(t *testing.T) {
			m := newTiny(t)
			o := NewRandLoRA()
			o.Rank, o.Entries, o.Distinct, o.Key = 5, c.entries, c.distinct, 3
			a, err := Attach(m, named(t, "randlora"), o, []string{AllLinear}, 1)
			if err != nil {
				t.Fatal(err)
			}
			trainFor(t, m, c.steps)
			for i, l := range a.Layers {
				out, in := l.Weight.Dims()
				var svd mat.SVD
				svd.Factorize(formula(a.Holds[i].(*randWeight)), mat.SVDNone)
				want, got := o.Rank, svd.Rank(1e-12)
				if c.full {
					want = min(out, in)
				}
				if got != want {
					t.Errorf("%s [%d, %d]: rank %d, want %d", l.Name, out, in, got, want)
				}
			}
			if f := o.Figures(a); !c.full && f["rank of the update"] != 5 || f["full rank"] != 96.0/7 { // 16 in five kinds of layers, 8 in two
				t.Errorf("figures %v", f)
			}
		})
	}
}

// ΔW is what the definition says, on a tall and on a wide layer that take parts of
// larger bases.
func TestRandLoRAIsItsFormula(t *testing.T) {
	for _, distinct := range []bool{false, true} {
		o := NewRandLoRA()
		o.Rank, o.Alpha, o.Distinct = 3, 6, distinct
		layers := []*nn.Linear{
			{Name: "wide", Weight: nn.NewDense("wide.weight", tensor.New(7, 12))},
			{Name: "tall", Weight: nn.NewDense("tall.weight", tensor.New(13, 8))},
			{Name: "large", Weight: nn.NewDense("large.weight", tensor.New(12, 14))},
		}
		attach, err := o.Couple(nil, layers, 5)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			h, err := attach(l, 1)
			if err != nil {
				t.Fatal(err)
			}
			w := h.(*randWeight)
			for _, p := range []*grad.Param{w.lambda, w.gamma} {
				for i := range p.Value.F32() {
					p.Value.F32()[i] = float32(math.Sin(float64(3*i + len(p.Name))))
				}
			}
			got, err := nn.Materialize(l.Weight)
			if err != nil {
				t.Fatal(err)
			}
			if w.scale != 2 {
				t.Errorf("scale %g, want alpha/r = 2", w.scale)
			}
			if d := distance(got.F32(), narrow(formula(w))); d > 1e-6 {
				t.Errorf("%s, distinct %v: ΔW is %g from the formula", l.Name, distinct, d)
			}
		}
	}
}

func TestRandLoRADrawsTheSameBasesAgain(t *testing.T) {
	bases := func(o *RandLoRA, seed uint64) []byte {
		m := newTiny(t)
		if _, err := Attach(m, named(t, "randlora"), o, testTargets, seed); err != nil {
			t.Fatal(err)
		}
		return append(slices.Clone(o.a.Value.Bytes()), o.b.Value.Bytes()...)
	}
	with := func(key int) *RandLoRA {
		o := NewRandLoRA()
		o.Rank, o.Key = 4, key
		return o
	}
	first := bases(with(11), 1)
	if string(bases(with(11), 2)) != string(first) {
		t.Error("the same key gives other bases")
	}
	if string(bases(with(12), 1)) == string(first) {
		t.Error("another key gives the same bases")
	}
	if string(bases(with(0), 11)) != string(first) {
		t.Error("without a key the run's seed is not it")
	}
}

// Without its bases in the file an adapter opens with those of the key, bit by bit, and
// one that another program wrote is refused.
func TestRandLoRAWithoutStoredBases(t *testing.T) {
	m := newTiny(t)
	o := NewRandLoRA()
	o.Rank, o.Entries, o.Save, o.Key = 4, "normal", false, 7
	a, err := Attach(m, named(t, "randlora"), o, testTargets, 1)
	if err != nil {
		t.Fatal(err)
	}
	stir(a)
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := a.Save(dir, "base"); err != nil {
		t.Fatal(err)
	}
	file, err := checkpoint.OpenAdapter(dir)
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	for _, name := range file.Names() {
		if strings.HasSuffix(name, "_A") || strings.HasSuffix(name, "_B") {
			t.Errorf("the file holds %s", name)
		}
	}
	fresh := newTiny(t)
	if _, err := Load(dir, fresh); err != nil {
		t.Fatal(err)
	}
	if d := distance(logits(fresh), logits(m)); d != 0 {
		t.Errorf("logits differ by %g", d)
	}
	foreign := NewRandLoRA()
	wantErrors(t, foreign.SetConfig(map[string]any{"r": 4.0, "save_projection": false, "projection_prng_key": 7.0}), "save_projection is false", "cannot be drawn again")
}

// All layers share one pair of bases, which counts once.
func TestSharedProjectionsCountOnce(t *testing.T) {
	for _, method := range []string{"randlora", "vera"} {
		m := newTiny(t)
		before := bytesOf(m)
		a := attach(t, m, named(t, method))
		var trained, shared int64
		for _, p := range a.Params() {
			trained += int64(len(p.Value.Bytes()))
		}
		for _, n := range a.Options.(Sharer).Shared() {
			shared += int64(len(n.Tensor.Bytes()))
		}
		if got := bytesOf(m) - before; shared == 0 || got != trained+shared {
			t.Errorf("%s adds %d bytes, want %d trained and %d shared once", method, got, trained, shared)
		}
	}
}

func bytesOf(m *model.Llama) (n int64) {
	for _, p := range m.Params() {
		n += int64(len(p.Value.Bytes()))
	}
	return n
}

// A file whose layers have bases of their own, or which lacks them, is refused.
func TestSharedProjectionsOfAFile(t *testing.T) {
	change := func(edit func(tensors map[string]*tensor.Tensor)) error {
		file, err := checkpoint.OpenAdapter("testdata/parity/randlora")
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		tensors := map[string]*tensor.Tensor{}
		for _, name := range file.Names() {
			x, err := file.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			tensors[name] = x.Clone()
		}
		edit(tensors)
		var list []checkpoint.NamedTensor
		for name, x := range tensors {
			list = append(list, checkpoint.NamedTensor{Name: name, Tensor: x})
		}
		dir := t.TempDir()
		if err := checkpoint.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), list, nil); err != nil {
			t.Fatal(err)
		}
		config, err := os.ReadFile("testdata/parity/randlora/adapter_config.json")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "adapter_config.json"), config, 0o600); err != nil {
			t.Fatal(err)
		}
		src, err := checkpoint.OpenFolder("testdata/parity/base")
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		m, err := model.Load(src.Config, src, model.LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Load(dir, m)
		return err
	}
	if err := change(func(map[string]*tensor.Tensor) {}); err != nil {
		t.Fatal(err)
	}
	const layer = "base_model.model.model.layers.0.mlp.down_proj."
	wantErrors(t, change(func(tensors map[string]*tensor.Tensor) { tensors[layer+"randlora_B"].F32()[3]++ }), "down_proj has a randlora_B of its own")
	wantErrors(t, change(func(tensors map[string]*tensor.Tensor) {
		for name := range tensors {
			if strings.HasSuffix(name, "randlora_A") {
				delete(tensors, name)
			}
		}
	}), "no randlora_A")
	if err := change(func(tensors map[string]*tensor.Tensor) { delete(tensors, "base_model.randlora_A") }); err != nil {
		t.Errorf("bases in the layers alone: %v", err)
	}
	wantErrors(t, change(func(tensors map[string]*tensor.Tensor) { tensors["base_model.randlora_A"] = tensor.New(8, 1, 40) }), "has a randlora_A of its own")
	wantErrors(t, change(func(tensors map[string]*tensor.Tensor) { tensors["base_model.other"] = tensor.New(2) }), "base_model.other")
}

func TestDrawnEntries(t *testing.T) {
	const n, d = 200_000, 100
	for kind, zeros := range map[string]float64{"uniform": 0, "normal": 0, "sparse": 2.0 / 3, "very-sparse": 0.9} {
		x := make([]float32, n)
		if err := drawEntries(x, kind, d, rand.New(rand.NewPCG(5, 0))); err != nil {
			t.Fatal(err)
		}
		var sum, squares, none float64
		values := map[float32]bool{}
		for _, v := range x {
			sum, squares = sum+float64(v), squares+float64(v)*float64(v)
			if v == 0 {
				none++
			}
			if len(values) < 9 {
				values[v] = true
			}
		}
		if mean, variance := sum/n, squares/n; math.Abs(mean) > 0.02 || math.Abs(variance-1) > 0.03 {
			t.Errorf("%s: mean %g, variance %g", kind, mean, variance)
		}
		if math.Abs(none/n-zeros) > 0.005 {
			t.Errorf("%s: a share of %g is zero, want %g", kind, none/n, zeros)
		}
		if ternary := strings.Contains(kind, "sparse"); ternary != (len(values) == 3) {
			t.Errorf("%s: values %v", kind, values)
		}
	}
}

func TestRandLoRASaysAllThatIsWrong(t *testing.T) {
	o := &RandLoRA{Alpha: -1, Dropout: 1, Entries: "dense", Projections: Projections{Key: -1}}
	wantErrors(t, o.Validate(), "rank 0", "alpha -1", "dropout 1", `entries "dense"`, "projection_prng_key -1")
	v := &VeRA{Initial: math.NaN(), Dropout: -1}
	wantErrors(t, v.Validate(), "rank 0", "d_initial NaN", "dropout -1")
	m := newTiny(t)
	o = NewRandLoRA()
	o.Rank = 9 // v_proj has 8 rows
	_, err := Attach(m, named(t, "randlora"), o, testTargets, 1)
	wantErrors(t, err, "rank 9", "v_proj [8, 16]")
	v = NewVeRA()
	v.Rank = 16*24 + 1
	_, err = Attach(m, named(t, "vera"), v, testTargets, 1)
	wantErrors(t, err, "rank 385")
}
