package optimize

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// Linear is the regularised loss of a linear model, f(X) = Σ_r φ(a_rᵀ X; y_r) + ½ Ridge ‖X‖²
// with rows a_r of A [m, p] and C outputs a row. Coordinate j C + c of x is X_jc.
//
//	squares   φ = ½ (z − y)²,                           C = 1, Hessian 1
//	logistic  φ = log(1 + e^{−y z}), y = ±1,            C = 1, Hessian s(1 − s) ≤ ¼
//	softmax   φ = −z_y + log Σ_c e^{z_c}, y in 0 … C−1,  Hessian diag π − π πᵀ ≤ ½ (I − 11ᵀ/C)
//
// the last bound being Böhning's (1992).
type Linear struct {
	Loss    string // squares, logistic or softmax
	Classes int    // of softmax
	Ridge   float64

	columns [][]float64 // [p][m]; columns' rows of 0 are left out by support
	support [][]int     // [p]
	y       []float64
	m, c    int

	x, z    []float64 // z [m, C] = A X
	slopes  []float64 // [m, C] φ'
	curves  []float64 // [m, C, C] φ'', filled when a Hessian asks
	stale   bool      // slopes
	old     bool      // curves
	scratch []float64
}

// NewLinear makes the loss of a linear model on rows of a.
func NewLinear(loss string, a *mat.Dense, y []float64, classes int, ridge float64) (*Linear, error) {
	m, p := a.Dims()
	l := &Linear{Loss: loss, Classes: classes, Ridge: ridge, y: y, m: m, c: 1}
	if loss == "softmax" {
		l.c = classes
	}
	if loss != "squares" && loss != "logistic" && loss != "softmax" || len(y) != m || l.c < 1 || !(ridge >= 0) {
		return nil, fmt.Errorf("optimize: linear model: %w: loss %q of %d classes, ridge %v, %d rows and %d responses", ErrData, loss, classes, ridge, m, len(y))
	}
	for r, v := range y {
		bad := math.IsNaN(v) || math.IsInf(v, 0)
		bad = bad || loss == "logistic" && v != 1 && v != -1
		bad = bad || loss == "softmax" && (v != math.Trunc(v) || v < 0 || v >= float64(classes))
		if bad {
			return nil, fmt.Errorf("optimize: linear model: %w: row %d has response %v, which %s does not know", ErrData, r+1, v, loss)
		}
	}
	for j := range p {
		column := mat.Col(nil, j, a)
		var rows []int
		for r, v := range column {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return nil, fmt.Errorf("optimize: linear model: %w: row %d, column %d is %v", ErrData, r+1, j+1, v)
			}
			if v != 0 {
				rows = append(rows, r)
			}
		}
		l.columns, l.support = append(l.columns, column), append(l.support, rows)
	}
	l.scratch = make([]float64, m*l.c)
	l.Reset(make([]float64, p*l.c))
	return l, nil
}

// Dim implements [Smooth].
func (l *Linear) Dim() int { return len(l.columns) * l.c }

// Reset implements [Smooth].
func (l *Linear) Reset(x []float64) {
	l.x, l.z = make([]float64, len(x)), make([]float64, l.m*l.c)
	l.slopes, l.curves = make([]float64, l.m*l.c), make([]float64, l.m*l.c*l.c)
	all := make([]int, len(x))
	for i := range all {
		all[i] = i
	}
	l.Move(all, x)
}

// Move implements [Smooth].
func (l *Linear) Move(block []int, d []float64) {
	l.stale, l.old = true, true
	for b, i := range block {
		l.x[i] += d[b]
		column, c := l.columns[i/l.c], i%l.c
		for _, r := range l.support[i/l.c] {
			l.z[r*l.c+c] += column[r] * d[b]
		}
	}
}

// Value implements [Smooth].
func (l *Linear) Value() float64 {
	var sum float64
	for _, x := range l.x {
		sum += l.Ridge * x * x / 2
	}
	for r, y := range l.y {
		switch l.Loss {
		case "squares":
			sum += (l.z[r] - y) * (l.z[r] - y) / 2
		case "logistic":
			t := -y * l.z[r]
			sum += max(t, 0) + math.Log1p(math.Exp(-math.Abs(t)))
		default:
			z := l.z[r*l.c : (r+1)*l.c]
			top, total := z[0], 0.0
			for _, v := range z {
				top = max(top, v)
			}
			for _, v := range z {
				total += math.Exp(v - top)
			}
			sum += top + math.Log(total) - z[int(y)]
		}
	}
	return sum
}

