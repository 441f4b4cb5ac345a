package adapt

import (
	"context"
	"math"
	"testing"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
	"tare/method/optim"
)

// On W = Σ s_k u_k v_kᵀ the trained part is the first terms, each vector up to a sign
// that the two share, and the residual the others.
func TestSORSAStartsFromThePrincipalTriplets(t *testing.T) {
	const out, in, r = 12, 20, 3
	spectrum := []float64{9, 5, 3, 2, 1, 0.5}
	l := &nn.Linear{Name: "w", Weight: nn.NewDense("w.weight", known(out, in, spectrum))}
	hold, err := (&SORSA{Rank: r}).Attach(l, 1)
	if err != nil {
		t.Fatal(err)
	}
	w := hold.(*sorsaWeight)
	for k := range r {
		if s := float64(w.e.Value.F32()[k]); math.Abs(s-spectrum[k]) > 1e-5 {
			t.Errorf("s[%d] = %g, want %g", k, s, spectrum[k])
		}
		sign := math.Copysign(1, float64(w.p.Value.F32()[k])*cosine(out, k, 0))
		for j := range in {
			if got, want := float64(w.q.Value.F32()[k*in+j]), sign*cosine(in, k, j); math.Abs(got-want) > 1e-5 {
				t.Errorf("V[%d, %d] = %g, want %g", j, k, got, want)
			}
		}
		for p := range out {
			if got, want := float64(w.p.Value.F32()[p*r+k]), sign*cosine(out, k, p); math.Abs(got-want) > 1e-5 {
				t.Errorf("U[%d, %d] = %g, want %g", p, k, got, want)
			}
		}
	}
	if d := distance(w.residual.F32(), known(out, in, append([]float64{0, 0, 0}, spectrum[r:]...)).F32()); d > 1e-5 {
		t.Errorf("the residual differs by %g", d)
	}
}

// With √s merged into both factors SORSA is PiSSA: the factors of the start are the
// same up to a sign, and a PiSSA that holds the trained ones computes the same.
func TestSORSAWithMergedValuesIsPiSSA(t *testing.T) {
	m, n := newTiny(t), newTiny(t)
	a := attach(t, m, named(t, "sorsa"))
	b, err := Attach(n, named(t, "pissa"), &PiSSA{Rank: 4}, testTargets, 7)
	if err != nil {
		t.Fatal(err)
	}
	merge := func() (worst float64) {
		for i, h := range a.Holds {
			s, p := h.(*sorsaWeight), b.Holds[i].(*pissaWeight)
			r, in := s.rank(), s.q.Value.Dim(1)
			was := [2]*tensor.Tensor{p.a.Value.Clone(), p.b.Value.Clone()}
			for j, v := range s.q.Value.F32() {
				p.a.Value.F32()[j] = v * float32(math.Sqrt(float64(s.e.Value.F32()[j/in])))
			}
			for j, v := range s.p.Value.F32() {
				p.b.Value.F32()[j] = v * float32(math.Sqrt(float64(s.e.Value.F32()[j%r])))
			}
			worst = max(worst, distance(p.a.Value.F32(), was[0].F32()), distance(p.b.Value.F32(), was[1].F32()))
		}
		return worst
	}
	if d := merge(); d > 1e-5 {
		t.Errorf("the factors of the start differ by %g", d)
	}
	stir(a)
	merge()
	if d := distance(logits(n), logits(m)); d > 1e-5 {
		t.Errorf("logits differ by %g", d)
	}
	if hooks := (&SORSA{Rank: 4}).Hooks(a, Setup{}); hooks != nil {
		t.Errorf("γ = 0 has hooks %v", hooks)
	}
}

// U = c·orthonormal in one of 2·layers matrices deviates by |c² − 1|·√r; the loss gains
// γ/η of the mean, whose gradient is 4U(UᵀU − I)/(2‖UᵀU − I‖) of that.
func TestSORSARegulariser(t *testing.T) {
	m := newTiny(t)
	a := attach(t, m, named(t, "sorsa"))
	w := a.Holds[1].(*sorsaWeight)
	for i := range w.p.Value.F32() {
		w.p.Value.F32()[i] *= 2
	}
	hook := (&SORSA{Rank: 4, Gamma: 0.3}).Hooks(a, Setup{})[0].(train.Penalizer)
	l := &train.Loop{Tape: grad.NewTape(nil), Options: train.Options{LR: 0.05}}
	const matrices, r = 12, 4
	penalty := hook.Penalty(l, l.Tape)
	if got, want := float64(penalty.Data[0]), 0.3/0.05*3*math.Sqrt(r)/matrices; math.Abs(got-want) > 1e-4 {
		t.Errorf("penalty %g, want %g", got, want)
	}
	u := w.p.Value.Clone().F32()
	if err := l.Tape.Backward(penalty, func(p *grad.Param, g *tensor.Tensor) error {
		if p != w.p {
			return nil
		}
		want := make([]float32, len(u)) // UᵀU − I = 3I and its length 3√r
		for i, v := range u {
			want[i] = 6.0 / matrices * 2 * 3 * v / (3 * 2)
		}
		if d := distance(g.F32(), want); d > 1e-4 {
			t.Errorf("gradient differs by %g", d)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// The stronger the regulariser, the nearer the vectors stay to orthonormal.
func TestSORSAStaysNearOrthonormal(t *testing.T) {
	last := math.Inf(1)
	for _, gamma := range []float64{0, 1e-3, 1e-2, 1e-1} {
		m := newTiny(t)
		o := &SORSA{Rank: 4, Gamma: gamma}
		a, err := Attach(m, named(t, "sorsa"), o, testTargets, 7)
		if err != nil {
			t.Fatal(err)
		}
		if d := o.Figures(a)["deviation from orthonormality"]; d > 1e-5 {
			t.Errorf("the start deviates by %g", d)
		}
		first := lossOf(m)
		loop := &train.Loop{Task: repeat{m}, Params: m.Params(), Optimizer: &optim.AdamW{}, Tape: grad.NewTape(nil),
			Options: train.Options{Steps: 40, LR: 1e-2}, Hooks: o.Hooks(a, Setup{Steps: 40})}
		if err := loop.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		d := o.Figures(a)["deviation from orthonormality"]
		if !(d < last && lossOf(m) < first) {
			t.Errorf("γ = %g: deviation %g after %g, loss from %g to %g", gamma, d, last, first, lossOf(m))
		}
		last = d
	}
}

func TestSORSASaysAllThatIsWrong(t *testing.T) {
	wantErrors(t, (&SORSA{Rank: 0, Gamma: -1}).Validate(), "rank 0", "gamma -1")
	m := newTiny(t)
	_, err := Attach(m, named(t, "sorsa"), &SORSA{Rank: 20}, testTargets, 1)
	wantErrors(t, err, "rank 20", "q_proj")
}
