package stats

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"gonum.org/v1/gonum/mat"
)

// Presto predicts rare events by shrinking towards proportional odds (Faletto and Bien
// 2023, paper 23). Classes 1 … K are in the order in which outcomes grow rarer; each cut
// has weights of its own,
//
//	P(y ≤ k | x) = σ(α_k + β_kᵀx),  k = 1 … K−1,
//
// and the fit minimises the mean negative log-likelihood plus
//
//	λ ( ‖β_1‖₁ + Σ_{k≥2} ‖β_k − β_{k−1}‖₁ ),
//
// so that weights of a rare cut stay those of the commoner one before it unless the data
// say otherwise. λ falls from where all weights are 0, each fit starting at the one
// before; cross-validation chooses among them. On the rows fitted all classes keep
// positive probabilities.
//
// Prices are for columns of standard deviation 1 unless Raw, as in ordinalNet, which the
// paper's code builds on; Alpha and Beta are in the columns' own units.
type Presto struct {
	Lambda  float64 `yaml:"lambda" json:"lambda" help:"Price λ of a difference; a negative one is chosen by cross-validation." default:"-1"`
	Base    float64 `yaml:"base" json:"base" help:"Price of the first cut's weights, in λ: 1 in the paper; 0 leaves them free, and a large λ is proportional odds." default:"1"`
	Lambdas int     `yaml:"lambdas" json:"lambdas" help:"Prices on the path." default:"30"`
	Ratio   float64 `yaml:"ratio" json:"ratio" help:"The path's last price over its first." default:"0.001"`
	Folds   int     `yaml:"folds" json:"folds" help:"Folds of the cross-validation." default:"5"`
	Choose  string  `yaml:"choose" json:"choose" help:"What the chosen price has least of in the folds: loss (mean negative log-likelihood) or brier (squared error of the last class's probability)." default:"loss"`
	Raw     bool    `yaml:"raw" json:"raw" help:"Price weights in the columns' own units."`
	Seed    uint64  `yaml:"-" json:"seed"` // of the folds
	Solver  `yaml:",inline"`

	// Progress takes how many fits are done; it may be called from several goroutines,
	// one at a time. May be nil.
	Progress func(done, total int) `yaml:"-" json:"-"`
}

// NewPresto returns the paper's settings.
func NewPresto() *Presto {
	return &Presto{Lambda: -1, Base: 1, Lambdas: 30, Ratio: 1e-3, Folds: 5, Choose: "loss", Seed: 1, Solver: NewSolver()}
}

// Validate says all that is wrong at once.
func (o *Presto) Validate() error {
	w := o.wrong()
	if math.IsNaN(o.Lambda) || math.IsInf(o.Lambda, 0) {
		w = append(w, fmt.Sprintf("lambda is %g", o.Lambda))
	}
	if !(o.Base >= 0) || math.IsInf(o.Base, 0) {
		w = append(w, fmt.Sprintf("base is %g, want 0 or more", o.Base))
	}
	if o.Lambdas < 2 || o.Lambdas > 10000 {
		w = append(w, fmt.Sprintf("lambdas is %d, want 2 to 10000", o.Lambdas))
	}
	if !(o.Ratio > 0 && o.Ratio < 1) {
		w = append(w, fmt.Sprintf("ratio is %g, want between 0 and 1", o.Ratio))
	}
	if o.Folds < 2 {
		w = append(w, fmt.Sprintf("folds is %d, want at least 2", o.Folds))
	}
	if o.Choose != "loss" && o.Choose != "brier" {
		w = append(w, fmt.Sprintf("choose is %q, want loss or brier", o.Choose))
	}
	return optionsError("presto", w)
}

// PrestoModel is a fitted Presto: the model at the chosen price, and the path to it.
type PrestoModel struct {
	Ordinal
	Lambda float64     `json:"lambda"`
	Path   []PathPoint `json:"path,omitempty"` // empty where lambda was given
}

// PathPoint is one price of a path: the fit to all rows, and what the folds say of it.
// Loss and Brier are means over rows of what folds without the row say of it.
type PathPoint struct {
	Lambda  float64     `json:"lambda"`
	Beta    [][]float64 `json:"beta"`    // [K−1][p], in the columns' own units
	Nonzero int         `json:"nonzero"` // among the first cut's weights and the differences
	Loss    float64     `json:"loss"`
	LossSE  float64     `json:"loss_se"` // standard error over folds
	Brier   float64     `json:"brier"`
	BrierSE float64     `json:"brier_se"`
}

