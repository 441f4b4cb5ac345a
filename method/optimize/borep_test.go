package optimize_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"gonum.org/v1/gonum/floats"

	"tare/method/optimize"
)

// y moves in every I-th iteration only and by at most R, x by η exactly.
func TestBOREPMovesOnSchedule(t *testing.T) {
	q := newQuadratic(rand.New(rand.NewPCG(11, 1)), 3, 4)
	q.noise = 0.1
	o := optimize.NewBOREP()
	o.Eta, o.Gamma, o.Period, o.Radius, o.Epochs, o.MaxIter = 0.03, 0.2, 3, 0.05, 0, 20
	x, y := []float64{2, -1, 1}, []float64{9, 9, -9, 9}
	lastX, lastY := x, y
	o.Watch = func(s optimize.BilevelStep) {
		if d := floats.Distance(s.X, lastX, 2); math.Abs(d-o.Eta) > 1e-12 {
			t.Errorf("iteration %d: x moves by %g", s.Iteration, d)
		}
		moved := floats.Distance(s.Y, lastY, 2)
		if want := s.Iteration%3 == 0; want != (moved > 0) || moved > o.Radius+1e-12 {
			t.Errorf("iteration %d: y moves by %g", s.Iteration, moved)
		}
		if s.Iteration == 0 && math.Abs(moved-o.Radius) > 1e-12 { // y* is far
			t.Errorf("the first update moves y by %g, want to the ball's border", moved)
		}
		lastX, lastY = append([]float64(nil), s.X...), append([]float64(nil), s.Y...)
	}
	if _, err := o.Minimize(t.Context(), q, x, y); err != nil {
		t.Fatal(err)
	}
}

// With I = N = 1 and without normalisation the method is the recursion of MA-SOBA in which
// each of y, the average and x uses what is newest.
func TestBOREPReducesToMovingAverage(t *testing.T) {
	q := newQuadratic(rand.New(rand.NewPCG(12, 1)), 3, 4)
	const eta, beta, gamma, nu = 0.05, 0.8, 0.1, 0.15
	limits := optimize.BilevelLimits{MaxIter: 25, Seed: 1}
	start := []float64{2, -1, 1}
	for _, newest := range []bool{true, false} {
		x, y := append([]float64(nil), start...), make([]float64, 4)
		m, z := make([]float64, 3), make([]float64, 4)
		gx, gy, jv, hv, low := make([]float64, 3), make([]float64, 4), make([]float64, 3), make([]float64, 4), make([]float64, 4)
		for range limits.MaxIter {
			_ = q.Lower(nil, x, y, low)
			if newest {
				floats.AddScaled(y, -gamma, low)
			}
			_, _ = q.Upper(nil, x, y, gx, gy)
			_ = q.Product(nil, x, y, z, hv, jv)
			if !newest {
				floats.AddScaled(x, -eta, m)
				floats.AddScaled(y, -gamma, low)
			}
			for i := range m {
				m[i] = beta*m[i] + (1-beta)*(gx[i]-jv[i])
			}
			for i := range z {
				z[i] += nu * (gy[i] - hv[i])
			}
			if newest {
				floats.AddScaled(x, -eta, m)
			}
		}
		var s bilevelSolver = &optimize.MASOBA{Eta: eta, Beta: beta, Gamma: gamma, Nu: nu, BilevelLimits: limits}
		if newest {
			s = &optimize.BOREP{Eta: eta, Beta: beta, Gamma: gamma, Nu: nu, Period: 1, Steps: 1, FirstEpoch: 1, BilevelLimits: limits}
		}
		r, err := s.Minimize(t.Context(), q, start, make([]float64, 4))
		if err != nil {
			t.Fatal(err)
		}
		if floats.Distance(r.X, x, 2) > 1e-12 || floats.Distance(r.Y, y, 2) > 1e-12 {
			t.Errorf("newest %v: %v, %v; the recursion gives %v, %v", newest, r.X, r.Y, x, y)
		}
	}
}

// Epochs of ½y² from y = 1: two steps of ½, whose mean is 3/8, and four of ¼.
func TestBOREPRefinement(t *testing.T) {
	q := newQuadratic(rand.New(rand.NewPCG(13, 1)), 1, 1)
	q.h.Set(0, 0, 1)
	q.b.Set(0, 0, 0)
	q.c.SetVec(0, 0)
	o := optimize.NewBOREP()
	o.Gamma, o.Epochs, o.FirstEpoch, o.MaxIter, o.Period = 0.5, 2, 2, 2, 100
	o.Radius, o.Steps = 1e-12, 1 // the update at k = 0 leaves y where it is
	r, err := o.Minimize(t.Context(), q, []float64{1}, []float64{1})
	if err != nil {
		t.Fatal(err)
	}
	want := 0.375 * (0.75 + math.Pow(0.75, 2) + math.Pow(0.75, 3) + math.Pow(0.75, 4)) / 4
	if math.Abs(r.Y[0]-want) > 1e-11 {
		t.Errorf("refined to %g, want %g", r.Y[0], want)
	}
	o.RefineRadius = 0.01 // the balls' borders: 1 − 0.01, then less 0.01/√2
	if r, err = o.Minimize(t.Context(), q, []float64{1}, []float64{1}); err != nil {
		t.Fatal(err)
	}
	if want := 1 - 0.01 - 0.01/math.Sqrt2; math.Abs(r.Y[0]-want) > 1e-11 {
		t.Errorf("refined to %g in balls, want %g", r.Y[0], want)
	}
}

func TestBOREPValidates(t *testing.T) {
	o := optimize.NewBOREP()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	o.Beta, o.Period, o.Steps, o.Radius, o.Epochs, o.Nu = 1, 0, 0, -1, 40, math.Inf(1)
	err := o.Validate()
	for _, want := range []string{"beta is 1", "period is 0", "steps is 0", "radius is -1", "epochs is 40", "nu is +Inf"} {
		if !errors.Is(err, optimize.ErrOptions) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
