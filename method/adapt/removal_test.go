package adapt

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/tensor"
	"tare/engine/train"
	"tare/method/optim"
)

// tuneTiny trains a method with its preparation and hooks.
func tuneTiny(t *testing.T, m *model.Llama, a *Adapter, steps int, lr float64) {
	t.Helper()
	hooks, err := a.Prepare(t.Context(), Setup{Model: m, Steps: steps, Seed: 5, Batches: func(n int) ([]train.Batch, error) {
		return slices.Repeat([]train.Batch{repeat{m}}, n), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	loop := &train.Loop{Task: repeat{m}, Params: m.Params(), Optimizer: &optim.AdamW{}, Tape: grad.NewTape(nil), Hooks: hooks,
		Options: train.Options{Steps: steps, LR: lr}}
	if err := loop.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// modelEntries returns how many entries a model has.
func modelEntries(m Model) (n int) {
	for _, p := range m.Params() {
		n += p.Value.Len()
	}
	return n
}

// checkShrunk takes the groups out and compares with the model that multiplied them by
// zero, and with the number of entries that was promised.
func checkShrunk(t *testing.T, m *model.Llama, a *Adapter, r *removal, plain int) {
	t.Helper()
	want := logits(m)
	promised := plain - r.total() + r.cost(r.open())
	if err := a.Shrink(m); err != nil {
		t.Fatal(err)
	}
	if d := distance(logits(m), want); d > 1e-5 {
		t.Errorf("removing moves the logits by %g", d)
	}
	if n := modelEntries(m); n != promised {
		t.Errorf("%d entries are left, want %d", n, promised)
	}
}

func attachAs(t *testing.T, m Model, name string, o Options) *Adapter {
	t.Helper()
	a, err := Attach(m, named(t, name), o, nil, 7)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// What is picked fits the budget, is no smaller than the next cheapest group allows
// and holds the best of each kind of each block.
func TestPickFitsTheBudget(t *testing.T) {
	if _, err := newRemoval("test", newTiny(t), newTiny(t).Linears()); err == nil {
		t.Fatal("layers of another model are taken for targets")
	}
	m := newTiny(t)
	r, err := newRemoval("test", m, m.Linears())
	if err != nil {
		t.Fatal(err)
	}
	if r.total() != 2*(2*(2*8*16+2*4*16)+24*3*16) { // two groups of two heads 4 wide; 24 channels
		t.Fatalf("the groups cost %d", r.total())
	}
	rapid.Check(t, func(t *rapid.T) {
		score := rapid.SliceOfN(rapid.Float64Range(-1, 1), len(r.units), len(r.units)).Draw(t, "score")
		share := rapid.Float64Range(0.4, 1).Draw(t, "share") // below, the least that must stay is more
		even := rapid.Bool().Draw(t, "even")
		marks := r.pick(score, share, even)
		left := share*float64(r.total()) - float64(r.cost(marks))
		if left < -1e-6 {
			t.Fatalf("what stays is %g entries over the budget", -left)
		}
		counts := make([]int, len(r.gates))
		for i, stays := range marks {
			if stays {
				counts[r.units[i].gate]++
			} else if !even && float64(r.units[i].cost) <= left {
				t.Fatalf("group %d would have fitted", i)
			}
		}
		if slices.Min(counts) < 1 || even && (counts[0] != counts[2] || counts[1] != counts[3]) {
			t.Fatalf("%v groups stay", counts)
		}
	})
}

func TestSlopesMatchFiniteDifferences(t *testing.T) {
	m := newTiny(t)
	o := NewTwoStage()
	o.Rank = 2
	a := attachAs(t, m, "twostage", o)
	stir(a)
	r := o.removal
	got, err := r.slopes(grad.NewTape(nil), m.Params(), repeat{m})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(got); i += 5 {
		c := &r.gates[r.units[i].gate].c.Value.F32()[r.units[i].at]
		const h = 1e-2
		*c = 1 + h
		up := lossOf(m)
		*c = 1 - h
		down := lossOf(m)
		*c = 1
		if want := (up - down) / (2 * h); math.Abs(want-got[i]) > 2e-3*(1+math.Abs(want)) {
			t.Errorf("group %d: slope %g, finite difference %g", i, got[i], want)
		}
	}
	for _, g := range r.gates {
		if g.c.Trains() {
			t.Fatal("a gate is left training")
		}
	}
}

// A group that adds nothing has the score 0, whatever judges it, and no other has.
func TestTwoStageScoresWhatAddsNothing(t *testing.T) {
	for _, choice := range []string{"magnitude", "taylor", "random"} {
		m := newTiny(t)
		plain := modelEntries(m)
		idle := m.Layers[1].Down.Weight.Params()[0].Value
		for r := range 16 {
			for _, c := range []int{3, 20} {
				idle.F32()[r*24+c] = 0
			}
		}
		o := NewTwoStage()
		o.Rank, o.Choice, o.Share, o.Scope = 2, choice, 0.9, "model"
		a := attachAs(t, m, "twostage", o)
		score, err := o.score(t.Context(), Setup{Model: m, Batches: func(int) ([]train.Batch, error) { return []train.Batch{repeat{m}}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		for i, u := range o.removal.units {
			if idle := choice != "random" && u.gate == 3 && (u.at == 3 || u.at == 20); (score[i] == 0) != idle {
				t.Errorf("%s: group %d of gate %d has the score %g", choice, u.at, u.gate, score[i])
			}
		}
		tuneTiny(t, m, a, 6, 1e-2)
		if share := o.Figures(a)["of the blocks' entries left"]; share > 0.9 || share < 0.85 {
			t.Errorf("%s: %g of the entries stay", choice, share)
		}
		checkShrunk(t, m, a, o.removal, plain)
	}
}

func TestATPWithoutPruningIsLoRA(t *testing.T) {
	lora, atp := newTiny(t), newTiny(t)
	tuneTiny(t, lora, attachAs(t, lora, "lora", &LoRA{Rank: 2, Alpha: 4}), 8, 1e-2)
	o := NewATP()
	o.Rank, o.Alpha, o.Share = 2, 4, 1
	tuneTiny(t, atp, attachAs(t, atp, "atp", o), 8, 1e-2)
	if !slices.Equal(logits(lora), logits(atp)) {
		t.Error("other bits than LoRA's")
	}
}

func TestATPExportsWhatItMasks(t *testing.T) {
	for _, scope := range []string{"model", "layer"} {
		m := newTiny(t)
		plain := modelEntries(m)
		o := NewATP()
		o.Rank, o.Share, o.Scope = 2, 0.6, scope
		a := attachAs(t, m, "atp", o)
		tuneTiny(t, m, a, 20, 1e-2)
		marks := o.removal.open()
		if cost, most := float64(o.removal.cost(marks)), 0.6*float64(o.removal.total()); cost > most || cost < most-6*16 && scope == "model" {
			t.Errorf("%g entries stay, want just at most %g", cost, most)
		}
		for g, gate := range o.removal.gates[1:2] { // the first MLP
			hold := o.holds[gate.layer]
			for c, v := range gate.c.Value.F32() {
				for k := range 2 {
					if x := hold.a.Value.F32()[k*24+c]; (x == 0) != (v == 0) {
						t.Errorf("gate %d, channel %d: m = %g and A has %g", g, c, v, x)
					}
				}
				up := o.holds[o.removal.blocks[0].Up[0]].b.Value.F32()[c*2]
				if (up == 0) != (v == 0) {
					t.Errorf("channel %d: m = %g and B has %g", c, v, up)
				}
			}
		}
		fresh := reopened(t, a)
		if !slices.Equal(logits(fresh), logits(m)) {
			t.Error("the saved adapter gives other logits")
		}
		checkShrunk(t, m, a, o.removal, plain)
	}
}

// The generator's loss is differentiated through the decisions as written.
func TestGeneratorGradients(t *testing.T) {
	m := newTiny(t)
	o := NewATP()
	o.Rank, o.Hidden = 2, 5
	attachAs(t, m, "atp", o)
	d := &deciding{o: o, s: Setup{Model: m, Seed: 3}, tape: grad.NewTape(nil)}
	o.aside = []train.Batch{repeat{m}}
	if err := d.explore(0, o.generator.scores(d.tape)); err != nil {
		t.Fatal(err)
	}
	for i := range d.coef { // larger, to be seen
		d.coef[i] = float32(math.Sin(float64(i)))
	}
	for _, p := range o.generator.params() {
		p.Part = grad.Whole
	}
	tp := grad.NewTape(nil)
	got := map[*grad.Param][]float32{}
	if err := tp.Backward(d.Penalty(nil, tp), func(p *grad.Param, g *tensor.Tensor) error {
		got[p] = slices.Clone(g.F32())
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	value := func() (v float64) {
		tp.NoGrad(func() { v = float64(d.Penalty(nil, tp).Data[0]) })
		tp.Reset()
		return v
	}
	for _, p := range o.generator.params() {
		w := p.Value.F32()
		for i := 0; i < len(w); i += 1 + len(w)/5 {
			const h = 1e-2
			was := w[i]
			w[i] = was + h
			up := value()
			w[i] = was - h
			down := value()
			w[i] = was
			if want := (up - down) / (2 * h); got[p] == nil || math.Abs(want-float64(got[p][i])) > 2e-3*(1+math.Abs(want)) {
				t.Errorf("%s[%d]: gradient %v, finite difference %g", p.Name, i, got[p], want)
			}
		}
	}
}

// With a strong penalty the generator itself comes to the share that is asked for.
func TestGeneratorFindsTheShare(t *testing.T) {
	m := newTiny(t)
	o := NewATP()
	o.Rank, o.Share, o.Lambda, o.Freeze = 2, 0.5, 30, 1
	a := attachAs(t, m, "atp", o)
	hooks := o.Hooks(a, Setup{Model: m, Steps: 1000, Seed: 5})
	if err := o.Prepare(t.Context(), a, Setup{Batches: func(n int) ([]train.Batch, error) { return []train.Batch{repeat{m}}, nil }}); err != nil {
		t.Fatal(err)
	}
	loop := &train.Loop{Task: repeat{m}, Params: m.Params(), Optimizer: &optim.AdamW{}, Tape: grad.NewTape(nil), Hooks: hooks, Options: train.Options{Steps: 120, LR: 1e-2}}
	if err := loop.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := hooks[0].(*deciding)
	share := float64(o.removal.cost(d.decided(o.generator.scores(d.tape), nil))) / float64(o.removal.total())
	if share < 0.35 || share > 0.65 {
		t.Errorf("the generator keeps %g of the entries, asked for 0.5", share)
	}
}

func TestRemovalOfAnEncoder(t *testing.T) {
	src, err := checkpoint.OpenFolder("../../engine/model/testdata/parity/bert")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	m, err := model.LoadMaskedLM(src.Config, src, model.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	scores := func() (out []float32) {
		tp := grad.NewTape(nil)
		tp.NoGrad(func() {
			out = slices.Clone(m.Logits(tp, m.Encode(tp, model.Inputs{Tokens: someTokens, Seqs: someSeqs})).Data)
		})
		return out
	}
	o := NewATP()
	o.Rank, o.Share, o.fromFile = 2, 0.6, true // no generator is asked
	a := attachAs(t, m, "atp", o)
	stir(a)
	score := make([]float64, len(o.removal.units))
	for i := range score {
		score[i] = math.Sin(float64(i))
	}
	plain := o.removal.total()
	o.removal.set(o.removal.pick(score, 0.6, false))
	want, entries := scores(), modelEntries(m)
	left := o.removal.cost(o.removal.open())
	for _, p := range append(a.Params(), o.removal.gateParams()...) {
		entries -= p.Value.Len()
	}
	if err := a.Shrink(m); err != nil {
		t.Fatal(err)
	}
	if d := distance(scores(), want); d > 1e-5 {
		t.Errorf("removing moves the scores by %g", d)
	}
	if n := modelEntries(m); n != entries-plain+left {
		t.Errorf("%d entries are left, want %d", n, entries-plain+left)
	}
}

func (r *removal) gateParams() (ps []*grad.Param) {
	for _, g := range r.gates {
		ps = append(ps, g.c)
	}
	return ps
}

func TestRemovalRefuses(t *testing.T) {
	if _, err := Attach(newTiny(t), named(t, "atp"), NewATP(), []string{"q_proj", "o_proj"}, 1); !errors.Is(err, ErrFit) || !strings.Contains(err.Error(), "k_proj is not among the targets") {
		t.Errorf("too few targets: %v", err)
	}
	src, err := checkpoint.OpenFolder("../../engine/model/testdata/parity/gpt2")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	m, err := model.LoadCausal(src.Config, src, model.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o := NewDSEE()
	o.Prune = "groups"
	if _, err := Attach(m, named(t, "dsee"), o, nil, 1); !errors.Is(err, ErrFit) || !strings.Contains(err.Error(), "cannot be taken out of a gpt2") {
		t.Errorf("a gpt2: %v", err)
	}
	tiny := newTiny(t)
	if err := attachAs(t, tiny, "lora", NewLoRA()).Shrink(tiny); err == nil || !strings.Contains(err.Error(), "lora removes no heads") {
		t.Errorf("shrinking by LoRA: %v", err)
	}
}
