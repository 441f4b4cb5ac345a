package stats

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
)

// Zeros says what becomes of a part of 0, whose logarithm a composition cannot have.
type Zeros string

// The ways of dealing with zeros.
const (
	RefuseZeros  Zeros = "refuse"
	ReplaceZeros Zeros = "replace" // multiplicative replacement
)

// zeroShare is the part of a column's smallest positive share that stands for its zeros:
// 65 % of a detection limit distorts covariances least (Martín-Fernández et al. 2003,
// Mathematical Geology 35).
const zeroShare = 0.65

// Composition is rows of parts of a whole, of which only ratios count: a row times any
// positive number is the same.
type Composition struct {
	CLR      *mat.Dense // [n, D] log(x_i) − mean of the row's logs
	Mean     []float64  // [D] of its columns
	Replaced int        // zeros that were replaced
}

// NewComposition takes logarithms of ratios. Rows need not sum to 1; every part must be
// positive, or 0 where zeros are replaced: by 0.65 of the smallest positive share of its
// column, the row's other parts shrinking alike so that their ratios stay.
func NewComposition(x *mat.Dense, zeros Zeros) (*Composition, error) {
	n, d := x.Dims()
	if d < 3 {
		return nil, fmt.Errorf("stats: a composition of %d parts; partial correlations need 3: %w", d, ErrData)
	}
	if err := finite(x); err != nil {
		return nil, err
	}
	if zeros != RefuseZeros && zeros != ReplaceZeros {
		return nil, optionsError("composition", []string{fmt.Sprintf("zeros is %q, want %s or %s", zeros, RefuseZeros, ReplaceZeros)})
	}
	for i := range n {
		row := x.RawRowView(i)
		for j, v := range row {
			if v < 0 {
				return nil, &RowError{i, j, v, "is negative, and no part of a whole"}
			}
			if v == 0 && zeros == RefuseZeros {
				return nil, &RowError{i, j, v, "has no logarithm; replace zeros (zeros=replace) or leave the row or the part out"}
			}
		}
		if floats.Sum(row) == 0 {
			return nil, &RowError{i, -1, 0, "is all zeros"}
		}
	}
	limits, err := smallestShares(x)
	if err != nil {
		return nil, err
	}
	c := &Composition{CLR: mat.NewDense(n, d, nil), Mean: make([]float64, d)}
	for i := range n {
		c.logs(x.RawRowView(i), c.CLR.RawRowView(i), limits)
		floats.AddScaled(c.Mean, 1/float64(n), c.CLR.RawRowView(i))
	}
	return c, nil
}

// smallestShares returns each part's smallest positive share of its row.
func smallestShares(x *mat.Dense) ([]float64, error) {
	n, d := x.Dims()
	limits := make([]float64, d)
	for j := range limits {
		limits[j] = math.Inf(1)
	}
	for i := range n {
		row := x.RawRowView(i)
		sum := floats.Sum(row)
		for j, v := range row {
			if v > 0 {
				limits[j] = math.Min(limits[j], v/sum)
			}
		}
	}
	for j, l := range limits {
		if math.IsInf(l, 1) {
			return nil, &ColumnError{j, -1, "is 0 in every row; leave the part out"}
		}
	}
	return limits, nil
}

// logs sets dst to the row's centred logs.
func (c *Composition) logs(row, dst, limits []float64) {
	sum, given := floats.Sum(row), 0.0
	for j, v := range row {
		if v == 0 {
			given += zeroShare * limits[j]
		}
	}
	for j, v := range row {
		if v == 0 {
			dst[j] = math.Log(zeroShare * limits[j])
			c.Replaced++
			continue
		}
		dst[j] = math.Log(v/sum) + math.Log1p(-given)
	}
	floats.AddConst(-floats.Sum(dst)/float64(len(dst)), dst)
}

// Covariance is Γ, the covariance of the centred logs with n − 1, whose rows sum to 0.
func (c *Composition) Covariance() *mat.SymDense {
	n, d := c.CLR.Dims()
	g := mat.NewSymDense(d, nil)
	z := make([]float64, d)
	for i := range n {
		floats.SubTo(z, c.CLR.RawRowView(i), c.Mean)
		for a := range d {
			for b := a; b < d; b++ {
				g.SetSym(a, b, g.At(a, b)+z[a]*z[b]/float64(n-1))
			}
		}
	}
	return g
}
