package stats

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// ordinalRows are the rows that an ordinal model is fitted to, each column centred and
// scaled to standard deviation 1.
type ordinalRows struct {
	n, p, cuts    int
	x             []float64 // [n, p], standardised
	columns       []float64 // [p, n], the same
	y             []int     // [n], classes from 0
	counts        []int     // rows of each class
	centre, scale []float64 // [p]
}

// newOrdinalRows checks and standardises rows whose classes are 0 … classes−1.
func newOrdinalRows(x *mat.Dense, y []int, classes int) (*ordinalRows, error) {
	n, p := x.Dims()
	if len(y) != n {
		return nil, fmt.Errorf("stats: %d rows and %d classes: %w", n, len(y), ErrData)
	}
	if classes < 2 {
		return nil, fmt.Errorf("stats: the response has %d class, two are needed: %w", classes, ErrData)
	}
	if err := finite(x); err != nil {
		return nil, err
	}
	r := &ordinalRows{n: n, p: p, cuts: classes - 1, x: make([]float64, n*p), y: y,
		counts: make([]int, classes), centre: make([]float64, p), scale: make([]float64, p)}
	for i, k := range y {
		if k < 0 || k >= classes {
			return nil, &RowError{i, -1, float64(k), fmt.Sprintf("has class %d of %d", k+1, classes)}
		}
		r.counts[k]++
	}
	for k, c := range r.counts {
		if c == 0 {
			return nil, &ClassError{k, "has no example; leave it out or merge it with a neighbour"}
		}
	}
	for i := range n {
		copy(r.x[i*p:(i+1)*p], x.RawRowView(i))
	}
	return r, r.standardise()
}

// standardise centres and scales the columns.
func (r *ordinalRows) standardise() error {
	for i := range r.n {
		floats.AddScaled(r.centre, 1/float64(r.n), r.row(i))
	}
	for i := range r.n {
		row := r.row(i)
		floats.Sub(row, r.centre)
		for j, v := range row {
			r.scale[j] += v * v / float64(r.n)
		}
	}
	for j := range r.scale {
		r.scale[j] = math.Sqrt(r.scale[j])
		if !(r.scale[j] > 1e-12*(1+math.Abs(r.centre[j]))) {
			return &ColumnError{j, -1, fmt.Sprintf("is constant (%g); leave it out", r.centre[j])}
		}
		if math.IsInf(r.scale[j], 0) {
			return &ColumnError{j, -1, "has values whose squares overflow; choose a larger unit"}
		}
	}
	for i := range r.n {
		floats.Div(r.row(i), r.scale)
	}
	r.columns = make([]float64, r.n*r.p)
	for i := range r.n {
		for j, v := range r.row(i) {
			r.columns[j*r.n+i] = v
		}
	}
	return r.distinct()
}

func (r *ordinalRows) row(i int) []float64 { return r.x[i*r.p : (i+1)*r.p] }

func (r *ordinalRows) column(j int) []float64 { return r.columns[j*r.n : (j+1)*r.n] }

// distinct refuses a column that repeats another, up to unit, origin and sign. Columns
// whose products with a random vector differ in size differ; only the others are
// compared.
func (r *ordinalRows) distinct() error {
	rng := rand.New(rand.NewPCG(1, 2))
	mark := make([]float64, r.p)
	for i := range r.n {
		floats.AddScaled(mark, rng.NormFloat64(), r.row(i))
	}
	order := make([]int, r.p)
	for j := range order {
		order[j], mark[j] = j, math.Abs(mark[j])
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case mark[a] < mark[b]:
			return -1
		case mark[a] > mark[b]:
			return 1
		}
		return a - b
	})
	near := 1e-9 * math.Sqrt(float64(r.n))
	for at, a := range order {
		for _, b := range order[at+1:] {
			if mark[b]-mark[a] > near {
				break
			}
			if dot := floats.Dot(r.column(a), r.column(b)); math.Abs(dot)/float64(r.n) > 1-1e-12 {
				return &ColumnError{max(a, b), min(a, b), "repeats, up to unit and origin,"}
			}
		}
	}
	return nil
}

// independent refuses columns of which one is a sum of the others, by a Cholesky
// factorisation of their correlations: what is left of a column's variance after the
// ones before it must not vanish.
func (r *ordinalRows) independent() error {
	g := make([]float64, r.p*r.p)
	if r.p > 0 {
		weightedGram(g, r.p, r.n, r.columns, r.p, nil, r.columns, r.p)
	}
	for j := range r.p {
		for i := range j {
			s := g[i*r.p+j]
			for k := range i {
				s -= g[k*r.p+i] * g[k*r.p+j]
			}
			g[i*r.p+j] = s / g[i*r.p+i]
		}
		left := 1.0
		for k := range j {
			left -= g[k*r.p+j] * g[k*r.p+j]
		}
		if left < 1e-10 {
			return &ColumnError{j, -1, "is a sum of multiples of columns before it; leave it out"}
		}
		g[j*r.p+j] = math.Sqrt(left)
	}
	return nil
}

// nullAlpha returns the cuts of the model without columns, log(P(y ≤ k) / P(y > k)).
func (r *ordinalRows) nullAlpha() []float64 {
	a := make([]float64, r.cuts)
	below := 0
	for k := range a {
		below += r.counts[k]
		a[k] = math.Log(float64(below) / float64(r.n-below))
	}
	return a
}

// enough refuses fewer rows than there are numbers to estimate without a price.
func (r *ordinalRows) enough(proportional bool) error {
	need := r.cuts + r.p
	if !proportional {
		need = r.cuts * (1 + r.p)
	}
	if r.n <= need {
		return fmt.Errorf("stats: %d rows for %d numbers to estimate; use fewer columns, or a penalty (presto): %w", r.n, need, ErrData)
	}
	return nil
}
