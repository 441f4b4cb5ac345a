package adapt

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
	"tare/method/optim"
)

// transforms are the combinations that the table of the family does not try.
var transforms = map[string]Transformed{
	"ring alone":         {Transform: ringed, Residual: absent, Modes: 3, Bond: 2, Block: 2},
	"ring of two":        {Transform: ringed, Residual: lowRank, Rank: 2, Alpha: 2, Modes: 2, Bond: 3, Block: 2},
	"train":              {Transform: trained, Residual: absent, Modes: 3, Bond: 2, Block: 2},
	"orthogonal":         {Transform: orthogonal, Residual: absent, Modes: 2, Bond: 1, Block: 8},
	"orthogonal, ring":   {Transform: orthogonal, Residual: ringed, Modes: 3, Bond: 2, Block: 4},
	"ring, ring":         {Transform: ringed, Residual: ringed, Modes: 3, Bond: 2, Block: 2},
	"train residual":     {Transform: absent, Residual: trained, Modes: 3, Bond: 2, Block: 2},
	"magnitude, as DoRA": {Transform: magnitude, Residual: lowRank, Rank: 4, Alpha: 8, Modes: 2, Bond: 1, Block: 2},
	"none, as LoRA":      {Transform: absent, Residual: lowRank, Rank: 4, Alpha: 8, Modes: 2, Bond: 1, Block: 2},
}

// Every combination starts from the base, merges, unmerges, saves, and has the gradient
// of finite differences, but for DoRA's, which is taken with the lengths held.
func TestTransformsAndResiduals(t *testing.T) {
	for name, o := range transforms {
		t.Run(name, func(t *testing.T) {
			m := newTiny(t)
			base := logits(m)
			a, err := Attach(m, named(t, "transformed"), &o, testTargets, 7)
			if err != nil {
				t.Fatal(err)
			}
			if d := distance(logits(m), base); d > 1e-6 {
				t.Errorf("logits move by %g when the method is attached", d)
			}
			stir(a)
			want := logits(m)
			if d := distance(want, base); d < 1e-3 {
				t.Errorf("training moved the logits by %g only", d)
			}
			if o.Transform != magnitude {
				checkAllGradients(t, m, a)
			}
			checkUnmerge(t, a)
			fresh := reopened(t, a)
			if d := distance(logits(fresh), want); d > 0 {
				t.Errorf("logits differ by %g after loading", d)
			}
			if err := a.Merge(); err != nil {
				t.Fatal(err)
			}
			if d := distance(logits(m), want); d > 1e-5 {
				t.Errorf("merging moves the logits by %g", d)
			}
		})
	}
}

