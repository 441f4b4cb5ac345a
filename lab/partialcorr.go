package lab

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"tare/lab/fitting"
	"tare/method/stats"
)

// compositional is the experiment of partial correlations of compositions (Erb 2020):
// whether coefficients of association depend on the reference that log-ratios are taken
// to, and how near they come to those of the abundances that the parts are shares of.
//
// 300 wholes of eight parts are drawn: their log abundances are normal with a sparse
// inverse covariance, and only their shares are seen. Each arm computes its coefficients
// with every part in turn as reference; the figure is the largest difference between two
// references, over all pairs. The further figure is the root mean squared difference from
// the partial correlations of the abundances with the size of the whole controlled for,
// Θ − Θ11ᵀΘ/(1ᵀΘ1), Θ their inverse covariance.
//
// Where TARE_TABLES names a folder with fgl.csv, the first figure for 214 pieces of glass,
// drawn anew with replacement, stands among the further ones.
func compositional() Experiment {
	return Experiment{
		Slug:   "compositional-partial-correlation",
		Claim:  "Partial correlations of a composition's parts are the same to 1e-10 for every reference, and nearer to those of the abundances behind it than correlations of log-ratios, proportionality, or partial correlations after normalising.",
		Figure: Figure{"difference between references", "", Lower},
		Arms: []Arm{
			{"partial correlation", Method, association{partialOfRatios}.run},
			{"log-ratio correlation", Baseline, association{correlationOfRatios}.run},
			{"proportionality", Baseline, association{proportionality}.run},
			{"after normalising", Baseline, association{partialNormalised}.run},
		},
		Seeds: 10, QuickSeeds: 5,
		Rule: All(Reaches("partial correlation", 1e-10),
			Beats("partial correlation", "log-ratio correlation"), Beats("partial correlation", "proportionality"), Beats("partial correlation", "after normalising"),
			BeatsIn(OfExtra(abundanceError), "partial correlation", "log-ratio correlation"),
			BeatsIn(OfExtra(abundanceError), "partial correlation", "proportionality"),
			BeatsIn(OfExtra(abundanceError), "partial correlation", "after normalising")),
	}
}

var abundanceError = Figure{"error against abundances", "", Lower}

// coefficients of association of all pairs of a composition's parts, from log-ratios to
// part j; those of j itself are NaN where the measure has none.
type coefficients func(logs *mat.Dense, j int) (*mat.Dense, error)

// association is an arm.
type association struct{ of coefficients }

func (a association) run(_ context.Context, e Env, seed uint64) (Measurement, error) {
	const rows, parts = 300, 8
	rng := rand.New(rand.NewPCG(seed, 40))
	logs, truth, err := drawAbundances(rng, rows, parts)
	if err != nil {
		return Measurement{}, err
	}
	spread, err := a.spread(logs)
	if err != nil {
		return Measurement{}, err
	}
	first, err := a.of(logs, parts-1)
	if err != nil {
		return Measurement{}, err
	}
	var ss, n float64
	for i := range parts - 1 {
		for k := range i {
			ss += math.Pow(first.At(i, k)-truth.At(i, k), 2)
			n++
		}
	}
	m := Measurement{Value: spread, Extra: map[string]float64{abundanceError.Name: math.Sqrt(ss / n)}}
	return m, a.glass(e, rng, m.Extra)
}

// spread is the largest difference between two references.
func (a association) spread(logs *mat.Dense) (float64, error) {
	_, parts := logs.Dims()
	low, high := mat.NewDense(parts, parts, nil), mat.NewDense(parts, parts, nil)
	low.Apply(func(int, int, float64) float64 { return math.Inf(1) }, low)
	high.Apply(func(int, int, float64) float64 { return math.Inf(-1) }, high)
	for j := range parts {
		r, err := a.of(logs, j)
		if err != nil {
			return 0, err
		}
		for i := range parts {
			for k := range i {
				if v := r.At(i, k); !math.IsNaN(v) {
					low.Set(i, k, math.Min(low.At(i, k), v))
					high.Set(i, k, math.Max(high.At(i, k), v))
				}
			}
		}
	}
	most := 0.0
	for i := range parts {
		for k := range i {
			most = math.Max(most, high.At(i, k)-low.At(i, k))
		}
	}
	return most, nil
}

// drawAbundances draws log abundances with an inverse covariance Θ in which a third of
// the pairs have an entry, takes shares, and returns their logs and the partial
// correlations of the abundances with the size controlled for.
func drawAbundances(rng *rand.Rand, rows, parts int) (logs, truth *mat.Dense, err error) {
	theta := mat.NewSymDense(parts, nil)
	for i := range parts {
		for k := range i {
			if rng.Float64() < 1.0/3 {
				theta.SetSym(i, k, (0.3+0.4*rng.Float64())*float64(2*rng.IntN(2)-1))
			}
		}
	}
	for i := range parts { // dominant, so that Θ is positive definite
		sum := 0.5
		for k := range parts {
			if k != i {
				sum += math.Abs(theta.At(i, k))
			}
		}
		theta.SetSym(i, i, sum)
	}
	var chol mat.Cholesky
	if !chol.Factorize(theta) {
		return nil, nil, fmt.Errorf("the drawn inverse covariance is not positive definite")
	}
	var u mat.TriDense
	chol.UTo(&u)
	logs = mat.NewDense(rows, parts, nil)
	z := mat.NewVecDense(parts, nil)
	var a mat.VecDense
	for i := range rows {
		for j := range parts {
			z.SetVec(j, rng.NormFloat64())
		}
		if err := a.SolveVec(&u, z); err != nil { // covariance U⁻¹U⁻ᵀ = Θ⁻¹
			return nil, nil, err
		}
		whole := 0.0
		for j := range parts {
			whole += math.Exp(a.AtVec(j))
		}
		for j := range parts {
			logs.Set(i, j, a.AtVec(j)-math.Log(whole))
		}
	}
	one := mat.NewVecDense(parts, nil)
	for j := range parts {
		one.SetVec(j, 1)
	}
	var t mat.VecDense
	t.MulVec(theta, one)
	total := mat.Dot(one, &t)
	p := mat.NewDense(parts, parts, nil)
	p.Apply(func(i, k int, _ float64) float64 { return theta.At(i, k) - t.AtVec(i)*t.AtVec(k)/total }, p)
	return logs, partialOf(p), nil
}

