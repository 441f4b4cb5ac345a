package stats

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat/distuv"
)

// PartialCorrelation measures what two parts of a composition have to do with each other
// beyond all other parts (Erb 2020, paper 40). Of a whole only ratios are known, and a
// ratio needs a reference; but the residual of log(x_i/x_j), once all other parts and the
// reference are adjusted for, is the same for every reference. With Γ [D, D] the
// covariance of the centred logs and P = Γ⁺ its Moore–Penrose inverse,
//
//	r_ik = −P_ik / √(P_ii P_kk),   partial variance of i: 1/P_ii.
//
// P without row and column j is the inverse of the covariance of log(x_i/x_j), for any j.
// Like all partial correlations these change when a part is left out.
//
// Of the D−2 other parts one is the reference, so D−3 log-ratios are adjusted for: Fisher's
// z = artanh r has standard error 1/√(n−D), and Student's t of r has n−D+1 degrees of
// freedom, which the p-values are from; Permute takes them from permuted residuals
// instead.
//
// With fewer rows than parts, or Shrink, Γ is first moved towards that of a composition
// whose parts are independent before they become shares (the target of Jin, Notredame and
// Erb 2022), G·diag(v)·G with G = I − 11ᵀ/D and v from Γ's diagonal, by the intensity
// that Schäfer and Strimmer (2005) estimate. P-values then say nothing and are left out.
type PartialCorrelation struct {
	Zeros   string  `yaml:"zeros" json:"zeros" help:"Parts of 0: refuse, or replace by 0.65 of the part's smallest share." default:"refuse"`
	Shrink  float64 `yaml:"shrink" json:"shrink" help:"Shrinkage towards unrelated parts, 0 (none) to 1; -1 estimates it where there are no more rows than parts, -2 always." default:"-1"`
	Level   float64 `yaml:"level" json:"level" help:"False discovery rate (Benjamini and Hochberg) of the graph's edges." default:"0.05"`
	Permute int     `yaml:"permute" json:"permute" help:"Permutations that p-values are counted from; 0 takes Student's t." default:"0"`
	Seed    uint64  `yaml:"-" json:"seed"` // of the permutations
}

// NewPartialCorrelation returns the defaults.
func NewPartialCorrelation() *PartialCorrelation {
	return &PartialCorrelation{Zeros: string(RefuseZeros), Shrink: -1, Level: 0.05, Seed: 1}
}

// Validate says all that is wrong at once.
func (o *PartialCorrelation) Validate() error {
	var w []string
	if z := Zeros(o.Zeros); z != RefuseZeros && z != ReplaceZeros {
		w = append(w, fmt.Sprintf("zeros is %q, want %s or %s", o.Zeros, RefuseZeros, ReplaceZeros))
	}
	if !(o.Shrink >= 0 && o.Shrink <= 1 || o.Shrink == -1 || o.Shrink == -2) {
		w = append(w, fmt.Sprintf("shrink is %g, want 0 to 1, -1 or -2", o.Shrink))
	}
	if !(o.Level > 0 && o.Level < 1) {
		w = append(w, fmt.Sprintf("level is %g, want between 0 and 1", o.Level))
	}
	if o.Permute < 0 {
		w = append(w, fmt.Sprintf("permute is %d, want 0 or more", o.Permute))
	}
	return optionsError("partial correlation", w)
}

// PartialCorrelations are the results.
type PartialCorrelations struct {
	Rows         int         `json:"rows"`
	Mean         []float64   `json:"mean"`       // [D] of the centred logs
	Covariance   [][]float64 `json:"covariance"` // Γ, after shrinkage
	Precision    [][]float64 `json:"precision"`  // P
	R            [][]float64 `json:"r"`
	Variance     []float64   `json:"variance"`                // 1/P_ii
	Pairs        []Pair      `json:"pairs"`                   // i < k, in order
	Freedom      int         `json:"freedom,omitempty"`       // of Student's t
	Intensity    float64     `json:"intensity"`               // of shrinkage
	Replaced     int         `json:"replaced"`                // zeros
	Permutations int         `json:"permutations,omitempty"`  // that p-values are from
	Limits       []float64   `json:"smallest_share"`          // [D] that new rows' zeros are replaced by
	SingularNote string      `json:"singular_note,omitempty"` // why there are no p-values
}

// Pair is two parts. P and Q (adjusted for the number of pairs) are nil where shrinkage
// leaves them without meaning.
type Pair struct {
	I    int      `json:"i"`
	K    int      `json:"k"`
	R    float64  `json:"r"`
	Low  *float64 `json:"low,omitempty"` // of the 95 % interval by Fisher's z
	High *float64 `json:"high,omitempty"`
	P    *float64 `json:"p,omitempty"`
	Q    *float64 `json:"q,omitempty"`
	Edge bool     `json:"edge"` // Q is at the level or below; under shrinkage, never
}

