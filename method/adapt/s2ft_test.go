package adapt

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
	"tare/method/optim"
)

// scores returns the logits of a few tokens of any language model.
func scores(m model.Causal) []float32 {
	tp := grad.NewTape(nil)
	var out []float32
	tp.NoGrad(func() {
		tokens := []int32{1, 5, 9, 3, 2, 7, 7, 3, 6, 0, 11}
		out = slices.Clone(m.Logits(tp, m.Hidden(tp, tokens, someSeqs, nil)).Data)
	})
	tp.Reset()
	return out
}

// Permuting coupled layers changes nothing but the order of sums, puts what trains
// first, and is undone to the bit: with grouped queries, biases, normalised heads, and
// the layers' names of every family that has separate ones.
func TestS2FTPermutationKeepsTheFunction(t *testing.T) {
	for _, family := range []string{"llama", "qwen2", "qwen3", "phi", "gemma3", "opt-norm-after"} {
		for _, choice := range []string{"random", "weight"} {
			t.Run(family+"/"+choice, func(t *testing.T) {
				src, err := checkpoint.OpenFolder(filepath.Join("../../engine/model/testdata/parity", family))
				if err != nil {
					t.Fatal(err)
				}
				defer src.Close()
				m, err := model.LoadCausal(src.Config, src, model.LoadOptions{})
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range m.Params() { // biases that matter
					if strings.HasSuffix(p.Name, "bias") {
						for i := range p.Value.F32() {
							p.Value.F32()[i] += float32(math.Sin(float64(i)))
						}
					}
				}
				want := scores(m)
				var stored [][]float32
				for _, p := range m.Params() {
					stored = append(stored, slices.Clone(p.Value.F32()))
				}
				o := NewS2FT()
				o.Ratio, o.Choice = 0.4, choice
				a, err := Attach(m, named(t, "s2ft"), o, nil, 5)
				if err != nil {
					t.Fatal(err)
				}
				before := state(a)
				if _, err := a.Prepare(t.Context(), Setup{Model: m}); err != nil {
					t.Fatal(err)
				}
				moved := 0
				for i, h := range a.Holds {
					s := h.(*slice)
					if !s.c.arranged {
						t.Fatalf("%s is not arranged", a.Layers[i].Name)
					}
					for j, at := range s.p.Part.Index {
						if at != j {
							t.Fatalf("%s: trained columns %v are not the first", a.Layers[i].Name, s.p.Part.Index)
						}
						if s.index[j] != j {
							moved++
						}
					}
				}
				if moved == 0 {
					t.Error("nothing had to be moved: the case tells nothing")
				}
				if d := distance(scores(m), want); d > 1e-5 {
					t.Errorf("logits move by %g", d)
				}
				if after := state(a); !slices.Equal(after, before) {
					t.Error("a file would say something else while arranged")
				}
				a.Detach()
				for i, p := range m.Params() {
					if !slices.Equal(p.Value.F32(), stored[i]) {
						t.Errorf("%s is not put back", p.Name)
					}
				}
			})
		}
	}
}

// state returns all numbers that a file would hold, indices too.
func state(a *Adapter) []float32 {
	var all []float32
	for _, h := range a.Holds {
		for _, s := range h.State() {
			if s.Tensor.DType() == tensor.I64 {
				for _, v := range s.Tensor.I64() {
					all = append(all, float32(v))
				}
				continue
			}
			all = append(all, s.Tensor.F32()...)
		}
	}
	return all
}

// With ratio 1 S²FT is full fine-tuning of its layers, to the bit as long as the sums
// have the same order.
func TestS2FTOfEverythingIsFullTuning(t *testing.T) {
	targets := []string{"o_proj", "down_proj", "v_proj", "up_proj"}
	whole, partial, arranged := newTiny(t), newTiny(t), newTiny(t)
	for _, p := range whole.Params() {
		p.Part = grad.Part{}
	}
	layers, err := Select(whole.Linears(), targets)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		l.Weight.Params()[0].Part = grad.Whole
	}
	o := NewS2FT()
	o.Ratio = 1
	if _, err := Attach(partial, named(t, "s2ft"), o, targets, 1); err != nil {
		t.Fatal(err)
	}
	want, got := steps(t, whole, 6), steps(t, partial, 6)
	for i := range want {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("%s differs by %g", whole.Linears()[i].Name, distance(got[i], want[i]))
		}
	}
	a, err := Attach(arranged, named(t, "s2ft"), o, targets, 1)
	if err != nil {
		t.Fatal(err)
	}
	train6(t, arranged, a, &optim.AdamW{Decay: 0.1})
	for i, l := range arranged.Linears() {
		w, err := nn.Materialize(l.Weight)
		if err != nil {
			t.Fatal(err)
		}
		if d := distance(w.F32(), want[i]); d > 1e-4 {
			t.Errorf("%s differs by %g when it was arranged", l.Name, d)
		}
	}
}