func checkAllGradients(t *testing.T, m *model.Llama, a *Adapter) {
	t.Helper()
	got := map[*grad.Param][]float32{}
	tp := grad.NewTape(nil)
	if err := tp.Backward(model.Loss(tp, m, someTokens, someTargets, someSeqs, 10), func(p *grad.Param, g *tensor.Tensor) error {
		got[p] = slices.Clone(g.F32())
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, p := range a.Params() {
		checkGradient(t, m, p, got[p])
	}
}

// checkUnmerge holds what unmerging leaves against the weights before.
func checkUnmerge(t *testing.T, a *Adapter) {
	t.Helper()
	for i, l := range a.Layers {
		before, err := nn.Materialize(a.bases[i])
		if err != nil {
			t.Fatal(err)
		}
		w, err := nn.Materialize(l.Weight)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Holds[i].(Unmerger).Unmerge(w); err != nil {
			t.Fatal(err)
		}
		if d := distance(w.F32(), before.F32()); d > 1e-6 {
			t.Errorf("%s: W is restored to %g", l.Name, d)
		}
	}
}

// The products by modes against the sum over all bonds of the definition.
func TestRingIsTheSumOverItsBonds(t *testing.T) {
	for _, c := range []struct {
		outs, ins     []int
		bond, closing int
	}{{[]int{2, 3}, []int{4, 5}, 2, 2}, {[]int{3, 2, 4}, []int{2, 5, 3}, 2, 2}, {[]int{2, 2, 3}, []int{2, 3, 2}, 3, 1}, {[]int{2, 3, 2, 2}, []int{3, 2, 2, 2}, 2, 2}, {[]int{4, 2}, []int{1, 6}, 1, 1}} {
		g := newRing("w.core_", c.outs, c.ins, c.bond, c.closing, 3)
		for k, core := range g.cores {
			for i := range core.Value.F32() {
				core.Value.F32()[i] = float32(math.Sin(float64(5*i*i + 3*i + k)))
			}
		}
		d := len(c.ins)
		at := func(k, a, j, x, b int) float64 { // G_k[a, j, x, b] in the layout of the comment
			bonds := c.bond
			switch k {
			case 0:
				return float64(g.cores[0].Value.F32()[((j*c.closing+a)*bonds+b)*c.ins[0]+x])
			case d - 1:
				return float64(g.cores[k].Value.F32()[((j*c.closing+b)*c.ins[k]+x)*bonds+a])
			}
			return float64(g.cores[k].Value.F32()[((j*bonds+b)*c.ins[k]+x)*bonds+a])
		}
		var path func(k, first, a int, j, x []int) float64
		path = func(k, first, a int, j, x []int) float64 {
			if k == d-1 {
				return at(k, a, j[k], x[k], first)
			}
			var sum float64
			for b := range c.bond {
				sum += at(k, a, j[k], x[k], b) * path(k+1, first, b, j, x)
			}
			return sum
		}
		in, out := 1, 1
		for k := range d {
			in, out = in*c.ins[k], out*c.outs[k]
		}
		want := make([]float32, in*out)
		for i := range in {
			for p := range out {
				var sum float64
				for first := range c.closing {
					sum += path(0, first, first, digits(p, c.outs), digits(i, c.ins))
				}
				want[i*out+p] = float32(sum)
			}
		}
		if dist := distance(columns(in, g.apply).F32(), want); dist > 1e-6 {
			t.Errorf("%v from %v: differs by %g", c.outs, c.ins, dist)
		}
	}
}

// Many rows are multiplied by the ring's matrix, few run through its cores one by one:
// values and gradients of both are the same.
func TestManyRowsOfARingAreAsFew(t *testing.T) {
	for _, c := range []struct{ outs, ins []int }{{[]int{2, 3, 2}, []int{3, 2, 2}}, {[]int{3, 2}, []int{2, 5}}} {
		g := newRing("ring.", c.outs, c.ins, 2, 2, 3)
		rng := rand.New(rand.NewPCG(4, 4))
		for _, core := range g.cores {
			for i := range core.Value.F32() {
				core.Value.F32()[i] = float32(rng.NormFloat64())
			}
		}
		in := 1
		for _, i := range c.ins {
			in *= i
		}
		rows := 3 * in
		x := make([]float32, rows*in)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
		}
		// run returns Σ y² and its gradients in blocks of some rows at a time.
		run := func(block int) (sum float64, grads [][]float32) {
			grads = make([][]float32, len(g.cores))
			for lo := 0; lo < rows; lo += block {
				tp := grad.NewTape(nil)
				y := g.times(tp, tp.Const(x[lo*in:(lo+block)*in], block, in))
				loss := tp.Sum(tp.Mul(y, y))
				sum += float64(loss.Data[0])
				if err := tp.Backward(loss, func(p *grad.Param, d *tensor.Tensor) error {
					at := slices.Index(g.cores, p)
					if grads[at] == nil {
						grads[at] = make([]float32, d.Len())
					}
					for i, v := range d.F32() {
						grads[at][i] += v
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			}
			return sum, grads
		}
		many, manyGrads := run(rows)
		few, fewGrads := run(in / 2)
		if math.Abs(many-few) > 1e-5*few {
			t.Errorf("%v from %v: %g of all rows, %g of few at a time", c.outs, c.ins, many, few)
		}
		for k := range g.cores {
			if dist := distance(manyGrads[k], fewGrads[k]); dist > 1e-5 {
				t.Errorf("%v from %v: gradients of core %d differ by %g", c.outs, c.ins, k+1, dist)
			}
		}
	}
}

// digits writes n in the mixed base, the first digit the largest.
func digits(n int, base []int) []int {
	d := make([]int, len(base))
	for k := len(base) - 1; k >= 0; k-- {
		d[k], n = n%base[k], n/base[k]
	}
	return d
}

// As LoRA and as DoRA it has the same bits as they after training.
func TestTransformedTrainsAsLoRAAndDoRA(t *testing.T) {
	for special, name := range map[string]string{"none, as LoRA": "lora", "magnitude, as DoRA": "dora"} {
		run := func(method string, o Options) []float32 {
			m := newTiny(t)
			if _, err := Attach(m, named(t, method), o, testTargets, 7); err != nil {
				t.Fatal(err)
			}
			loop := &train.Loop{Task: repeat{m}, Params: m.Params(), Optimizer: &optim.AdamW{}, Tape: grad.NewTape(nil), Options: train.Options{Steps: 10, LR: 1e-2}}
			if err := loop.Run(context.Background()); err != nil {
				t.Fatal(err)
			}
			return logits(m)
		}
		o := transforms[special]
		if !slices.Equal(run("transformed", &o), run(name, family[name].options())) {
			t.Errorf("%s trains to other bits than %s", special, name)
		}
	}
}

// An orthogonal transform keeps the lengths of W's rows and their angles: W T Tᵀ Wᵀ = W Wᵀ.
func TestOrthogonalTransformKeepsAngles(t *testing.T) {
	m := newTiny(t)
	o := transforms["orthogonal"]
	a, err := Attach(m, named(t, "transformed"), &o, testTargets, 7)
	if err != nil {
		t.Fatal(err)
	}
	stir(a)
	for i, l := range a.Layers {
		var grams [2][]float32
		for k, w := range []nn.Weight{a.bases[i], l.Weight} {
			dense, err := nn.Materialize(w)
			if err != nil {
				t.Fatal(err)
			}
			rows := wide(dense.F32(), dense.Dim(0), dense.Dim(1))
			var gram mat.Dense
			gram.Mul(rows, rows.T())
			grams[k] = narrow(&gram)
		}
		if d := distance(grams[1], grams[0]); d > 1e-5 {
			t.Errorf("%s: W Wᵀ changes by %g", l.Name, d)
		}
	}
}

func TestTransformedSaysAllThatIsWrong(t *testing.T) {
	wantErrors(t, (&Transformed{Transform: "turn", Residual: "rank", Modes: 1, Block: 1}).Validate(), `transform "turn"`, `residual "rank"`, "modes 1 and bond 0", "block 1")
	wantErrors(t, (&Transformed{Transform: absent, Residual: absent, Modes: 2, Bond: 1, Block: 2}).Validate(), "nothing would train")
	wantErrors(t, (&Transformed{Transform: magnitude, Residual: ringed, Modes: 2, Bond: 1, Block: 2}).Validate(), "magnitude")
	wantErrors(t, (&Transformed{Transform: ringed, Residual: lowRank, Modes: 2, Bond: 1, Block: 2}).Validate(), "rank 0")
	o := NewTransformed()
	o.Transform, o.Block = orthogonal, 7
	m := newTiny(t)
	want := logits(m)
	_, err := Attach(m, named(t, "transformed"), o, testTargets, 1)
	wantErrors(t, err, "block 7 does not divide the 16 inputs of layer model.layers.0.self_attn.q_proj", "is 8")
	if _, err := modes(37, 3); err == nil || !strings.Contains(err.Error(), "37 does not split into 3 modes; the nearest that does is 36") {
		t.Errorf("a prime dimension: %v", err)
	}
	for n, want := range map[int][]int{192: {4, 6, 8}, 512: {8, 8, 8}, 16: {2, 2, 4}} {
		if got, err := modes(n, 3); err != nil || !slices.Equal(got, want) {
			t.Errorf("%d is split as %v, %v; want %v", n, got, err, want)
		}
	}
	if d := distance(logits(m), want); d != 0 {
		t.Errorf("a refused method moves the logits by %g", d)
	}
}
