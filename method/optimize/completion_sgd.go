package optimize

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"gonum.org/v1/gonum/floats"
)

// descend is stochastic gradient descent on the same objective, the baseline: over the
// entries in a new random order each sweep,
//
//	e = M_ij − u_iᵀv_j,  u_i ← u_i + η(e v_j − λ u_i/|Ω_i|),  v_j ← v_j + η(e u_i − λ v_j/|Ω^j|)
//
// from normal numbers of which products have the size of the entries. The residual is how
// much the error fell in a sweep, relative to what it was.
func (o *MatrixCompletion) descend(ctx context.Context, c *Completion, entries []Entry) error {
	begun := time.Now()
	rng := rand.New(rand.NewPCG(o.Seed, 29))
	o.scatter(c, entries, rng)
	ofRow, ofColumn := make([]float64, c.Rows), make([]float64, c.Columns)
	order := make([]int32, len(entries))
	for i, e := range entries {
		order[i] = int32(i)
		ofRow[e.Row]++
		ofColumn[e.Column]++
	}
	last := math.Inf(1)
	old := make([]float64, o.Rank)
	for t := 1; t <= o.Sweeps; t++ {
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		var squares float64
		for n, at := range order {
			if n&0xffff == 0 && ctx.Err() != nil {
				return fmt.Errorf("optimize: matrix completion: sweep %d: %w", t, ctx.Err())
			}
			e := entries[at]
			u, v := c.U[int(e.Row)*o.Rank:(int(e.Row)+1)*o.Rank], c.V[int(e.Column)*o.Rank:(int(e.Column)+1)*o.Rank]
			off := e.Value - c.Mean - floats.Dot(u, v)
			squares += off * off
			copy(old, u)
			floats.Scale(1-o.Rate*o.Ridge/ofRow[e.Row], u)
			floats.AddScaled(u, o.Rate*off, v)
			floats.Scale(1-o.Rate*o.Ridge/ofColumn[e.Column], v)
			floats.AddScaled(v, o.Rate*off, old)
		}
		rmse := math.Sqrt(squares / float64(len(entries)))
		if math.IsNaN(rmse) || math.IsInf(rmse, 0) {
			c.Sweeps = nil
			return &StoppedError{"matrix completion", fmt.Sprintf("sgd diverged; lower the rate of %g", o.Rate), t, math.Inf(1), o.Tol}
		}
		s := Sweep{Number: t, RMSE: rmse, Residual: math.Abs(last-rmse) / max(rmse, math.SmallestNonzeroFloat64), Passes: 1, Seconds: time.Since(begun).Seconds()}
		if t == 1 {
			s.Residual = 1
		}
		last = rmse
		c.Sweeps, c.Residual = append(c.Sweeps, s), s.Residual
		if o.Trace != nil {
			o.Trace(s)
		}
		if s.Residual <= o.Tol {
			return nil
		}
	}
	return &StoppedError{"matrix completion", "this is the limit of sweeps; allow more, or a larger tolerance", o.Sweeps, c.Residual, o.Tol}
}

// scatter fills both factors with normal numbers.
func (o *MatrixCompletion) scatter(c *Completion, entries []Entry, rng *rand.Rand) {
	var squares float64
	for _, e := range entries {
		squares += (e.Value - c.Mean) * (e.Value - c.Mean)
	}
	size := math.Sqrt(math.Sqrt(squares/float64(len(entries))) / math.Sqrt(float64(o.Rank)))
	for _, x := range [][]float64{c.U, c.V} {
		for i := range x {
			x[i] = size * rng.NormFloat64()
		}
	}
}
