package stats

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"
)

// shares are compositions of n rows and d parts whose logs are mixed from normal draws.
func shares(rng *rand.Rand, n, d int) *mat.Dense {
	mix := mat.NewDense(d, d, nil)
	for a := range d {
		for b := range d {
			mix.Set(a, b, 0.4*rng.NormFloat64())
		}
		mix.Set(a, a, 1)
	}
	x := mat.NewDense(n, d, nil)
	for i := range n {
		z := make([]float64, d)
		for j := range z {
			z[j] = rng.NormFloat64()
		}
		var v mat.VecDense
		v.MulVec(mix, mat.NewVecDense(d, z))
		sum := 0.0
		for j := range d {
			x.Set(i, j, math.Exp(v.AtVec(j)))
			sum += x.At(i, j)
		}
		for j := range d {
			x.Set(i, j, x.At(i, j)/sum)
		}
	}
	return x
}

func partials(t interface{ Fatal(...any) }, x *mat.Dense, o *PartialCorrelation) *PartialCorrelations {
	m, err := o.Fit(context.Background(), x)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// covariance with n − 1, of any matrix's columns.
func covariance(x mat.Matrix) *mat.Dense {
	n, d := x.Dims()
	mean := make([]float64, d)
	for i := range n {
		for j := range d {
			mean[j] += x.At(i, j) / float64(n)
		}
	}
	c := mat.NewDense(n, d, nil)
	c.Apply(func(i, j int, v float64) float64 { return v - mean[j] }, x)
	out := mat.NewDense(d, d, nil)
	out.Mul(c.T(), c)
	out.Scale(1/float64(n-1), out)
	return out
}

// partialFrom are the partial correlations of an inverse covariance.
func partialFrom(p mat.Matrix, a, b int) float64 {
	return -p.At(a, b) / math.Sqrt(p.At(a, a)*p.At(b, b))
}

// Every reference gives the coefficients, as the inverse covariance of its log-ratios.
func TestEveryReferenceAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.IntRange(3, 9).Draw(t, "parts")
		x := shares(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)), 60, d)
		m := partials(t, x, NewPartialCorrelation())
		for j := range d {
			var keep []int
			for k := range d {
				if k != j {
					keep = append(keep, k)
				}
			}
			alr := mat.NewDense(60, d-1, nil)
			alr.Apply(func(i, q int, _ float64) float64 { return math.Log(x.At(i, keep[q]) / x.At(i, j)) }, alr)
			var inverse mat.Dense
			if err := inverse.Inverse(covariance(alr)); err != nil {
				t.Skip("badly conditioned")
			}
			for a := range keep {
				if got, want := m.Variance[keep[a]], 1/inverse.At(a, a); math.Abs(got-want) > 1e-10*want {
					t.Fatalf("reference %d: partial variance of %d is %v, want %v", j, keep[a], got, want)
				}
				for b := range a {
					if got, want := m.R[keep[a]][keep[b]], partialFrom(&inverse, a, b); math.Abs(got-want) > 1e-10 {
						t.Fatalf("reference %d: r of %d and %d is %v, want %v", j, keep[a], keep[b], got, want)
					}
				}
			}
		}
	})
}

// A row in other units is the same row.
func TestScaleOfRowsDoesNotCount(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	x := shares(rng, 50, 5)
	m := partials(t, x, NewPartialCorrelation())
	for i := range 50 {
		by := math.Exp(5 * rng.NormFloat64())
		for j := range 5 {
			x.Set(i, j, by*x.At(i, j))
		}
	}
	scaled := partials(t, x, NewPartialCorrelation())
	for at, pair := range m.Pairs {
		if math.Abs(pair.R-scaled.Pairs[at].R) > 1e-10 || math.Abs(*pair.P-*scaled.Pairs[at].P) > 1e-9 {
			t.Errorf("pair %d: %v, scaled %v", at, pair.R, scaled.Pairs[at].R)
		}
	}
}