// Fit measures the parts of rows.
func (o *PartialCorrelation) Fit(ctx context.Context, x *mat.Dense) (*PartialCorrelations, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	n, d := x.Dims()
	if n < 3 {
		return nil, fmt.Errorf("stats: partial correlation: %d rows, too few: %w", n, ErrData)
	}
	c, err := NewComposition(x, Zeros(o.Zeros))
	if err != nil {
		return nil, err
	}
	if err := c.varied(); err != nil {
		return nil, err
	}
	limits, err := smallestShares(x)
	if err != nil {
		return nil, err
	}
	m := &PartialCorrelations{Rows: n, Mean: c.Mean, Replaced: c.Replaced, Limits: limits}
	gamma := c.Covariance()
	switch {
	case o.Shrink >= 0:
		m.Intensity = o.Shrink
	case o.Shrink == -2 || n <= d:
		m.Intensity = shrinkage(c, gamma, unrelated(gamma))
	}
	if m.Intensity > 0 {
		gamma = blend(gamma, unrelated(gamma), m.Intensity)
	}
	p, err := pseudoInverse(gamma)
	if err != nil {
		return nil, err
	}
	m.fill(gamma, p)
	if m.Intensity > 0 {
		m.SingularNote = "the covariance was shrunk, so that coefficients have no known distribution"
		return m, nil
	}
	if n <= d+1 {
		m.SingularNote = fmt.Sprintf("%d rows leave no degrees of freedom beside %d parts", n, d)
		return m, nil
	}
	return m, o.test(ctx, m, c)
}

// varied refuses a part whose share of the others never changes, and two that keep one
// ratio.
func (c *Composition) varied() error {
	n, d := c.CLR.Dims()
	for a := range d {
		for b := range a {
			var ss float64
			mean := c.Mean[a] - c.Mean[b]
			for i := range n {
				v := c.CLR.At(i, a) - c.CLR.At(i, b) - mean
				ss += v * v
			}
			if !(ss > 1e-20*float64(n)*(1+mean*mean)) {
				return &ColumnError{a, b, "keeps one ratio in every row with"}
			}
		}
	}
	return nil
}

// pseudoInverse inverts Γ off the direction 1 that it lacks:
//
//	Γ⁺ = (Γ + s·11ᵀ/D)⁻¹ − 11ᵀ/(s·D)
//
// for any s > 0; the mean of Γ's diagonal keeps the numbers of one size.
func pseudoInverse(gamma *mat.SymDense) (*mat.SymDense, error) {
	d := gamma.SymmetricDim()
	s := mat.Trace(gamma) / float64(d)
	full := mat.NewSymDense(d, nil)
	for a := range d {
		for b := a; b < d; b++ {
			full.SetSym(a, b, gamma.At(a, b)+s/float64(d))
		}
	}
	var chol mat.Cholesky
	if !chol.Factorize(full) || chol.Cond() > 1e14 {
		return nil, fmt.Errorf("stats: partial correlation: the log-ratios are linearly dependent: there are too few rows, or a part is a product of powers of others; shrink (shrink=-2) or leave parts out: %w", ErrData)
	}
	p := mat.NewSymDense(d, nil)
	if err := chol.InverseTo(p); err != nil {
		return nil, fmt.Errorf("stats: partial correlation: %w", err)
	}
	for a := range d {
		for b := a; b < d; b++ {
			p.SetSym(a, b, p.At(a, b)-1/(s*float64(d)))
		}
	}
	return p, nil
}

// fill takes coefficients from P.
func (m *PartialCorrelations) fill(gamma, p *mat.SymDense) {
	d := p.SymmetricDim()
	for a := range d {
		g, q, r := make([]float64, d), make([]float64, d), make([]float64, d)
		for b := range d {
			g[b], q[b] = gamma.At(a, b), p.At(a, b)
			r[b] = -p.At(a, b) / math.Sqrt(p.At(a, a)*p.At(b, b))
		}
		r[a] = 1
		m.Covariance, m.Precision, m.R = append(m.Covariance, g), append(m.Precision, q), append(m.R, r)
		m.Variance = append(m.Variance, 1/p.At(a, a))
		for b := a + 1; b < d; b++ {
			m.Pairs = append(m.Pairs, Pair{I: a, K: b, R: r[b]})
		}
	}
}

// test adds intervals, p-values and edges.
func (o *PartialCorrelation) test(ctx context.Context, m *PartialCorrelations, c *Composition) error {
	n, d := c.CLR.Dims()
	m.Freedom = n - d + 1
	t := distuv.StudentsT{Sigma: 1, Nu: float64(m.Freedom)}
	width := distuv.UnitNormal.Quantile(0.975) / math.Sqrt(float64(n-d))
	for at := range m.Pairs {
		pair := &m.Pairs[at]
		z := math.Atanh(pair.R)
		low, high := math.Tanh(z-width), math.Tanh(z+width)
		p := 2 * t.CDF(-math.Abs(pair.R)*math.Sqrt(float64(m.Freedom)/(1-pair.R*pair.R)))
		pair.Low, pair.High, pair.P = &low, &high, &p
	}
	if o.Permute > 0 {
		m.Permutations = o.Permute
		if err := o.permute(ctx, m, c); err != nil {
			return err
		}
	}
	adjust(m.Pairs, o.Level)
	return nil
}

