package optimize

import (
	"fmt"
	"math"
	"slices"
)

// Quadratic is f(x) = ½ xᵀ Q x − cᵀ x + constant with a sparse symmetric Q.
type Quadratic struct {
	columns [][]int
	entries [][]float64
	c       []float64
	add     float64

	x, qx []float64
}

// Pair is an edge of a graph, or an entry of a symmetric matrix; off the diagonal it stands
// for both.
type Pair struct {
	I, J  int
	Value float64
}

// NewQuadratic makes a quadratic of entries, which add up where they meet. Q is to be
// positive semidefinite, which is not checked.
func NewQuadratic(n int, entries []Pair, c []float64, constant float64) (*Quadratic, error) {
	if len(c) != n {
		return nil, fmt.Errorf("optimize: quadratic: %w: %d linear terms for %d coordinates", ErrData, len(c), n)
	}
	q := &Quadratic{columns: make([][]int, n), entries: make([][]float64, n), c: slices.Clone(c), add: constant}
	put := func(i, j int, v float64) {
		if at := slices.Index(q.columns[i], j); at >= 0 {
			q.entries[i][at] += v
			return
		}
		q.columns[i], q.entries[i] = append(q.columns[i], j), append(q.entries[i], v)
	}
	for _, e := range entries {
		if e.I < 0 || e.I >= n || e.J < 0 || e.J >= n || math.IsNaN(e.Value) || math.IsInf(e.Value, 0) {
			return nil, fmt.Errorf("optimize: quadratic: %w: entry %d, %d is %v, of %d coordinates", ErrData, e.I, e.J, e.Value, n)
		}
		put(e.I, e.J, e.Value)
		if e.I != e.J {
			put(e.J, e.I, e.Value)
		}
	}
	q.Reset(make([]float64, n))
	return q, nil
}

// Propagate is label propagation on a graph: nodes whose label is known, ±1 or any number,
// keep it, and those that are not known take the values that make
//
//	½ Σ_edges w_ij (x_i − x_j)²
//
// least. Its coordinates are the unknown nodes, which it lists.
func Propagate(n int, edges []Pair, known map[int]float64) (*Quadratic, []int, error) {
	place := make([]int, n)
	var unknown []int
	for i := range n {
		place[i] = -1
		if _, is := known[i]; !is {
			place[i] = len(unknown)
			unknown = append(unknown, i)
		}
	}
	var entries []Pair
	c, add := make([]float64, len(unknown)), 0.0
	for _, e := range edges {
		if e.I < 0 || e.I >= n || e.J < 0 || e.J >= n || e.I == e.J || !(e.Value >= 0) {
			return nil, nil, fmt.Errorf("optimize: label propagation: %w: edge %d to %d of weight %v, of %d nodes", ErrData, e.I, e.J, e.Value, n)
		}
		i, j := place[e.I], place[e.J]
		switch {
		case i >= 0 && j >= 0:
			entries = append(entries, Pair{i, i, e.Value}, Pair{j, j, e.Value}, Pair{i, j, -e.Value})
		case i >= 0:
			y := known[e.J]
			entries = append(entries, Pair{i, i, e.Value})
			c[i] += e.Value * y
			add += e.Value * y * y / 2
		case j >= 0:
			y := known[e.I]
			entries = append(entries, Pair{j, j, e.Value})
			c[j] += e.Value * y
			add += e.Value * y * y / 2
		default:
			add += e.Value * math.Pow(known[e.I]-known[e.J], 2) / 2
		}
	}
	q, err := NewQuadratic(len(unknown), entries, c, add)
	return q, unknown, err
}

// Dim implements [Smooth].
func (q *Quadratic) Dim() int { return len(q.c) }

// Row implements [Sparse].
func (q *Quadratic) Row(i int) ([]int, []float64) { return q.columns[i], q.entries[i] }

// Reset implements [Smooth].
func (q *Quadratic) Reset(x []float64) {
	q.x, q.qx = make([]float64, len(x)), make([]float64, len(x))
	all := make([]int, len(x))
	for i := range all {
		all[i] = i
	}
	q.Move(all, x)
}

// Move implements [Smooth].
func (q *Quadratic) Move(block []int, d []float64) {
	for m, i := range block {
		q.x[i] += d[m]
		for at, j := range q.columns[i] {
			q.qx[j] += q.entries[i][at] * d[m]
		}
	}
}

// Value implements [Smooth].
func (q *Quadratic) Value() float64 {
	v := q.add
	for i, x := range q.x {
		v += x * (q.qx[i]/2 - q.c[i])
	}
	return v
}

// Gradient implements [Smooth].
func (q *Quadratic) Gradient(dst []float64, block []int) {
	for m, i := range block {
		dst[m] = q.qx[i] - q.c[i]
	}
}

// Hessian implements [Smooth].
func (q *Quadratic) Hessian(dst []float64, block []int) { q.Bound(dst, block) }

// Bound implements [Smooth].
func (q *Quadratic) Bound(dst []float64, block []int) {
	b := len(block)
	clear(dst[:b*b])
	for m, i := range block {
		for at, j := range q.columns[i] {
			if p := slices.Index(block, j); p >= 0 {
				dst[m*b+p] = q.entries[i][at]
			}
		}
	}
}

// BoundTimes implements [Smooth].
func (q *Quadratic) BoundTimes(dst []float64, block []int, d []float64) {
	clear(dst)
	for m, i := range block {
		for at, j := range q.columns[i] {
			dst[j] += q.entries[i][at] * d[m]
		}
	}
}