// The residuals of two log abundances, after a regression on all other log abundances'
// ratios and on their own mean, the size, are correlated as the coefficient says: the
// size of the whole is controlled for.
func TestAgreesWithAbundancesOfAControlledSize(t *testing.T) {
	const n, d = 80, 5
	rng := rand.New(rand.NewPCG(3, 3))
	x := shares(rng, n, d)
	m := partials(t, x, NewPartialCorrelation())
	logs := mat.NewDense(n, d, nil)
	for i := range n {
		size := 0.7 * rng.NormFloat64() // what the whole weighs, beside the shares
		for j := range d {
			logs.Set(i, j, math.Log(x.At(i, j))+size)
		}
	}
	// The generalised-least-squares size ŝ = 1ᵀΘa / 1ᵀΘ1 leaves residuals a − ŝ whose
	// precision on the ratios is Θ − Θ11ᵀΘ/(1ᵀΘ1).
	var theta mat.Dense
	if err := theta.Inverse(covariance(logs)); err != nil {
		t.Fatal(err)
	}
	one := mat.NewVecDense(d, []float64{1, 1, 1, 1, 1})
	var u mat.VecDense
	u.MulVec(&theta, one)
	total := mat.Dot(one, &u)
	p := mat.NewDense(d, d, nil)
	p.Apply(func(a, b int, v float64) float64 { return v - u.AtVec(a)*u.AtVec(b)/total }, &theta)
	for a := range d {
		for b := range a {
			if want := partialFrom(p, a, b); math.Abs(m.R[a][b]-want) > 1e-10 {
				t.Errorf("r of %d and %d is %v, want %v", a, b, m.R[a][b], want)
			}
		}
	}
}

// P is the Moore–Penrose inverse, by its four conditions.
func TestPrecisionIsThePseudoInverse(t *testing.T) {
	m := partials(t, shares(rand.New(rand.NewPCG(4, 4)), 40, 6), NewPartialCorrelation())
	g, p := mat.NewDense(6, 6, nil), mat.NewDense(6, 6, nil)
	for a := range 6 {
		g.SetRow(a, m.Covariance[a])
		p.SetRow(a, m.Precision[a])
	}
	var gp, pg, gpg, pgp mat.Dense
	gp.Mul(g, p)
	pg.Mul(p, g)
	gpg.Mul(&gp, g)
	pgp.Mul(&pg, p)
	for what, pair := range map[string][2]mat.Matrix{"ΓPΓ": {&gpg, g}, "PΓP": {&pgp, p}, "ΓP": {&gp, gp.T()}, "PΓ": {&pg, pg.T()}} {
		if !mat.EqualApprox(pair[0], pair[1], 1e-9) {
			t.Errorf("the condition on %s does not hold", what)
		}
	}
}

// Without one part, coefficients of the others change.
func TestSubcompositionsDiffer(t *testing.T) {
	x := shares(rand.New(rand.NewPCG(5, 5)), 60, 5)
	whole, part := partials(t, x, NewPartialCorrelation()), partials(t, mat.DenseCopyOf(x.Slice(0, 60, 0, 4)), NewPartialCorrelation())
	if math.Abs(whole.R[0][1]-part.R[0][1]) < 1e-3 {
		t.Errorf("r of the first two parts is %v with the fifth and %v without", whole.R[0][1], part.R[0][1])
	}
}

// P-values of independent parts are uniform, by Student's t and by permutation.
func TestPValuesAreUniform(t *testing.T) {
	const tries, n, d = 400, 12, 5
	rng := rand.New(rand.NewPCG(6, 6))
	x := mat.NewDense(n, d, nil)
	below, permuted := 0, 0
	for try := range tries {
		o := NewPartialCorrelation()
		for i := range n { // log-ratios to the last part that are independent
			ref := math.Exp(rng.NormFloat64())
			for j := range d {
				v := math.Exp(rng.NormFloat64()) * ref
				if j == d-1 {
					v = ref
				}
				x.Set(i, j, v)
			}
		}
		m := partials(t, x, o)
		if *m.Pairs[0].P < 0.1 {
			below++
		}
		if try%4 == 0 {
			o.Permute = 39
			if m = partials(t, x, o); *m.Pairs[0].P <= 0.1 {
				permuted++
			}
		}
	}
	if share := float64(below) / tries; math.Abs(share-0.1) > 4*math.Sqrt(0.09/tries) {
		t.Errorf("%v of p-values are below 0.1", share)
	}
	if share := float64(permuted) / (tries / 4); math.Abs(share-0.1) > 4*math.Sqrt(0.09/(tries/4)) {
		t.Errorf("%v of permuted p-values are up to 0.1", share)
	}
}