// adjust sets q-values by Benjamini and Hochberg: the least of p·m/rank over larger ranks.
func adjust(pairs []Pair, level float64) {
	order := make([]int, len(pairs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case *pairs[a].P < *pairs[b].P:
			return -1
		case *pairs[a].P > *pairs[b].P:
			return 1
		}
		return 0
	})
	least := 1.0
	for rank := len(order); rank > 0; rank-- {
		pair := &pairs[order[rank-1]]
		least = math.Min(least, *pair.P*float64(len(order))/float64(rank))
		q := least
		pair.Q, pair.Edge = &q, q <= level
	}
}

// permute counts, for each pair, how often residuals of the one part in random order and
// adjusted again are correlated as much with the other's (Freedman and Lane 1983).
func (o *PartialCorrelation) permute(ctx context.Context, m *PartialCorrelations, c *Composition) error {
	n, d := c.CLR.Dims()
	rng := rand.New(rand.NewPCG(o.Seed, 40))
	shuffled := make([]float64, n)
	for at := range m.Pairs {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("stats: partial correlation: stopped at pair %d of %d: %w", at+1, len(m.Pairs), err)
		}
		pair := &m.Pairs[at]
		basis := c.others(pair.I, pair.K)
		reference := (pair.I + 1) % d
		for reference == pair.I || reference == pair.K {
			reference = (reference + 1) % d
		}
		a, b := c.ratio(pair.I, reference), c.ratio(pair.K, reference)
		project(basis, a)
		project(basis, b)
		observed := math.Abs(floats.Dot(a, b) / floats.Norm(a, 2))
		hits := 1
		for range o.Permute {
			copy(shuffled, a)
			rng.Shuffle(n, func(x, y int) { shuffled[x], shuffled[y] = shuffled[y], shuffled[x] })
			project(basis, shuffled)
			if math.Abs(floats.Dot(shuffled, b)/floats.Norm(shuffled, 2)) >= observed-1e-12 {
				hits++
			}
		}
		p := float64(hits) / float64(1+o.Permute)
		pair.P = &p
	}
	return nil
}

// ratio returns log(x_i/x_j) of all rows.
func (c *Composition) ratio(i, j int) []float64 {
	n, _ := c.CLR.Dims()
	out := make([]float64, n)
	for q := range out {
		out[q] = c.CLR.At(q, i) - c.CLR.At(q, j)
	}
	return out
}

// others returns an orthonormal basis of the constant and the log-ratios among all parts
// but i and k.
func (c *Composition) others(i, k int) [][]float64 {
	n, d := c.CLR.Dims()
	one := make([]float64, n)
	floats.AddConst(1/math.Sqrt(float64(n)), one)
	basis := [][]float64{one}
	first := -1
	for j := range d {
		if j == i || j == k {
			continue
		}
		if first < 0 {
			first = j
			continue
		}
		v := c.ratio(j, first)
		project(basis, v)
		project(basis, v) // twice is enough
		floats.Scale(1/floats.Norm(v, 2), v)
		basis = append(basis, v)
	}
	return basis
}

// project takes from v what lies along an orthonormal basis.
func project(basis [][]float64, v []float64) {
	for _, b := range basis {
		floats.AddScaled(v, -floats.Dot(b, v), b)
	}
}

// Residuals returns, for each row, how far each part is from what the ratios of the others
// foretell, in partial standard deviations, e_i = (P(z − mean))_i / √P_ii, and the
// row's squared Mahalanobis distance zᵀPz.
func (m *PartialCorrelations) Residuals(x *mat.Dense, zeros Zeros) (distance []float64, e *mat.Dense, err error) {
	n, d := x.Dims()
	if d != len(m.Mean) {
		return nil, nil, fmt.Errorf("stats: the model has %d parts, the rows have %d: %w", len(m.Mean), d, ErrData)
	}
	if err := finite(x); err != nil {
		return nil, nil, err
	}
	c := &Composition{}
	e, distance = mat.NewDense(n, d, nil), make([]float64, n)
	z := make([]float64, d)
	for i := range n {
		for j, v := range x.RawRowView(i) {
			if v < 0 || v == 0 && zeros == RefuseZeros {
				return nil, nil, &RowError{i, j, v, "is no part of a whole with a logarithm"}
			}
		}
		if floats.Sum(x.RawRowView(i)) == 0 {
			return nil, nil, &RowError{i, -1, 0, "is all zeros"}
		}
		c.logs(x.RawRowView(i), z, m.Limits)
		floats.Sub(z, m.Mean)
		for a := range d {
			pz := floats.Dot(m.Precision[a], z)
			distance[i] += z[a] * pz
			e.Set(i, a, pz*math.Sqrt(m.Variance[a]))
		}
	}
	return distance, e, nil
}