// Training on the permuted model ends where training in the original order does.
func TestS2FTTrainsTheSameWhereverItStands(t *testing.T) {
	for _, choice := range []string{"random", "weight", "activation", "product", "gradient"} {
		o := NewS2FT()
		o.Ratio, o.Choice = 0.3, choice
		m, plain := newTiny(t), newTiny(t)
		a, err := Attach(m, named(t, "s2ft"), o, nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		train6(t, m, a, &optim.AdamW{Decay: 0.1})
		b, err := Attach(plain, named(t, "s2ft"), o, nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		for i, h := range b.Holds { // the same choice, not permuted
			if err := h.(*slice).train(a.Holds[i].(*slice).index); err != nil {
				t.Fatal(err)
			}
		}
		want := steps(t, plain, 6)
		for i, l := range m.Linears() {
			w, err := nn.Materialize(l.Weight)
			if err != nil {
				t.Fatal(err)
			}
			if d := distance(w.F32(), want[i]); d > 1e-4 {
				t.Errorf("%s: %s differs by %g", choice, l.Name, d)
			}
		}
	}
}

// Channel 7 of the first MLP and query head 2 are made to stand out, in weight or in
// what flows through; large chooses them, small does not.
func TestS2FTChoices(t *testing.T) {
	for _, choice := range []string{"weight", "activation", "product", "gradient"} {
		for _, end := range []string{"large", "small"} {
			m := newTiny(t)
			b := m.Layers[0]
			up, down, o, v := b.Up.Weight.Params()[0].Value.F32(), b.Down.Weight.Params()[0].Value.F32(), b.O.Weight.Params()[0].Value.F32(), b.V.Weight.Params()[0].Value.F32()
			const big = 30
			if choice == "weight" {
				for row := range 16 {
					down[row*24+7] *= big
					for c := range 4 {
						o[row*16+2*4+c] *= big
					}
				}
			} else {
				for c := range 16 {
					up[7*16+c] *= big
				}
				for i := range 4 * 16 { // the second pair of heads shares values
					v[4*16+i] *= big
				}
			}
			opt := NewS2FT()
			opt.Ratio, opt.Choice, opt.End = 0.25, choice, end
			a, err := Attach(m, named(t, "s2ft"), opt, []string{"o_proj", "down_proj", "v_proj"}, 1)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Prepare(t.Context(), Setup{Model: m, Batches: func(n int) ([]train.Batch, error) { return slices.Repeat([]train.Batch{repeat{m}}, n), nil }}); err != nil {
				t.Fatal(err)
			}
			has := map[string]bool{}
			for i, l := range a.Layers[:3] {
				s := a.Holds[i].(*slice)
				switch l {
				case b.Down:
					has["channel"] = slices.Contains(s.index, 7)
					if len(s.index) != 6 {
						t.Errorf("%d channels train, want a quarter of 24", len(s.index))
					}
				case b.O:
					has["head"] = s.index[0] >= 8
					if len(s.index) != 4 || s.index[0]%4 != 0 || s.index[3] != s.index[0]+3 {
						t.Errorf("columns %v train, want those of one head", s.index)
					}
				case b.V:
					has["shared"] = s.index[0] >= 4
				}
			}
			large := end == "large"
			if has["channel"] != large || has["head"] != large || has["shared"] != large {
				t.Errorf("%s, %s: %v", choice, end, has)
			}
		}
	}
}

// Where three pairs of heads share keys and values, the chosen heads fill whole pairs
// before they reach into another.
func TestS2FTKeepsGroupsTogether(t *testing.T) {
	for seed := range uint64(20) {
		c := &coupling{heads: 6, groups: 3, width: 2, columns: &nn.Linear{Name: "o"}}
		score, err := NewS2FT().score(c, seed)
		if err != nil {
			t.Fatal(err)
		}
		c.sort(score, false)
		for c.count = 1; c.count <= 6; c.count++ {
			groups := map[int]int{}
			for _, h := range c.order[:c.count] {
				groups[h/2]++
			}
			if len(groups) != (c.count+1)/2 {
				t.Fatalf("%d heads %v are in %d groups", c.count, c.order[:c.count], len(groups))
			}
			rows := c.chosen(true)
			for g := range groups {
				if !slices.Contains(rows, 2*g) {
					t.Fatalf("heads %v train with rows %v of v", c.order[:c.count], rows)
				}
			}
		}
	}
}

// At rank 8 a block of the bundled base's shape trains exactly as many entries as LoRA:
// 8·3456 = 144 columns of 192, 32 or 64 of them heads.
func TestS2FTMatchesLoRA(t *testing.T) {
	m, err := model.NewLlama(&model.Config{ModelType: "llama", VocabSize: 9, HiddenSize: 192, IntermediateSize: 512, Layers: 1, Heads: 6, KVHeads: 3, HeadDim: 32,
		MaxPositions: 8, NormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu", TieEmbeddings: true}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Attach(m, named(t, "s2ft"), NewS2FT(), nil, 1); err != nil {
		t.Fatal(err)
	}
	if n := train.Trainable(m.Params()); n != 8*3456 {
		t.Errorf("%d entries train, LoRA of rank 8 has %d", n, 8*3456)
	}
}

// tuned returns a folder with an adapter on the tiny model, and the logits it gives.
func tuned(t *testing.T, seed uint64, targets []string) (string, []float32) {
	t.Helper()
	m := newTiny(t)
	o := NewS2FT()
	o.Ratio = 0.4
	a, err := Attach(m, named(t, "s2ft"), o, targets, seed)
	if err != nil {
		t.Fatal(err)
	}
	stir(a)
	dir := filepath.Join(t.TempDir(), fmt.Sprint("adapter", seed))
	if err := a.Save(dir, "base"); err != nil {
		t.Fatal(err)
	}
	return dir, logits(m)
}

// Adapters go in, out and change places, and out is exact; served side by side, every
// sequence gets what its own adapter gives.
func TestS2FTAdaptersFuseSwitchAndServe(t *testing.T) {
	dirA, wantA := tuned(t, 1, nil)
	dirB, wantB := tuned(t, 2, []string{"o_proj", "down_proj", "v_proj", "gate_proj"})
	m := newTiny(t)
	base := logits(m)
	open := func(dir string) *Slices {
		s, err := OpenSlices(dir, m)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, b := open(dirA), open(dirB)
	check := func(what string, want []float32, tolerance float64) {
		t.Helper()
		if d := distance(logits(m), want); d > tolerance {
			t.Errorf("%s: logits differ by %g", what, d)
		}
	}
	fuse := func(s *Slices) {
		t.Helper()
		if err := s.Fuse(m); err != nil {
			t.Fatal(err)
		}
	}
	fuse(a)
	check("a fused", wantA, 1e-5)
	if err := a.Fuse(m); err == nil {
		t.Error("an adapter is fused twice")
	}
	a.Unfuse()
	check("a taken out", base, 0)
	fuse(b)
	check("b fused", wantB, 1e-5)
	b.Unfuse()
	check("b taken out", base, 0)
	fuse(a)
	fuse(b)
	b.Unfuse()
	a.Unfuse()
	check("both taken out", base, 0)

	server := Serve(m, a, b)
	check("served without a route", base, 0)
	vocab := m.Config.VocabSize
	for _, r := range [][2]int{{0, 1}, {1, 0}, {-1, 1}, {0, 0}} { // of the two sequences, 5 and 6 long
		route := append(slices.Repeat([]int{r[0]}, 5), slices.Repeat([]int{r[1]}, 6)...)
		if err := server.Route(route); err != nil {
			t.Fatal(err)
		}
		all := map[int][]float32{-1: base, 0: wantA, 1: wantB}
		check(fmt.Sprint("served ", r), append(slices.Clone(all[r[0]][:5*vocab]), all[r[1]][5*vocab:]...), 1e-5)
	}
	if err := server.Route([]int{2}); err == nil {
		t.Error("a row is routed to no adapter")
	}
	server.Close()
	check("after serving", base, 0)
}

func TestS2FTRefuses(t *testing.T) {
	fail := func(m Model, says string, targets ...string) {
		t.Helper()
		if _, err := Attach(m, named(t, "s2ft"), NewS2FT(), targets, 1); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want one that says %s", err, says)
		}
	}
	fail(newTiny(t), "q_proj has no heads or channels to choose", "q_proj")
	packed := newTiny(t)
	pack(t, packed)
	fail(packed, "rows of layer model.layers.0.self_attn.v_proj cannot train", "v_proj")
	src, err := checkpoint.OpenFolder("../../engine/model/testdata/parity/gpt2")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	gpt, err := model.LoadCausal(src.Config, src, model.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fail(gpt, "c_attn has no heads or channels to choose", "c_attn")
	dir, _ := tuned(t, 1, nil)
	if _, err := OpenSlices(dir, gpt); err == nil || !strings.Contains(err.Error(), "belong to no layer") {
		t.Errorf("an adapter of another model: %v", err)
	}
	if err := (&S2FT{Ratio: 2, Choice: "best", End: "middle"}).Validate(); err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("four wrong settings: %v", err)
	}
}