// Fit fits classes 0 … classes−1 to rows.
func (o *Presto) Fit(ctx context.Context, x *mat.Dense, y []int, classes int) (*PrestoModel, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r, err := newOrdinalRows(x, y, classes)
	if err != nil {
		return nil, err
	}
	f := newOrdinalFit(r, o.Solver, "presto")
	if o.Lambda == 0 {
		if err := r.enough(false); err != nil {
			return nil, err
		}
		m, err := likeliest(ctx, "presto", o.Solver, x, y, classes, classes == 2)
		if err != nil {
			return nil, err
		}
		return &PrestoModel{Ordinal: *m}, nil
	}
	lambdas := o.path(f)
	if o.Lambda > 0 {
		points, err := o.along(ctx, f, downTo(lambdas, o.Lambda), nil)
		if err != nil {
			return nil, err
		}
		return &PrestoModel{Ordinal: points[len(points)-1], Lambda: o.Lambda}, nil
	}
	return o.cross(ctx, f, x, lambdas)
}

// setPrices puts λ on the coefficients.
func (o *Presto) setPrices(f *ordinalFit, lambda float64) {
	f.lambda = lambda
	for at := range f.price {
		c := lambda
		if at < f.p {
			c *= o.Base
		}
		if o.Raw {
			c /= f.scale[at%f.p]
		}
		f.price[at] = c
	}
}

// path returns the prices from the least that keeps all priced coefficients at 0 to
// Ratio times it.
func (o *Presto) path(f *ordinalFit) []float64 {
	f.derivatives()
	o.setPrices(f, 1)
	top := 0.0
	for at, g := range f.gDelta {
		if f.price[at] > 0 {
			top = math.Max(top, math.Abs(g)/f.price[at])
		}
	}
	if top == 0 {
		top = 1
	}
	out := make([]float64, o.Lambdas)
	for i := range out {
		out[i] = top * (1 + 1e-5) * math.Pow(o.Ratio, float64(i)/float64(len(out)-1))
	}
	return out
}

// downTo is the part of a path above a price, and the price.
func downTo(path []float64, lambda float64) []float64 {
	var out []float64
	for _, l := range path {
		if l > lambda {
			out = append(out, l)
		}
	}
	return append(out, lambda)
}

// along fits the prices one after another, and calls each with how many are done.
func (o *Presto) along(ctx context.Context, f *ordinalFit, lambdas []float64, each func(at int)) ([]Ordinal, error) {
	f.hold(false)
	points := make([]Ordinal, len(lambdas))
	for i, l := range lambdas {
		o.setPrices(f, l)
		if err := f.solve(ctx); err != nil {
			return nil, fmt.Errorf("lambda %.4g: %w", l, err)
		}
		points[i] = f.result()
		if each != nil {
			each(i)
		}
	}
	return points, nil
}

// cross fits the path to all rows and without each fold, and chooses.
func (o *Presto) cross(ctx context.Context, f *ordinalFit, x *mat.Dense, lambdas []float64) (*PrestoModel, error) {
	folds, err := Folds(f.y, f.cuts+1, o.Folds, o.Seed)
	if err != nil {
		return nil, err
	}
	var lock sync.Mutex
	done, total := 0, (o.Folds+1)*len(lambdas)
	each := func(int) {
		lock.Lock()
		defer lock.Unlock()
		if done++; o.Progress != nil {
			o.Progress(done, total)
		}
	}
	var all []Ordinal
	scores := make([][]foldScore, o.Folds) // [fold][lambda]
	err = together(o.Folds+1, func(k int) error {
		if k == o.Folds {
			var err error
			all, err = o.along(ctx, f, lambdas, each)
			return err
		}
		train, test := split(folds, k)
		r, err := newOrdinalRows(pickRows(x, train), pickClasses(f.y, train), f.cuts+1)
		if err != nil {
			return fmt.Errorf("without fold %d: %w", k+1, err)
		}
		points, err := o.along(ctx, newOrdinalFit(r, o.Solver, "presto"), lambdas, each)
		if err != nil {
			return fmt.Errorf("without fold %d: %w", k+1, err)
		}
		scores[k], err = scoreAll(points, pickRows(x, test), pickClasses(f.y, test))
		return err
	})
	if err != nil {
		return nil, err
	}
	m := &PrestoModel{Path: make([]PathPoint, len(lambdas))}
	best := 0
	for i, l := range lambdas {
		m.Path[i] = pathPoint(l, all[i], scores, i)
		if o.of(m.Path[i]) < o.of(m.Path[best]) {
			best = i
		}
	}
	m.Lambda, m.Ordinal = lambdas[best], all[best]
	return m, nil
}

