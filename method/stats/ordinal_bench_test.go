package stats

import (
	"math/rand/v2"
	"testing"
)

// The path of the paper's size: 2,500 rows, ten columns, four classes.
func BenchmarkPrestoPath(b *testing.B) {
	x, y := drawn(rand.New(rand.NewPCG(1, 1)), 2500, 10, 4, 1)
	o := NewPresto()
	o.Lambdas, o.Tol = 20, 1e-6
	steps := 0
	o.Trace = func(Step) { steps++ }
	for b.Loop() {
		r, err := newOrdinalRows(x, y, 4)
		if err != nil {
			b.Fatal(err)
		}
		f := newOrdinalFit(r, o.Solver, "presto")
		if _, err := o.along(b.Context(), f, o.path(f), nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(steps)/float64(b.N)/20, "steps/λ")
}
