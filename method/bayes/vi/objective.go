package vi

import (
	"math"

	"tare/engine/grad"
)

// ELBO is E_q[log p(x, y) − log q(x)], a lower bound of log p(y).
func ELBO(model, guide Program) Objective {
	return func(r *Run) *grad.Value { return logWeight(r, model, guide) }
}

// IWELBO is E_q[log 1/n Σ p(x_i, y)/q(x_i)] over n draws, a bound that rises with n from
// the ELBO at 1 (Burda, Grosse and Salakhutdinov 2016).
func IWELBO(model, guide Program, n int) Objective {
	return func(r *Run) *grad.Value {
		if n < 1 {
			r.failf("an IWELBO over %d draws, it needs at least 1: %w", n, ErrSetting)
		}
		weights := make([]*grad.Value, n)
		for i := range weights {
			weights[i] = logWeight(r, model, guide)
		}
		return LogMeanExp(r.Tape(), weights)
	}
}

// logWeight is log p(x, y) − log q(x) of a draw x from q.
func logWeight(r *Run, model, guide Program) *grad.Value {
	x, q := guide.Simulate(r)
	return r.tp.Sub(model.Density(r, x), q)
}

// LogMeanExp is log 1/n Σ e^v of columns [rows or 1, 1], the logarithm of the mean of
// importance weights.
func LogMeanExp(tp *grad.Tape, v []*grad.Value) *grad.Value {
	rows := 1
	for _, x := range v {
		rows = max(rows, x.Rows)
	}
	top := make([]float32, rows)
	for r := range top {
		top[r] = float32(math.Inf(-1))
		for _, x := range v {
			top[r] = max(top[r], float32(entry(x, r, 0)))
		}
	}
	shift := tp.Const(top, rows, 1)
	var sum *grad.Value
	for _, x := range v {
		e := tp.Exp(tp.Sub(x, shift))
		if sum == nil {
			sum = e
		} else {
			sum = tp.Add(sum, e)
		}
	}
	return tp.Add(tp.Add(tp.Log(sum), shift), scalar(tp, -math.Log(float64(len(v)))))
}
