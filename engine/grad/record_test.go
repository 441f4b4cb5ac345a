package grad_test

import (
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
)

// cheap are operations whose results are made again, each of one matrix x, with what is
// to be held of n rows of d columns beside x.
func cheap(t *testing.T, d int) map[string]struct {
	op   func(tp *grad.Tape, x *grad.Value) *grad.Value
	held func(n int) int
} {
	r := newRand("cheap")
	w, b := newParam(t, "w", normal(r, d, 1), tensor.F32, d), newParam(t, "b", normal(r, d, 1), tensor.F32, d)
	w.Part, b.Part = grad.Whole, grad.Whole
	type row = struct {
		op   func(tp *grad.Tape, x *grad.Value) *grad.Value
		held func(n int) int
	}
	none := func(int) int { return 0 }
	return map[string]row{
		"RMSNorm":        {func(tp *grad.Tape, x *grad.Value) *grad.Value { return tp.RMSNorm(x, w, 1e-5) }, func(n int) int { return n }},
		"RMSNormPlusOne": {func(tp *grad.Tape, x *grad.Value) *grad.Value { return tp.RMSNormPlusOne(x, w, 1e-5) }, func(n int) int { return n + d }},
		"LayerNorm":      {func(tp *grad.Tape, x *grad.Value) *grad.Value { return tp.LayerNorm(x, w, b, 1e-5) }, func(n int) int { return 2 * n }},
		"SiLUMul":        {func(tp *grad.Tape, x *grad.Value) *grad.Value { return tp.SiLUMul(x, x) }, none},
		"SiLU":           {func(tp *grad.Tape, x *grad.Value) *grad.Value { return tp.SiLU(x) }, none},
		"GELU":           {func(tp *grad.Tape, x *grad.Value) *grad.Value { return tp.GELU(x) }, none},
		"GELUTanh":       {func(tp *grad.Tape, x *grad.Value) *grad.Value { return tp.GELUTanh(x) }, none},
	}
}

// Between the passes the results are not held, though two layers read them backwards,
// and the gradients have the bits that they have where the results stay.
func TestCheapResultsAreNotHeld(t *testing.T) {
	const n, d = 300, 70
	r := newRand("cheap inputs")
	data, weights := normal(r, n*d, 1), [2][]float32{normal(r, d*d, 0.1), normal(r, d*d, 0.1)}
	for name, c := range cheap(t, d) {
		gradients := func(dropped bool) (all []float32) {
			ledger := &grad.Ledger{}
			tp := grad.NewTape(ledger)
			x := tp.Leaf(append([]float32(nil), data...), n, d)
			layers := func() *grad.Value {
				h := c.op(tp, x)
				var y *grad.Value
				for i, w := range weights {
					p := newParam(t, name+string(rune('0'+i)), w, tensor.F32, d, d)
					p.Part = grad.Whole
					if z := tp.Linear(h, p); y == nil {
						y = z
					} else {
						y = tp.AddTo(z, y)
					}
				}
				return y
			}
			var y *grad.Value
			if dropped {
				y = tp.Scope(layers)
				if held, want := ledger.Now(grad.Activations), int64(4*(n*d+c.held(n))); held != want {
					t.Errorf("%s: %d bytes of activations are held, want %d", name, held, want)
				}
			} else {
				y = layers()
			}
			if err := tp.Backward(tp.Sum(y), func(_ *grad.Param, g *tensor.Tensor) error {
				all = append(all, g.F32()...)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			mustBeClean(t, ledger)
			return append(all, x.Grad()...)
		}
		kept, again := gradients(false), gradients(true)
		if i := differs(again, kept); i >= 0 || len(again) != len(kept) {
			t.Errorf("%s: number %d of %d is %v when the result is made again, %v when it is kept", name, i, len(kept), again[i], kept[i])
		}
	}
}

// Results that are made again may be made of others that are: each makes what it reads
// first.
func TestCheapResultsOfCheapResults(t *testing.T) {
	const n, d, vocab = 40, 24, 11
	r := newRand("chains")
	w, b := newParam(t, "w", normal(r, d, 1), tensor.F32, d), newParam(t, "b", normal(r, d, 1), tensor.F32, d)
	table, last := newParam(t, "table", normal(r, vocab*d, 1), tensor.F32, vocab, d), newParam(t, "last", normal(r, d*d, 0.2), tensor.F32, d, d)
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(r.IntN(vocab))
	}
	for _, p := range []*grad.Param{w, b, table, last} {
		p.Part = grad.Whole
	}
	gradients := func(dropped bool) (all []float32) {
		ledger := &grad.Ledger{}
		tp := grad.NewTape(ledger)
		net := func() *grad.Value {
			x := tp.RMSNorm(tp.LayerNorm(tp.Embed(ids, table), w, b, 1e-5), w, 1e-5)
			return tp.Linear(tp.GELU(tp.SiLUMul(tp.SiLU(x), x)), last)
		}
		y := net
		if dropped {
			y = func() *grad.Value { return tp.Scope(net) }
		}
		if err := tp.Backward(tp.Sum(tp.Tanh(y())), func(_ *grad.Param, g *tensor.Tensor) error {
			all = append(all, g.F32()...)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		mustBeClean(t, ledger)
		return all
	}
	kept, again := gradients(false), gradients(true)
	if i := differs(again, kept); i >= 0 || len(again) != len(kept) {
		t.Errorf("number %d of %d is %v when results are made again, %v when they are kept", i, len(kept), again[i], kept[i])
	}
}
