package adapt

import (
	"bytes"
	"context"
	"math"
	"math/rand/v2"
	"os"
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
)

// tunedBy attaches o to m and trains it, and returns the adapter.
func tunedBy(t *testing.T, m *model.Llama, method string, o Options, ledger *grad.Ledger, steps int, hooks ...any) *Adapter {
	t.Helper()
	a, err := Attach(m, named(t, method), o, testTargets, 7)
	if err != nil {
		t.Fatal(err)
	}
	own, err := a.Prepare(t.Context(), Setup{Model: m, Steps: steps, Seed: 3, Batches: func(int) ([]train.Batch, error) { return []train.Batch{repeat{m}}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	loop := &train.Loop{Task: repeat{m}, Params: m.Params(), Optimizer: &optim.AdamW{Ledger: ledger}, Tape: grad.NewTape(ledger), Hooks: append(own, hooks...),
		Options: train.Options{Steps: steps, LR: 1e-2, Seed: 5}}
	if err := loop.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return a
}

// With every layer drawn IST is the method below, to the bit, and so are its files.
func TestISTOfAllLayersIsTheMethodBelow(t *testing.T) {
	for _, below := range []func() (string, Options){
		func() (string, Options) { return "lora", &LoRA{Rank: 4, Alpha: 8, Dropout: 0.2} },
		func() (string, Options) { return "bone", &Bone{Rank: 6} },
		func() (string, Options) { return "paca", &PaCA{Rank: 5, Choice: "random"} },
		func() (string, Options) { return "pissa", &PiSSA{Rank: 2} },
	} {
		name, plain := below()
		_, inner := below()
		o := NewIST()
		o.Over, o.Inner, o.Train, o.Every = name, inner, 4, 3
		var files [2][]byte
		for i, run := range []struct {
			method string
			o      Options
		}{{name, plain}, {"ist", o}} {
			a := tunedBy(t, newDeep(t, 4), run.method, run.o, nil, 10)
			dir := filepath.Join(t.TempDir(), "adapter")
			if err := a.Save(dir, "base/model"); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"adapter_config.json", "adapter_model.safetensors"} {
				raw, err := os.ReadFile(filepath.Join(dir, file))
				if err != nil {
					t.Fatal(err)
				}
				files[i] = append(files[i], raw...)
			}
		}
		if !bytes.Equal(files[0], files[1]) {
			t.Errorf("%s: the adapter has other bytes with all layers drawn than without IST", name)
		}
		if moved := slices.ContainsFunc(o.layers, func(l *istLayer) bool { return l.score != 0 }); !moved {
			t.Errorf("%s: no score has moved in 10 steps", name)
		}
	}
}

// seen notes which layers' adapters get gradients.
type seen struct {
	layers map[string]bool
	each   []int           // layers a step
	ever   map[string]bool // with any
}

func (s *seen) Gradient(l *train.Loop, p *grad.Param, _ *tensor.Tensor) error {
	layer := strings.Split(p.Name, ".")[2]
	s.layers[layer], s.ever[layer] = true, true
	return nil
}

func (s *seen) EndStep(*train.Loop) error {
	s.each = append(s.each, len(s.layers))
	s.layers = map[string]bool{}
	return nil
}

// A step has gradients for the layers that were drawn and for no others; in the end all
// have been.
func TestISTTrainsTheLayersDrawn(t *testing.T) {
	o := NewIST()
	o.Inner, o.Train = &Bone{Rank: 6}, 2
	s := &seen{layers: map[string]bool{}, ever: map[string]bool{}}
	tunedBy(t, newDeep(t, 8), "ist", o, nil, 30, s)
	for step, n := range s.each {
		if n != 2 {
			t.Errorf("step %d has gradients for %d layers, want 2", step+1, n)
		}
	}
	if len(s.ever) != 8 {
		t.Errorf("%d of 8 layers were ever drawn", len(s.ever))
	}
}

// What is kept for the backward pass, and the gradients that it makes, are those of a
// model that has adapters in the drawn layers alone.
func TestISTKeepsNothingForOtherLayers(t *testing.T) {
	for over, below := range map[string]func() Options{
		"lora": func() Options { return &LoRA{Rank: 4, Alpha: 8} }, "bone": func() Options { return &Bone{Rank: 6} }, "paca": func() Options { return &PaCA{Rank: 5, Choice: "random"} },
	} {
		const drawn = `model\.layers\.2\..*(q_proj|v_proj|down_proj)`
		alone := newDeep(t, 4)
		if _, err := Attach(alone, named(t, over), below(), []string{drawn}, 7); err != nil {
			t.Fatal(err)
		}
		m := newDeep(t, 4)
		o := NewIST()
		o.Over, o.Inner, o.Train = over, below(), 1
		a, err := Attach(m, named(t, "ist"), o, testTargets, 7)
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Prepare(t.Context(), a, Setup{Model: m}); err != nil {
			t.Fatal(err)
		}
		for i, l := range o.layers { // so that layer 2 is as good as certain
			l.score = 40
			if i == 2 {
				l.score = -40
			}
		}
		hook := o.Hooks(a, Setup{Model: m})[0].(*sampler)
		if err := hook.BeginStep(&train.Loop{Tape: grad.NewTape(nil)}); err != nil {
			t.Fatal(err)
		}
		wantKept, wantPeak := stepBytes(t, alone)
		kept, peak := stepBytes(t, m)
		if kept != wantKept || peak != wantPeak {
			t.Errorf("over %s: a step keeps %d bytes of activations and holds up to %d of gradients, want %d and %d", over, kept, peak, wantKept, wantPeak)
		}
		if err := hook.EndStep(nil); err != nil {
			t.Fatal(err)
		}
		if all, _ := stepBytes(t, m); all <= kept {
			t.Errorf("over %s: with all layers %d bytes are kept, with one %d", over, all, kept)
		}
	}
}

// stepBytes returns the activations held after a forward pass and the peak of gradients
// in the backward pass.
func stepBytes(t *testing.T, m *model.Llama) (kept, gradients int64) {
	t.Helper()
	ledger := &grad.Ledger{}
	tp := grad.NewTape(ledger)
	loss := model.Loss(tp, m, someTokens, someTargets, someSeqs, 10)
	kept = ledger.Now(grad.Activations)
	if err := tp.Backward(loss, nil); err != nil {
		t.Fatal(err)
	}
	return kept, ledger.Peak().Gradients
}

// Two sets of layers, p = 1/2: a_i moves by 10·(r − mean)·1/4 for each set that has i.
func TestISTScores(t *testing.T) {
	o := NewIST()
	o.layers = []*istLayer{{}, {}, {}}
	o.reward([][]int{{0, 1}, {1, 2}, {0, 2}}, []float64{0.3, 0.3, 0.3})
	for i, l := range o.layers {
		if l.score != 0 {
			t.Errorf("equal rewards move score %d to %g", i, l.score)
		}
	}
	o.reward([][]int{{0}, {0, 2}}, []float64{0.5, 0.3})
	for i, want := range []float64{0, 0, -2.5 * 0.1} {
		if got := o.layers[i].score; math.Abs(got-want) > 1e-12 {
			t.Errorf("score %d is %g, want %g", i, got, want)
		}
	}
	o.reward([][]int{{0}, {1}}, []float64{math.NaN(), 0.3})
	if got := o.layers[0].score; math.IsNaN(got) {
		t.Error("a loss that is no number reaches the scores")
	}
}

// A layer whose adapter does harm is found out: weakening it raises the reward.
func TestISTFindsTheLayerThatHarms(t *testing.T) {
	m := newDeep(t, 4)
	o := NewIST()
	o.Inner, o.Train, o.Suppress, o.Every = &Bone{Rank: 6}, 4, 1, 1000
	a := tunedBy(t, m, "ist", o, nil, 40)
	for _, hold := range o.layers[1].holds {
		for i, v := range hold.(*boneWeight).d.Value.F32() {
			hold.(*boneWeight).d.Value.F32()[i] = -3 * v
		}
	}
	h := o.Hooks(a, Setup{Model: m, Seed: 1, Batches: func(int) ([]train.Batch, error) { return []train.Batch{repeat{m}}, nil }})[0].(*sampler)
	tp := grad.NewTape(nil)
	if whole, weak := h.suppressed(tp, nil, repeat{m}), h.suppressed(tp, []int{1}, repeat{m}); weak > whole-0.1 {
		t.Fatalf("the loss is %g weakened and %g whole: this change does no harm", weak, whole)
	}
	for step := 10; step <= 200; step += 10 {
		if err := h.learn(&train.Loop{Tape: tp, Step: step}); err != nil {
			t.Fatal(err)
		}
	}
	for i, l := range o.layers {
		if i != 1 && l.score >= o.layers[1].score {
			t.Errorf("layer %d has score %g, the layer that harms %g", i, l.score, o.layers[1].score)
		}
	}
}

// Weakened to f, a layer is W₀ + f·ΔW, and afterwards what it was to the bit.
func TestScaling(t *testing.T) {
	for _, row := range Methods() {
		o := family[row.Name].options()
		if !layerwise(o) || row.Name == "dora" { // whose lengths stay
			continue
		}
		m := newTiny(t)
		a := attach(t, m, row)
		for i, l := range a.Layers {
			s, ok := a.Holds[i].(Scaler)
			if !ok {
				continue
			}
			start, err := nn.Materialize(l.Weight)
			if err != nil {
				t.Fatal(err)
			}
			by, _ := s.Scaling()
			if i == 0 {
				stir(a)
			}
			tuned, err := nn.Materialize(l.Weight)
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				continue // its start was not seen
			}
			back := by(0.25)
			weak, err := nn.Materialize(l.Weight)
			if err != nil {
				t.Fatal(err)
			}
			want := make([]float32, weak.Len())
			for k, w := range start.F32() {
				want[k] = w + 0.25*(tuned.F32()[k]-w)
			}
			if d := distance(weak.F32(), want); d > 1e-5 {
				t.Errorf("%s: %s is %g away from W₀ + ΔW/4", row.Name, l.Name, d)
			}
			back()
			again, err := nn.Materialize(l.Weight)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(again.F32(), tuned.F32()) {
				t.Errorf("%s: %s is not what it was before it was weakened", row.Name, l.Name)
			}
		}
	}
}

func TestDraw(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const times = 20000
	var first [3]float64
	for range times {
		first[draw(rng, []float64{1, 0, 3}, 1)[0]]++
	}
	// 1/4 and 3/4, whose standard deviation is 0.003
	if math.Abs(first[0]/times-0.25) > 0.015 || first[1] != 0 {
		t.Errorf("weights 1, 0, 3 are drawn %v times", first)
	}
	if got := draw(rng, []float64{1, 1e-300, 5}, 3); !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("all three are drawn as %v", got)
	}
	if sets := differing(rng, []float64{1, 1, 1, 1}, 2, 6); len(sets) != 6 {
		t.Errorf("%d different pairs of four, want all 6: %v", len(sets), sets)
	}
	if sets := differing(rng, []float64{1, 1}, 1, 3); len(sets) != 2 {
		t.Errorf("%d different ones of two, want 2", len(sets))
	}
}

func TestISTRefuses(t *testing.T) {
	for over, says := range map[string]string{"lift": `over "lift"`, "adalora": `over "adalora"`, "s2ft": `over "s2ft"`, "ist": `over "ist"`, "lorra": "lora, dora"} {
		o := NewIST()
		o.Over = over
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("over %s: %v, want %s", over, err, says)
		}
	}
	o := NewIST()
	o.Train = 3
	m := newTiny(t)
	a := &Adapter{}
	var err error
	if a, err = Attach(m, named(t, "ist"), o, testTargets, 1); err == nil {
		_, err = a.Prepare(t.Context(), Setup{Model: m})
	}
	if err == nil || !strings.Contains(err.Error(), "train_layers 3") || !strings.Contains(err.Error(), "of 2 layers") {
		t.Errorf("3 of 2 layers: %v", err)
	}
}