// of is what the choice goes by.
func (o *Presto) of(p PathPoint) float64 {
	if o.Choose == "brier" {
		return p.Brier
	}
	return p.Loss
}

// foldScore is a fold's sums over its rows.
type foldScore struct {
	loss, brier float64
	rows        int
}

// scoreAll scores models on rows that they were not fitted to.
func scoreAll(points []Ordinal, x *mat.Dense, y []int) ([]foldScore, error) {
	out := make([]foldScore, len(points))
	for i := range points {
		p, _, err := points[i].Probabilities(x)
		if err != nil {
			return nil, err
		}
		out[i] = score(p, y)
	}
	return out, nil
}

// leastProbability stands for a probability of 0 in a logarithm: a class that happened
// and was said to be impossible costs much, not everything.
const leastProbability = 1e-12

func score(p *mat.Dense, y []int) foldScore {
	s := foldScore{rows: len(y)}
	for i, k := range y {
		row := p.RawRowView(i)
		s.loss -= math.Log(math.Max(row[k], leastProbability))
		last, hit := row[len(row)-1], 0.0
		if k == len(row)-1 {
			hit = 1
		}
		s.brier += (last - hit) * (last - hit)
	}
	return s
}

// pathPoint sums what the folds say of a price.
func pathPoint(lambda float64, m Ordinal, scores [][]foldScore, at int) PathPoint {
	pt := PathPoint{Lambda: lambda, Beta: m.Beta}
	before := make([]float64, m.width())
	for _, b := range m.Beta {
		for j, v := range b {
			if v != before[j] {
				pt.Nonzero++
			}
		}
		before = b
	}
	rows := 0
	for _, s := range scores {
		pt.Loss += s[at].loss
		pt.Brier += s[at].brier
		rows += s[at].rows
	}
	pt.Loss /= float64(rows)
	pt.Brier /= float64(rows)
	k := float64(len(scores))
	for _, s := range scores {
		n := float64(max(1, s[at].rows))
		pt.LossSE += square(s[at].loss/n-pt.Loss) / (k * (k - 1))
		pt.BrierSE += square(s[at].brier/n-pt.Brier) / (k * (k - 1))
	}
	pt.LossSE, pt.BrierSE = math.Sqrt(pt.LossSE), math.Sqrt(pt.BrierSE)
	return pt
}

func square(v float64) float64 { return v * v }

// Folds deals rows into k folds, class by class, so that each has its share of a rare
// one. A class with fewer than two rows is refused: the fold that has it leaves none.
func Folds(y []int, classes, k int, seed uint64) ([]int, error) {
	if k > len(y) {
		return nil, fmt.Errorf("stats: %d folds of %d rows; use fewer folds: %w", k, len(y), ErrData)
	}
	rng := rand.New(rand.NewPCG(seed, 0x70726573746f))
	fold := make([]int, len(y))
	next := 0
	for c := range classes {
		var rows []int
		for i, v := range y {
			if v == c {
				rows = append(rows, i)
			}
		}
		if len(rows) < 2 {
			return nil, &ClassError{c, fmt.Sprintf("has %d rows, too few for cross-validation; merge it with a neighbour or give lambda", len(rows))}
		}
		rng.Shuffle(len(rows), func(a, b int) { rows[a], rows[b] = rows[b], rows[a] })
		for _, i := range rows {
			fold[i] = next % k
			next++
		}
	}
	return fold, nil
}

// split returns the rows outside a fold and those in it.
func split(folds []int, k int) (outside, inside []int) {
	for i, f := range folds {
		if f == k {
			inside = append(inside, i)
		} else {
			outside = append(outside, i)
		}
	}
	return outside, inside
}

func pickRows(x *mat.Dense, rows []int) *mat.Dense {
	_, p := x.Dims()
	out := mat.NewDense(len(rows), p, nil)
	for i, at := range rows {
		copy(out.RawRowView(i), x.RawRowView(at))
	}
	return out
}

func pickClasses(y []int, rows []int) []int {
	out := make([]int, len(rows))
	for i, at := range rows {
		out[i] = y[at]
	}
	return out
}

// together runs n pieces of work on all processors and returns the first error by number.
func together(n int, work func(k int) error) error {
	errs := make([]error, n)
	next := make(chan int)
	var wait sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wait.Go(func() {
			for k := range next {
				errs[k] = work(k)
			}
		})
	}
	for k := range n {
		next <- k
	}
	close(next)
	wait.Wait()
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return errs[i]
	}
	return nil
}
