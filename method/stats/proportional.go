package stats

import (
	"context"

	"gonum.org/v1/gonum/mat"
)

// ProportionalOdds is McCullagh's model (1980), by maximum likelihood: one hyperplane,
// shifted by a cut for each pair of neighbouring classes,
//
//	P(y ≤ k | x) = σ(α_k + βᵀx).
//
// R's polr and statsmodels' OrderedModel write α_k − βᵀx: their β is −β. A column that
// separates the classes, repeats another or is a sum of others is refused.
type ProportionalOdds struct {
	Solver `yaml:",inline"`
}

// NewProportionalOdds returns the defaults.
func NewProportionalOdds() *ProportionalOdds { return &ProportionalOdds{NewSolver()} }

// Validate says all that is wrong at once.
func (o *ProportionalOdds) Validate() error { return optionsError("proportional odds", o.wrong()) }

// Fit fits classes 0 … classes−1 to rows.
func (o *ProportionalOdds) Fit(ctx context.Context, x *mat.Dense, y []int, classes int) (*Ordinal, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return likeliest(ctx, "proportional odds", o.Solver, x, y, classes, true)
}

// NonProportional has separate weights for each cut, by maximum likelihood, held to
// positive probabilities of all classes on the rows fitted. It is PRESTO with λ = 0.
type NonProportional struct {
	Solver `yaml:",inline"`
}

// NewNonProportional returns the defaults.
func NewNonProportional() *NonProportional { return &NonProportional{NewSolver()} }

// Validate says all that is wrong at once.
func (o *NonProportional) Validate() error { return optionsError("non-proportional odds", o.wrong()) }

// Fit fits classes 0 … classes−1 to rows.
func (o *NonProportional) Fit(ctx context.Context, x *mat.Dense, y []int, classes int) (*Ordinal, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return likeliest(ctx, "non-proportional odds", o.Solver, x, y, classes, false)
}

// Logistic is logistic regression by maximum likelihood of the last class against all
// others, P(y = K | x) = σ(−α − βᵀx): what a rare class is commonly fitted with. With two
// classes it is plain logistic regression.
type Logistic struct {
	Solver `yaml:",inline"`
}

// NewLogistic returns the defaults.
func NewLogistic() *Logistic { return &Logistic{NewSolver()} }

// Validate says all that is wrong at once.
func (o *Logistic) Validate() error { return optionsError("logistic", o.wrong()) }

// Fit fits the last of classes 0 … classes−1. The model has two classes: the rest, and
// the last.
func (o *Logistic) Fit(ctx context.Context, x *mat.Dense, y []int, classes int) (*Ordinal, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	last := make([]int, len(y))
	for i, k := range y {
		if k < 0 || k >= classes {
			return nil, &RowError{i, -1, float64(k), "has a class out of range"}
		}
		if k == classes-1 {
			last[i] = 1
		}
	}
	m, err := likeliest(ctx, "logistic", o.Solver, x, last, 2, true)
	if c, ok := err.(*ClassError); ok && c.Class == 1 {
		c.Class = classes - 1
	}
	return m, err
}

// likeliest is the estimate without a price, with proportional odds or without.
func likeliest(ctx context.Context, method string, s Solver, x *mat.Dense, y []int, classes int, proportional bool) (*Ordinal, error) {
	r, err := newOrdinalRows(x, y, classes)
	if err != nil {
		return nil, err
	}
	if err := r.enough(proportional); err != nil {
		return nil, err
	}
	if err := r.independent(); err != nil {
		return nil, err
	}
	f := newOrdinalFit(r, s, method)
	f.hold(proportional)
	if !proportional { // from where the order holds by itself
		f.hold(true)
		if err := f.solve(ctx); err != nil {
			return nil, err
		}
		f.hold(false)
	}
	if err := f.solve(ctx); err != nil {
		return nil, err
	}
	m := f.result()
	return &m, nil
}