// partialOf turns an inverse covariance into partial correlations.
func partialOf(p mat.Matrix) *mat.Dense {
	n, _ := p.Dims()
	r := mat.NewDense(n, n, nil)
	r.Apply(func(i, k int, _ float64) float64 { return -p.At(i, k) / math.Sqrt(p.At(i, i)*p.At(k, k)) }, r)
	return r
}

// ratios are the log-ratios to part j, without the j-th.
func ratios(logs *mat.Dense, j int) (*mat.Dense, []int) {
	rows, parts := logs.Dims()
	var keep []int
	for k := range parts {
		if k != j {
			keep = append(keep, k)
		}
	}
	x := mat.NewDense(rows, parts-1, nil)
	x.Apply(func(i, q int, _ float64) float64 { return logs.At(i, keep[q]) - logs.At(i, j) }, x)
	return x, keep
}

// spreadOut puts coefficients of some parts into a matrix of all.
func spreadOut(r mat.Matrix, keep []int, parts int) *mat.Dense {
	out := mat.NewDense(parts, parts, nil)
	out.Apply(func(int, int, float64) float64 { return math.NaN() }, out)
	for a, i := range keep {
		for b, k := range keep {
			out.Set(i, k, r.At(a, b))
		}
	}
	return out
}

// partialOfRatios are the entry's: with reference j by the inverse covariance of its
// log-ratios, and once, for the parts that the last reference leaves out, by the
// library's pseudo-inverse, which must agree.
func partialOfRatios(logs *mat.Dense, j int) (*mat.Dense, error) {
	_, parts := logs.Dims()
	if j == parts-1 {
		shares := mat.DenseCopyOf(logs)
		shares.Apply(func(_, _ int, v float64) float64 { return math.Exp(v) }, shares)
		m, err := stats.NewPartialCorrelation().Fit(context.Background(), shares)
		if err != nil {
			return nil, err
		}
		r := mat.NewDense(parts, parts, nil)
		for i := range parts {
			r.SetRow(i, m.R[i])
		}
		return r, nil
	}
	x, keep := ratios(logs, j)
	p, err := inverseCovariance(x)
	if err != nil {
		return nil, err
	}
	return spreadOut(partialOf(p), keep, parts), nil
}

func inverseCovariance(x *mat.Dense) (*mat.Dense, error) {
	var c mat.SymDense
	stat.CovarianceMatrix(&c, x, nil)
	var p mat.Dense
	if err := p.Inverse(&c); err != nil {
		return nil, err
	}
	return &p, nil
}

func correlationOfRatios(logs *mat.Dense, j int) (*mat.Dense, error) {
	_, parts := logs.Dims()
	x, keep := ratios(logs, j)
	var c mat.SymDense
	stat.CorrelationMatrix(&c, x, nil)
	return spreadOut(&c, keep, parts), nil
}

// proportionality is ρ_p = 1 − var(a_i − a_k) / (var a_i + var a_k) of log-ratios a (Erb
// and Notredame 2016).
func proportionality(logs *mat.Dense, j int) (*mat.Dense, error) {
	_, parts := logs.Dims()
	x, keep := ratios(logs, j)
	var c mat.SymDense
	stat.CovarianceMatrix(&c, x, nil)
	r := mat.NewDense(len(keep), len(keep), nil)
	r.Apply(func(a, b int, _ float64) float64 { return 2 * c.At(a, b) / (c.At(a, a) + c.At(b, b)) }, r)
	return spreadOut(r, keep, parts), nil
}

// partialNormalised divides by the sum of all parts but j, which is not controlled for,
// and takes partial correlations of all parts' logs.
func partialNormalised(logs *mat.Dense, j int) (*mat.Dense, error) {
	rows, parts := logs.Dims()
	x := mat.DenseCopyOf(logs)
	for i := range rows {
		size := 0.0
		for k := range parts {
			if k != j {
				size += math.Exp(logs.At(i, k))
			}
		}
		for k := range parts {
			x.Set(i, k, logs.At(i, k)-math.Log(size))
		}
	}
	p, err := inverseCovariance(x)
	if err != nil {
		return nil, err
	}
	return partialOf(p), nil
}

// glass adds the figure for real glass, where it is at hand.
func (a association) glass(e Env, rng *rand.Rand, extra map[string]float64) error {
	folder := os.Getenv("TARE_TABLES")
	if folder == "" || e.Quick {
		return nil
	}
	sheet, err := fitting.ReadSheet(filepath.Join(folder, "fgl.csv"))
	if err != nil {
		return fmt.Errorf("TARE_TABLES: %w", err)
	}
	x, err := fitting.Matrix(sheet, ". - RI - type")
	if err != nil {
		return err
	}
	rows, parts := x.Dims()
	again := mat.NewDense(rows, parts, nil)
	for i := range rows {
		copy(again.RawRowView(i), x.RawRowView(rng.IntN(rows)))
	}
	c, err := stats.NewComposition(again, stats.ReplaceZeros)
	if err != nil {
		return err
	}
	spread, err := a.spread(c.CLR)
	extra["glass: difference between references"] = spread
	return err
}
