package stats

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// The estimates are statsmodels', on a survey of 944 rows and 7 classes that
// parity/ordinal.py wrote down.
func TestOrdinalIsStatsmodels(t *testing.T) {
	raw, err := os.ReadFile("testdata/ordinal.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		X             [][]float64
		Y             []int
		Alpha, Beta   []float64
		LogLikelihood float64 `json:"log_likelihood"`
		Logistic      struct {
			Alpha         float64
			Beta          []float64
			LogLikelihood float64 `json:"log_likelihood"`
		}
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	x := mat.NewDense(len(want.X), len(want.X[0]), nil)
	for i, row := range want.X {
		x.SetRow(i, row)
	}
	close := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-5*math.Max(1, math.Abs(want)) {
			t.Errorf("%s is %v, statsmodels has %v", what, got, want)
		}
	}
	m, err := NewProportionalOdds().Fit(t.Context(), x, want.Y, 7)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range want.Alpha {
		close("α", m.Alpha[k], v)
	}
	for j, v := range want.Beta {
		close("β", m.Beta[0][j], v)
	}
	close("log-likelihood", m.LogLikelihood, want.LogLikelihood)

	o := NewPresto() // differences beyond any price are proportional odds
	o.Base, o.Lambda = 0, 10
	far, err := o.Fit(t.Context(), x, want.Y, 7)
	if err != nil {
		t.Fatal(err)
	}
	for j, v := range want.Beta {
		close("PRESTO's β at λ → ∞", far.Beta[5][j], v)
	}

	l, err := NewLogistic().Fit(t.Context(), x, want.Y, 7)
	if err != nil {
		t.Fatal(err)
	}
	close("logistic α", l.Alpha[0], want.Logistic.Alpha)
	for j, v := range want.Logistic.Beta {
		close("logistic β", l.Beta[0][j], v)
	}
	close("logistic log-likelihood", l.LogLikelihood, want.Logistic.LogLikelihood)
}
