package stats

import (
	"fmt"
	"math"
)

// inLogs is forward and smooth in logarithms, for sequences whose scaled probabilities
// underflow. Transitions that cannot be cost nothing.
func (w *workspace) inLogs(m *HMM, e *emission, s span, g *block) (float64, error) {
	k := w.k
	initial, a := logsOf(m.Initial), make([][]float64, k)
	for i := range a {
		a[i] = logsOf(m.Transition[i])
	}
	var total float64
	term, lb := make([]float64, k), make([]float64, k)
	for t := s.row; t < s.row+s.rows; t++ {
		pred, alpha := w.pred[t*k:t*k+k], w.alpha[t*k:t*k+k]
		w.logRow(e, s, t, lb)
		for j := range k {
			pred[j] = initial[j]
			if t > s.row {
				for i := range k {
					term[i] = w.alpha[(t-1)*k+i] + a[i][j]
				}
				pred[j] = logSum(term)
			}
			alpha[j] = pred[j] + lb[j]
		}
		c := logSum(alpha)
		if math.IsInf(c, -1) {
			return 0, fmt.Errorf("%w: row %d cannot be reached: transitions and plausibilities leave no state for it", ErrData, t-s.row+w.p+1)
		}
		for j := range alpha {
			alpha[j] -= c
		}
		total += c
	}
	for t := s.row + s.rows - 1; t >= s.row; t-- {
		gamma := w.b[t*k : t*k+k]
		if t == s.row+s.rows-1 {
			for j := range gamma {
				gamma[j] = math.Exp(w.alpha[t*k+j])
			}
			continue
		}
		clear(gamma)
		for j, v := range w.b[(t+1)*k : (t+2)*k] {
			if v == 0 {
				continue
			}
			for i := range k {
				if math.IsInf(a[i][j], -1) {
					continue
				}
				x := v * math.Exp(w.alpha[t*k+i]+a[i][j]-w.pred[(t+1)*k+j])
				gamma[i] += x
				g.xi[i*k+j] += x
			}
		}
	}
	for j := range k {
		g.first[j] += w.b[s.row*k+j]
	}
	return total, nil
}

// logRow is a row of log(b ω), less the largest log b of the plausible states, as emit
// counts it.
func (w *workspace) logRow(e *emission, s span, t int, dst []float64) {
	e.logs(dst, w.window(s, t), 1)
	top := math.Inf(-1)
	for j := range dst {
		omega := 1.0
		if w.omega != nil {
			omega = w.omega[t*w.k+j]
		}
		if omega > 0 {
			top = max(top, dst[j])
		}
		dst[j] += math.Log(omega)
	}
	for j := range dst {
		dst[j] -= top
	}
}

func logsOf(p []float64) []float64 {
	out := make([]float64, len(p))
	for i, v := range p {
		out[i] = math.Log(v)
	}
	return out
}

func logSum(v []float64) float64 {
	top := math.Inf(-1)
	for _, x := range v {
		top = max(top, x)
	}
	if math.IsInf(top, -1) {
		return top
	}
	var sum float64
	for _, x := range v {
		if x > top-745 {
			sum += math.Exp(x - top)
		}
	}
	return top + math.Log(sum)
}
