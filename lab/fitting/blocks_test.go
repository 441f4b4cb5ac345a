package fitting

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"

	"tare/method/stats"
)

var silent = Run{Seed: 1, Progress: func(int, int, string) {}}

// At orthogonal columns of squared length n the lasso is a soft threshold of each.
func TestLassoIsASoftThreshold(t *testing.T) {
	x := mat.NewDense(4, 2, []float64{1, 1, 1, -1, -1, 1, -1, -1})
	p := &Problem{Names: []string{"a", "b"}, X: x, Response: "y", Y: []float64{10 + 3 + 0.5, 10 + 3 - 0.5, 10 - 3 + 0.5, 10 - 3 - 0.5}}
	o := newLassoOptions()
	o.L1 = 4
	fit, err := o.Fit(context.Background(), p, silent)
	if err != nil {
		t.Fatal(err)
	}
	m := fit.(*lassoModel)
	if math.Abs(m.Weights[0]-2) > 1e-6 || m.Weights[1] != 0 || math.Abs(m.Constant-10) > 1e-6 {
		t.Errorf("weights %v and constant %v, want 2, 0 and 10", m.Weights, m.Constant)
	}
	predicted, err := m.Predict(p)
	if err != nil || math.Abs(predicted.Values[0][0]-12) > 1e-6 {
		t.Errorf("%v, %v: want 12 in the first row", predicted, err)
	}
	again, err := m.Refit(context.Background(), p)
	if err != nil || again.(*lassoModel).Weights[0] != m.Weights[0] {
		t.Errorf("a refit to the same rows gives %v, %v", again, err)
	}
}

// States far apart are told apart, sequence by sequence.
func TestStatesOfSequences(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	p := &Problem{Names: []string{"y"}, X: mat.NewDense(200, 1, nil), Groups: []string{"a", "b"}}
	for i := range 200 {
		p.Group = append(p.Group, i%2) // the sequences alternate in the table
		p.X.Set(i, 0, float64(10*((i/40)%2))+rng.NormFloat64())
	}
	o := &arphmmOptions{ARPHMM: *stats.NewARPHMM()}
	o.States = 2
	fit, err := o.Fit(context.Background(), p, silent)
	if err != nil {
		t.Fatal(err)
	}
	predicted, err := fit.(Predictor).Predict(p)
	if err != nil {
		t.Fatal(err)
	}
	first := predicted.Values[0][0]
	for i, v := range predicted.Values {
		if (v[0] == first) != ((i/40)%2 == 0) {
			t.Fatalf("row %d is in state %v, the first is in %v", i, v[0], first)
		}
	}
}