// Full shrinkage leaves the target, whose parts are unrelated before they become shares;
// with more parts than rows it is estimated, and P exists.
func TestShrinkage(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	m := partials(t, shares(rng, 8, 12), NewPartialCorrelation())
	if !(m.Intensity > 0 && m.Intensity <= 1) || m.Pairs[0].P != nil || m.SingularNote == "" {
		t.Errorf("intensity %v, p %v", m.Intensity, m.Pairs[0].P)
	}
	o := NewPartialCorrelation()
	o.Shrink = 1
	m = partials(t, shares(rng, 50, 4), o)
	// Γ = G·diag(v)·G has Γ⁺ = Θ − Θ11ᵀΘ/(1ᵀΘ1) with Θ = diag(1/v), so r_ik > 0 for all.
	gamma := mat.NewSymDense(4, nil)
	for a := range 4 {
		for b := a; b < 4; b++ {
			gamma.SetSym(a, b, m.Covariance[a][b])
		}
	}
	if again := unrelated(gamma); !mat.EqualApprox(again, gamma, 1e-12) {
		t.Error("the target of the target is another")
	}
	for _, pair := range m.Pairs {
		if !(pair.R > 0) {
			t.Errorf("r of unrelated parts %d and %d is %v, the share of a common whole", pair.I, pair.K, pair.R)
		}
	}
	o.Shrink = 0
	if _, err := o.Fit(t.Context(), shares(rng, 8, 12)); !errors.Is(err, ErrData) {
		t.Errorf("8 rows of 12 parts without shrinkage: %v", err)
	}
}

// The residuals' mean is 0 and the distances' mean (n−1)(D−1)/n over the rows fitted.
func TestResiduals(t *testing.T) {
	x := shares(rand.New(rand.NewPCG(9, 9)), 30, 5)
	m := partials(t, x, NewPartialCorrelation())
	distance, e, err := m.Residuals(x, RefuseZeros)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, v := range distance {
		sum += v
	}
	if want := 29 * 4.0; math.Abs(sum-want) > 1e-9 {
		t.Errorf("distances sum to %v, want %v", sum, want)
	}
	if s := mat.Sum(e.ColView(2)); math.Abs(s) > 1e-9 {
		t.Errorf("residuals of a part sum to %v", s)
	}
}

func TestCompositionRefuses(t *testing.T) {
	good := func() *mat.Dense { return shares(rand.New(rand.NewPCG(10, 10)), 20, 4) }
	fit := func(x *mat.Dense, o *PartialCorrelation) error { _, err := o.Fit(t.Context(), x); return err }
	var row *RowError
	var column *ColumnError
	for _, v := range []float64{-0.1, 0, math.NaN(), math.Inf(1)} {
		x := good()
		x.Set(3, 2, v)
		if err := fit(x, NewPartialCorrelation()); !errors.As(err, &row) || row.Row != 3 || row.Column != 2 {
			t.Errorf("%v: %v", v, err)
		}
	}
	x := good()
	x.Set(3, 2, 0)
	o := NewPartialCorrelation()
	o.Zeros = "replace"
	if err := fit(x, o); err != nil {
		t.Errorf("zero replaced: %v", err)
	}
	x.SetRow(5, make([]float64, 4))
	if err := fit(x, o); !errors.As(err, &row) || row.Row != 5 || row.Column != -1 {
		t.Errorf("a row of zeros: %v", err)
	}
	x = good()
	for i := range 20 {
		x.Set(i, 3, 2*x.At(i, 1))
	}
	if err := fit(x, o); !errors.As(err, &column) || column.Column != 3 || column.Other != 1 {
		t.Errorf("one ratio: %v", err)
	}
	for i := range 20 {
		x.Set(i, 3, 0)
	}
	if err := fit(x, o); !errors.As(err, &column) || column.Column != 3 {
		t.Errorf("a part that is absent: %v", err)
	}
}

// numpy's pseudo-inverse and scipy's distribution give the same.
func TestPartialCorrelationIsNumpys(t *testing.T) {
	raw, err := os.ReadFile("testdata/composition.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		X, R, P  [][]float64
		Variance []float64
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	x := mat.NewDense(len(want.X), len(want.X[0]), nil)
	for i, row := range want.X {
		x.SetRow(i, row)
	}
	m := partials(t, x, NewPartialCorrelation())
	for _, pair := range m.Pairs {
		if r, p := want.R[pair.I][pair.K], want.P[pair.I][pair.K]; math.Abs(pair.R-r) > 1e-10 || math.Abs(*pair.P-p) > 1e-8 {
			t.Errorf("parts %d and %d: r %v p %v, want %v %v", pair.I, pair.K, pair.R, *pair.P, r, p)
		}
	}
	for a, v := range want.Variance {
		if math.Abs(m.Variance[a]-v) > 1e-10*v {
			t.Errorf("partial variance of %d is %v, want %v", a, m.Variance[a], v)
		}
	}
}
