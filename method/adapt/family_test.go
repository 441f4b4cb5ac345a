package adapt

import (
	"cmp"
	"context"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
	"tare/method/optim"
	"tare/method/quant"
)

// The properties that every row of Methods has, on a small llama. family holds what
// the tests must know of a row.
var family = map[string]traits{
	"lora":  {options: func() Options { return &LoRA{Rank: 4, Alpha: 8} }, trained: func(r, out, in int) int { return r * (in + out) }},
	"dora":  {options: func() Options { return &DoRA{Rank: 4, Alpha: 8} }, trained: func(r, out, in int) int { return r*(in+out) + out }, detached: true},
	"pissa": {options: func() Options { return &PiSSA{Rank: 4, Alpha: 8} }, trained: func(r, out, in int) int { return r / 2 * (in + out) }, savedAs: "lora", savedRank: 2, tolerance: 1e-5},
	"sorsa": {options: func() Options { return &SORSA{Rank: 4, Gamma: 1e-3} }, trained: func(r, out, in int) int { return r * (in + out + 1) }},
	"soka": {options: func() Options { return &SoKA{Rank: 3, Energy: 1} }, trained: func(r, out, in int) int {
		return r * map[[2]int]int{{16, 16}: 4*4 + 4*4, {8, 16}: 2*4 + 4*4, {16, 24}: 4*6 + 4*4}[[2]int{out, in}]
	}},
	"flora": {options: func() Options { o := NewFLoRA(); o.Rank, o.Scale = 4, 1; return o }, trained: func(r, out, in int) int { return r*(in+out) + r*r }},
	"transformed": {options: func() Options { o := NewTransformed(); o.Rank, o.Alpha = 3, 6; return o }, trained: func(r, out, in int) int {
		modes := map[int]int{16: 2*2 + 2*2 + 4*4, 24: 2*2 + 3*3 + 4*4}
		return r*(in+out) + 2*2*modes[in]
	}},
	"eva":     {options: func() Options { o := NewEVA(); o.Rank, o.Alpha = 4, 8; return o }, trained: func(r, out, in int) int { return r * (in + out) }},
	"adalora": {options: func() Options { o := NewAdaLoRA(); o.Rank, o.Init = 4, 6; return o }, trained: func(_, out, in int) int { return 6 * (in + out + 1) }},
	"bone":    {options: func() Options { return &Bone{Rank: 6} }, trained: func(r, out, in int) int { return r * out }}, // divides neither dimension
	"bat":     {options: func() Options { return &Bat{Rank: 8} }, trained: func(r, out, in int) int { return r * out }},
	"lift":    {options: func() Options { o := NewLIFT(); o.Rank = 2; return o }, trained: func(r, out, in int) int { return r * (in + out) }, dense: true},
	"sparse":  {options: func() Options { o := NewSparse(); o.Rank = 2; return o }, trained: func(r, out, in int) int { return r * (in + out) }, dense: true},
	"s2ft": {options: func() Options { o := NewS2FT(); o.Ratio = 0.4; return o }, targets: []string{"o_proj", "down_proj"}, tolerance: 1e-6, trained: func(_, out, in int) int {
		if in == 16 {
			return 2 * 4 * out // 0.4 of 4 heads, 4 wide
		}
		return 10 * out // 0.4 of 24 channels
	}},
	"paca":      {options: func() Options { return &PaCA{Rank: 5, Choice: "random"} }, trained: func(r, out, in int) int { return r * out }},
	"ist":       {options: func() Options { o := NewIST(); o.Inner = &LoRA{Rank: 4, Alpha: 8}; return o }, trained: func(r, out, in int) int { return r * (in + out) }, savedAs: "lora"},
	"bitfit":    {options: func() Options { return &BitFit{Norms: true} }, trained: func(_, _, _ int) int { return 0 }, beside: 5 * 16, left: 0.8}, // llama has no biases, and five norms
	"dsee":      {options: func() Options { o := NewDSEE(); o.Rank, o.Alpha, o.Entries = 2, 4, 7; return o }, trained: func(r, out, in int) int { return r*(in+out) + 7 }, dense: true},
	"magnitude": {options: func() Options { return NewMagnitude() }, trained: func(_, out, in int) int { return out * in }, dense: true},
	"atp":       {options: func() Options { o := NewATP(); o.Rank, o.Alpha = 4, 4; return o }, targets: blockTargets, trained: func(r, out, in int) int { return r * (in + out) }},
	"twostage":  {options: func() Options { o := NewTwoStage(); o.Rank, o.Alpha = 4, 4; return o }, targets: blockTargets, trained: func(r, out, in int) int { return r * (in + out) }},
	"randlora": {options: func() Options {
		return &RandLoRA{Rank: 5, Alpha: 5, Entries: "uniform", Projections: Projections{Save: true}}
	}, trained: func(r, out, in int) int {
		n := (min(out, in) + r - 1) / r
		return n * (r + min(out, in))
	}},
	"vera":    {options: func() Options { o := NewVeRA(); o.Rank, o.Initial = 40, 0.5; return o }, trained: func(r, out, in int) int { return r + out }, left: 0.7},
	"lora-xs": {options: func() Options { return &LoRAXS{Rank: 8, Alpha: 8} }, trained: func(r, _, _ int) int { return r * r }, start: 3e-4, left: 0.6},
	"lora-sb": {options: func() Options { o := NewLoRASB(); o.Rank = 8; return o }, trained: func(r, _, _ int) int { return r * r }, left: 0.7},
}