// slope fills φ' of all rows.
func (l *Linear) slope() {
	if !l.stale {
		return
	}
	l.stale = false
	for r, y := range l.y {
		switch l.Loss {
		case "squares":
			l.slopes[r] = l.z[r] - y
		case "logistic":
			l.slopes[r] = -y / (1 + math.Exp(y*l.z[r]))
		default:
			l.softmax(r, l.slopes[r*l.c:(r+1)*l.c])
			l.slopes[r*l.c+int(y)]--
		}
	}
}

// softmax puts a row's π into dst.
func (l *Linear) softmax(r int, dst []float64) {
	z := l.z[r*l.c : (r+1)*l.c]
	top, total := z[0], 0.0
	for _, v := range z {
		top = max(top, v)
	}
	for c, v := range z {
		dst[c] = math.Exp(v - top)
		total += dst[c]
	}
	for c := range dst {
		dst[c] /= total
	}
}

// curve fills φ” of all rows.
func (l *Linear) curve() {
	if !l.old {
		return
	}
	l.old = false
	p := make([]float64, l.c)
	for r := range l.m {
		switch l.Loss {
		case "squares":
			l.curves[r] = 1
		case "logistic":
			s := 1 / (1 + math.Exp(-l.z[r]))
			l.curves[r] = s * (1 - s)
		default:
			l.softmax(r, p)
			at := l.curves[r*l.c*l.c : (r+1)*l.c*l.c]
			for c, v := range p {
				for e, u := range p {
					at[c*l.c+e] = -v * u
				}
				at[c*l.c+c] += v
			}
		}
	}
}

// ceiling is the bound on φ” between outputs c and e.
func (l *Linear) ceiling(c, e int) float64 {
	switch l.Loss {
	case "squares":
		return 1
	case "logistic":
		return 0.25
	}
	v := -0.5 / float64(l.c)
	if c == e {
		v += 0.5
	}
	return v
}

// Gradient implements [Smooth].
func (l *Linear) Gradient(dst []float64, block []int) {
	l.slope()
	for b, i := range block {
		column, c := l.columns[i/l.c], i%l.c
		sum := l.Ridge * l.x[i]
		for _, r := range l.support[i/l.c] {
			sum += column[r] * l.slopes[r*l.c+c]
		}
		dst[b] = sum
	}
}

// Hessian implements [Smooth].
func (l *Linear) Hessian(dst []float64, block []int) {
	l.curve()
	cc := l.c * l.c
	l.pairs(dst, block, func(a, b []float64, rows []int, c, e int) (sum float64) {
		for _, r := range rows {
			sum += a[r] * b[r] * l.curves[r*cc+c*l.c+e]
		}
		return sum
	})
}

// Bound implements [Smooth].
func (l *Linear) Bound(dst []float64, block []int) {
	l.pairs(dst, block, func(a, b []float64, rows []int, c, e int) (sum float64) {
		for _, r := range rows {
			sum += a[r] * b[r]
		}
		return sum * l.ceiling(c, e)
	})
}

// pairs fills a symmetric matrix of a block from products of columns.
func (l *Linear) pairs(dst []float64, block []int, product func(a, b []float64, rows []int, c, e int) float64) {
	n := len(block)
	for p, i := range block {
		for q, j := range block[:p+1] {
			v := product(l.columns[i/l.c], l.columns[j/l.c], l.support[i/l.c], i%l.c, j%l.c)
			if i == j {
				v += l.Ridge
			}
			dst[p*n+q], dst[q*n+p] = v, v
		}
	}
}

// BoundTimes implements [Smooth].
func (l *Linear) BoundTimes(dst []float64, block []int, d []float64) {
	clear(l.scratch)
	for b, i := range block {
		column, c := l.columns[i/l.c], i%l.c
		for _, r := range l.support[i/l.c] {
			l.scratch[r*l.c+c] += column[r] * d[b]
		}
	}
	for i := range dst {
		column, c := l.columns[i/l.c], i%l.c
		var sum float64
		for _, r := range l.support[i/l.c] {
			for e, v := range l.scratch[r*l.c : (r+1)*l.c] {
				sum += column[r] * l.ceiling(c, e) * v
			}
		}
		dst[i] = sum
	}
	for b, i := range block {
		dst[i] += l.Ridge * d[b]
	}
}
