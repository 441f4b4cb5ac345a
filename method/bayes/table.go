package bayes

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Table is a class of conditional distributions, each written out for a few inputs: x is the
// number of an input, from 0.
type Table struct {
	inputs, outcomes int
	logs             [][]float64 // of each hypothesis log p(y|x), at [x·outcomes + y]
}

// NewTable returns the class of hypotheses p(y|x), each given at [x·outcomes + y].
func NewTable(inputs, outcomes int, hypotheses [][]float64) (*Table, error) {
	c := &Table{inputs: inputs, outcomes: outcomes}
	if inputs < 1 || outcomes < 2 || len(hypotheses) == 0 {
		return nil, optionsError("table", []string{fmt.Sprintf("%d hypotheses for %d inputs and %d outcomes", len(hypotheses), inputs, outcomes)})
	}
	for i, h := range hypotheses {
		if len(h) != inputs*outcomes {
			return nil, optionsError("table", []string{fmt.Sprintf("hypothesis %d has %d probabilities, want %d", i+1, len(h), inputs*outcomes)})
		}
		logs := make([]float64, len(h))
		for x := range inputs {
			var sum float64
			for _, p := range h[x*outcomes : (x+1)*outcomes] {
				if !(p >= 0) {
					sum = math.NaN()
				}
				sum += p
			}
			if !(math.Abs(sum-1) < 1e-9) {
				return nil, optionsError("table", []string{fmt.Sprintf("hypothesis %d, input %d: %v are no probabilities", i+1, x+1, h[x*outcomes:(x+1)*outcomes])})
			}
		}
		for j, p := range h {
			logs[j] = math.Log(p)
		}
		c.logs = append(c.logs, logs)
	}
	return c, nil
}

// Distinct writes out what the hypotheses of a class say of the inputs xs, and puts those
// that say the same together: weights are their shares of a uniform prior. A mixture over
// the table by these weights is the mixture over the class, at the cost of its different
// functions alone.
func Distinct(c Class, xs [][]float64) (t *Table, weights []float64) {
	k, m := c.Len(), c.Outcomes()
	t = &Table{inputs: len(xs), outcomes: m}
	all := make([][]float64, len(xs))
	for i, x := range xs {
		all[i] = make([]float64, k*m)
		c.LogProbabilities(all[i], x)
	}
	place := map[string]int{}
	for i := range k {
		row, key := make([]float64, 0, len(xs)*m), []byte(nil)
		for _, table := range all {
			row = append(row, table[i*m:(i+1)*m]...)
		}
		for _, v := range row {
			// sums in another order differ in the last digits
			key = binary.LittleEndian.AppendUint64(key, uint64(int64(math.Round(1e9*max(v, -1e9)))))
		}
		at, known := place[string(key)]
		if !known {
			at = len(t.logs)
			place[string(key)] = at
			t.logs, weights = append(t.logs, row), append(weights, 0)
		}
		weights[at] += 1 / float64(k)
	}
	return t, weights
}

// Len implements [Class].
func (c *Table) Len() int { return len(c.logs) }

// Outcomes implements [Class].
func (c *Table) Outcomes() int { return c.outcomes }

// LogProbabilities implements [Class]. An input that is none of the table's has
// probabilities of NaN, which a mixture refuses.
func (c *Table) LogProbabilities(out, x []float64) {
	at := -1
	if len(x) == 1 && x[0] >= 0 && x[0] < float64(c.inputs) && x[0] == math.Trunc(x[0]) {
		at = int(x[0])
	}
	for i, logs := range c.logs {
		for y := range c.outcomes {
			v := math.NaN()
			if at >= 0 {
				v = logs[at*c.outcomes+y]
			}
			out[i*c.outcomes+y] = v
		}
	}
}