type traits struct {
	options  func() Options           // sizes that fit the model
	trained  func(r, out, in int) int // entries that train of a layer [out, in], r as the file says it
	detached bool                     // the backward pass takes something for a constant: finite differences disagree, and the method's own test checks the gradient
	dense    bool                     // a packed base is refused
	targets  []string                 // nil for testTargets
	beside   int64                    // entries that train beside the layers, of which none does then
	start    float64                  // how far the logits may be from the base's at the start; 0 for 1e-6
	left     float64                  // what 50 steps may leave of the loss; 0 for half
	// how far logits may be from those before saving, for a method that saves differences
	tolerance float64
	savedAs   string // the method that its files open as; empty for its own
	savedRank int64  // what the rank is multiplied by there; 0 for 1
}

// blockTargets are all layers of a block, for methods that take heads and channels out.
var blockTargets = []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

var testTargets = []string{"q_proj", "v_proj", "down_proj"}

func tinyConfig() *model.Config {
	return &model.Config{ModelType: "llama", VocabSize: 37, HiddenSize: 16, IntermediateSize: 24, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 4,
		MaxPositions: 64, NormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu", TieEmbeddings: true}
}

// newTiny returns a small model with weights so large that every path matters.
func newTiny(t *testing.T) *model.Llama { return newDeep(t, 2) }

// newDeep returns such a model of n layers.
func newDeep(t *testing.T, n int) *model.Llama {
	t.Helper()
	c := tinyConfig()
	c.Layers = n
	m, err := model.NewLlama(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		if len(p.Value.Shape()) > 1 {
			for i, v := range p.Value.F32() {
				p.Value.F32()[i] = 10 * v
			}
		}
	}
	return m
}

// pack replaces the weights of every layer by 4-bit ones.
func pack(t *testing.T, m *model.Llama) {
	t.Helper()
	for _, l := range m.Linears() {
		w, err := nn.Materialize(l.Weight)
		if err != nil {
			t.Fatal(err)
		}
		if l.Weight, err = (&quant.RTN{Group: 32}).QuantizeLayer(l.Name, w, nil); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	someTokens  = []int32{1, 5, 9, 30, 2, 7, 7, 3, 36, 0, 11}
	someTargets = []int32{5, 9, 30, 2, -1, 7, 3, 36, 0, 11, 12}
	someSeqs    = grad.Sequences{Lengths: []int{5, 6}}
)

// reopened saves the adapter and opens it on another copy of the tiny model.
func reopened(t *testing.T, a *Adapter) *model.Llama {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := a.Save(dir, "base"); err != nil {
		t.Fatal(err)
	}
	fresh := newTiny(t)
	if _, err := Load(dir, fresh); err != nil {
		t.Fatal(err)
	}
	return fresh
}

// logits returns the model's scores of a few tokens.
func logits(m *model.Llama) []float32 {
	tp := grad.NewTape(nil)
	var out []float32
	tp.NoGrad(func() {
		out = slices.Clone(m.Logits(tp, m.Hidden(tp, someTokens, someSeqs, nil)).Data)
	})
	tp.Reset()
	return out
}

// distance returns the largest difference relative to the largest entry of want.
func distance(got, want []float32) float64 {
	var d, top float64
	for i := range want {
		d = math.Max(d, math.Abs(float64(got[i])-float64(want[i])))
		top = math.Max(top, math.Abs(float64(want[i])))
	}
	return d / top
}

// named returns a row of the family.
func named(t *testing.T, name string) Method {
	t.Helper()
	row, err := ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// attach puts a row of the family on m.
func attach(t *testing.T, m *model.Llama, row Method) *Adapter {
	t.Helper()
	a, err := Attach(m, row, family[row.Name].options(), targetsOfRow(row), 7)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func targetsOfRow(row Method) []string {
	if t := family[row.Name].targets; t != nil {
		return t
	}
	return testTargets
}

// stir moves every trained entry, as training would.
func stir(a *Adapter) {
	for k, p := range a.Params() {
		w := make([]float32, p.PartLen())
		p.Gather(w)
		for i := range w {
			w[i] += 0.1 * float32(math.Sin(float64(3*i+7*k+1)))
		}
		p.Scatter(w)
	}
}

// eachMethod runs a test for every row of the family, over an f32 and a 4-bit base.
func eachMethod(t *testing.T, test func(t *testing.T, row Method, build func() *model.Llama)) {
	for _, row := range Methods() {
		if family[row.Name].options == nil {
			t.Errorf("%s is not in the table of this test", row.Name)
			continue
		}
		t.Run(row.Name, func(t *testing.T) {
			t.Run("dense", func(t *testing.T) { test(t, row, func() *model.Llama { return newTiny(t) }) })
			t.Run("packed", func(t *testing.T) {
				if family[row.Name].dense {
					m := newTiny(t)
					pack(t, m)
					if _, err := Attach(m, row, family[row.Name].options(), testTargets, 7); err == nil || !strings.Contains(err.Error(), "q_proj is held as *nn.Packed4") {
						t.Errorf("over a packed base: %v", err)
					}
					return
				}
				test(t, row, func() *model.Llama {
					m := newTiny(t)
					pack(t, m)
					return m
				})
			})
		})
	}
}

func TestStartsFromTheBase(t *testing.T) {
	eachMethod(t, func(t *testing.T, row Method, build func() *model.Llama) {
		m := build()
		want := logits(m)
		attach(t, m, row)
		if d := distance(logits(m), want); d > max(1e-6, family[row.Name].start) {
			t.Errorf("logits move by %g when the method is attached", d)
		}
	})
}

func TestMergedEqualsUnmerged(t *testing.T) {
	eachMethod(t, func(t *testing.T, row Method, build func() *model.Llama) {
		m := build()
		base := logits(m)
		a := attach(t, m, row)
		stir(a)
		want := logits(m)
		if d := distance(want, base); d < 1e-3 {
			t.Fatalf("training moved the logits by %g only", d)
		}
		if err := a.Merge(); err != nil {
			t.Fatal(err)
		}
		if d := distance(logits(m), want); d > 1e-5 {
			t.Errorf("merging moves the logits by %g", d)
		}
		for _, l := range a.Layers {
			if _, ok := l.Weight.(nn.Dense); !ok {
				t.Errorf("%s is %T after merging", l.Name, l.Weight)
			}
		}
	})
}

func TestUnmergeRestoresTheWeight(t *testing.T) {
	eachMethod(t, func(t *testing.T, row Method, build func() *model.Llama) {
		m := build()
		var before []*tensor.Tensor
		layers, err := Select(m.Linears(), targetsOfRow(row))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			w, err := nn.Materialize(l.Weight)
			if err != nil {
				t.Fatal(err)
			}
			before = append(before, w)
		}
		a := attach(t, m, row)
		stir(a)
		for i, l := range a.Layers {
			u, ok := a.Holds[i].(Unmerger)
			if !ok {
				t.Skip("merging is the identity")
			}
			w, err := nn.Materialize(l.Weight)
			if err != nil {
				t.Fatal(err)
			}
			if err := u.Unmerge(w); err != nil {
				t.Fatal(err)
			}
			if d := distance(w.F32(), before[i].F32()); d > 1e-6 {
				t.Errorf("%s: W is restored to %g", l.Name, d)
			}
		}
	})
}

func TestSaveAndLoad(t *testing.T) {
	eachMethod(t, func(t *testing.T, row Method, build func() *model.Llama) {
		m := build()
		a := attach(t, m, row)
		stir(a)
		want := logits(m)
		dir := filepath.Join(t.TempDir(), "adapter")
		if err := a.Save(dir, "base/model"); err != nil {
			t.Fatal(err)
		}
		fresh := build()
		b, err := Load(dir, fresh)
		if err != nil {
			t.Fatal(err)
		}
		tr := family[row.Name]
		opensAs, tolerance, times := cmp.Or(tr.savedAs, row.Name), tr.tolerance, max(1, tr.savedRank)
		if b.Method.Name != opensAs || len(b.Layers) != len(a.Layers) {
			t.Errorf("loaded as %s on %d layers", b.Method.Name, len(b.Layers))
		}
		if d := distance(logits(fresh), want); d > tolerance {
			t.Errorf("logits differ by %g", d)
		}
		if got, want := train.Trainable(fresh.Params()), times*train.Trainable(m.Params()); got != want {
			t.Errorf("%d entries train after loading, %d before saving", got, want)
		}
	})
}

func TestTrainableCount(t *testing.T) {
	eachMethod(t, func(t *testing.T, row Method, build func() *model.Llama) {
		m := build()
		a := attach(t, m, row)
		want := family[row.Name].beside
		for _, l := range a.Layers {
			out, in := l.Weight.Dims()
			r, _ := a.Options.Config()["r"].(int)
			want += int64(family[row.Name].trained(r, out, in))
		}
		layers := 2 * len(targetsOfRow(row))
		if want > 0 && len(a.Layers) == 0 {
			layers = 0
		}
		if got := train.Trainable(m.Params()); got != want || len(a.Layers) != layers {
			t.Errorf("%d entries train in %d layers, want %d in %d", got, len(a.Layers), want, layers)
		}
	})
}

// repeat is a train.Task of one batch over and over.
type repeat struct{ m *model.Llama }

func (r repeat) Next() (train.Batch, error) { return r, nil }
func (r repeat) State() ([]byte, error)     { return nil, nil }
func (r repeat) Restore([]byte) error       { return nil }
func (r repeat) Count() int                 { return 10 }
func (r repeat) Loss(tp *grad.Tape, denom float64) *grad.Value {
	return model.Loss(tp, r.m, someTokens, someTargets, someSeqs, denom)
}

// frozenBytes returns everything of the model that must not change: parameters
// that do not train, entries outside the trained part, packed codes.
func frozenBytes(m *model.Llama) map[string][]byte {
	kept := map[string][]byte{}
	for _, p := range m.Params() {
		t := p.Value.Clone()
		if p.Trains() {
			trained := &grad.Param{Name: p.Name, Value: t, Part: p.Part}
			trained.Scatter(make([]float32, p.PartLen()))
		}
		kept[p.Name] = t.Bytes()
	}
	for _, l := range m.Linears() {
		w := l.Weight
		if s, ok := w.(*sliceWeight); ok {
			w = s.Weight
		}
		if s, ok := w.(*splitWeight); ok {
			w = s.rest
		}
		if q, ok := w.(*nn.Packed4); ok {
			kept[l.Name] = slices.Clone(q.Q.Codes)
		}
	}
	return kept
}

func TestTrainingMovesTheTrainedPartOnly(t *testing.T) {
	eachMethod(t, func(t *testing.T, row Method, build func() *model.Llama) {
		m := build()
		a := attach(t, m, row)
		before := frozenBytes(m)
		old := map[string][]float32{}
		for _, p := range a.Params() {
			w := make([]float32, p.PartLen())
			p.Gather(w)
			old[p.Name] = w
		}
		first := lossOf(m)
		loop := &train.Loop{Task: repeat{m}, Params: m.Params(), Optimizer: &optim.AdamW{}, Tape: grad.NewTape(nil),
			Options: train.Options{Steps: 50, LR: 1e-2}}
		if err := loop.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		if last := lossOf(m); last > first*cmp.Or(family[row.Name].left, 0.5) {
			t.Errorf("50 steps bring the loss from %g to %g", first, last)
		}
		for name, bytes := range frozenBytes(m) {
			if !slices.Equal(bytes, before[name]) {
				t.Errorf("frozen entries of %s have changed", name)
			}
		}
		for _, p := range a.Params() {
			w := make([]float32, p.PartLen())
			p.Gather(w)
			if slices.Equal(w, old[p.Name]) {
				t.Errorf("%s has not moved", p.Name)
			}
		}
	})
}

func lossOf(m *model.Llama) float64 {
	tp := grad.NewTape(nil)
	var v float64
	tp.NoGrad(func() { v = float64(model.Loss(tp, m, someTokens, someTargets, someSeqs, 10).Data[0]) })
	tp.Reset()
	return v
}

func TestGradientsMatchFiniteDifferences(t *testing.T) {
	eachMethod(t, func(t *testing.T, row Method, build func() *model.Llama) {
		m := build()
		a := attach(t, m, row)
		stir(a)
		ledger := &grad.Ledger{}
		tp := grad.NewTape(ledger)
		got := map[string][]float32{}
		loss := model.Loss(tp, m, someTokens, someTargets, someSeqs, 10)
		if err := tp.Backward(loss, func(p *grad.Param, g *tensor.Tensor) error {
			if got[p.Name] != nil {
				t.Errorf("%s is handed over twice", p.Name)
			}
			got[p.Name] = slices.Clone(g.F32())
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for k := grad.Weights; k < grad.Kinds; k++ {
			if n := ledger.Now(k); n != 0 {
				t.Errorf("%d bytes of %s are still held", n, k)
			}
		}
		if len(got) != len(a.Params()) {
			t.Errorf("%d gradients for %d trained parameters", len(got), len(a.Params()))
		}
		if family[row.Name].detached {
			return
		}
		for _, p := range a.Params() {
			checkGradient(t, m, p, got[p.Name])
		}
	})
}

// checkGradient compares a few entries with central differences.
func checkGradient(t *testing.T, m *model.Llama, p *grad.Param, g []float32) {
	t.Helper()
	if len(g) != p.PartLen() {
		t.Errorf("%s: gradient of %d entries, want %d", p.Name, len(g), p.PartLen())
		return
	}
	w := make([]float32, len(g))
	p.Gather(w)
	at := func(i int, v float32) float64 {
		old := w[i]
		w[i] = v
		p.Scatter(w)
		loss := lossOf(m)
		w[i] = old
		p.Scatter(w)
		return loss
	}
	for i := 0; i < len(g); i += 1 + len(g)/7 {
		const h = 1e-2
		want := (at(i, w[i]+h) - at(i, w[i]-h)) / (2 * h)
		if math.Abs(want-float64(g[i])) > 2e-3*(1+math.Abs(want)) {
			t.Errorf("%s[%d]: gradient %g, finite difference %g", p.Name, i, g[i], want)
		}
	}
}
