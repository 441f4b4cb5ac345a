package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"gonum.org/v1/gonum/mat"

	"tare/lab/fitting"
	"tare/method/stats"
)

// presto is the experiment of PRESTO (Faletto and Bien 2023), on the data that the paper
// generates: 2,500 rows of ten columns, uniform on [−1, 1], in four classes whose last is
// rare, at three levels of rarity. In the one design a third of the weights of the first
// cut are 1 and a third of the differences between cuts ±0.5; in the other all are
// uniform on [−0.5, 0.5]. The figure is the root mean squared error of the rare class's
// probability on fresh rows, over that probability's mean, averaged over designs and
// rarities. Where a draw's rare rows are separated by the columns logistic regression has
// no finite estimate; it then has an L1 price of 1e-5.
//
// Where TARE_TABLES names a folder with soup.csv (1,847 tastings), the squared error for
// its rarest class on a tenth kept out stands among the further figures.
func presto() Experiment {
	return Experiment{
		Slug:   "presto",
		Claim:  "PRESTO estimates the probability of a rare last class better than logistic regression of that class and than proportional odds, over a sweep of rarity.",
		Figure: Figure{"relative error of the rare probability", "", Lower},
		Arms: []Arm{
			{"presto", Method, rareArm{"presto", fitPresto}.run},
			{"logistic", Baseline, rareArm{"logistic", fitLogistic}.run},
			{"proportional odds", Baseline, rareArm{"proportional-odds", fitProportional}.run},
			{"separate odds", Baseline, rareArm{"separate-odds", fitSeparate}.run},
		},
		Seeds: 10, QuickSeeds: 3,
		Rule: All(Beats("presto", "logistic"), Beats("presto", "proportional odds")),
	}
}

// rareFit fits classes and returns the model; its last class is the rare one.
type rareFit func(ctx context.Context, x *mat.Dense, y []int, seed uint64) (*stats.Ordinal, error)

const rareClasses = 4

func fitPresto(ctx context.Context, x *mat.Dense, y []int, seed uint64) (*stats.Ordinal, error) {
	o := stats.NewPresto()
	o.Seed, o.Lambdas = seed, 20
	o.Tol = 1e-6
	m, err := o.Fit(ctx, x, y, rareClasses)
	if err != nil {
		return nil, err
	}
	return &m.Ordinal, nil
}

func fitLogistic(ctx context.Context, x *mat.Dense, y []int, _ uint64) (*stats.Ordinal, error) {
	m, err := stats.NewLogistic().Fit(ctx, x, y, rareClasses)
	if !errors.Is(err, stats.ErrData) {
		return m, err
	}
	rare := make([]int, len(y))
	for i, k := range y {
		if k == rareClasses-1 {
			rare[i] = 1
		}
	}
	o := stats.NewPresto()
	o.Lambda, o.Tol = 1e-5, 1e-6
	priced, err := o.Fit(ctx, x, rare, 2)
	if err != nil {
		return nil, err
	}
	return &priced.Ordinal, nil
}

func fitProportional(ctx context.Context, x *mat.Dense, y []int, _ uint64) (*stats.Ordinal, error) {
	return stats.NewProportionalOdds().Fit(ctx, x, y, rareClasses)
}

// fitSeparate puts a price of 1e-5 on weights, for draws that columns separate.
func fitSeparate(ctx context.Context, x *mat.Dense, y []int, _ uint64) (*stats.Ordinal, error) {
	o := stats.NewPresto()
	o.Lambda, o.Tol = 1e-5, 1e-6
	m, err := o.Fit(ctx, x, y, rareClasses)
	if err != nil {
		return nil, err
	}
	return &m.Ordinal, nil
}

// rareArm measures one model; method is its name in tare fit.
type rareArm struct {
	method string
	fit    rareFit
}

func (a rareArm) run(ctx context.Context, e Env, seed uint64) (Measurement, error) {
	m := Measurement{Extra: map[string]float64{}}
	cuts := [][]float64{{0, 3, 5}, {0, 3.5, 5.5}, {0, 4, 6}}
	if e.Quick {
		cuts = cuts[:1]
	}
	designs := []string{"sparse", "dense"}
	done := 0
	for d, design := range designs {
		sum := 0.0
		for level, alpha := range cuts {
			rng := rand.New(rand.NewPCG(seed, uint64(10*d+level)))
			truth := drawRare(rng, design, alpha, e.Pick(2500, 1200))
			fitted, err := a.fit(ctx, truth.x, truth.y, seed)
			if err != nil {
				return m, fmt.Errorf("%s differences, cuts %v: %w", design, alpha, err)
			}
			m.Trainable = a.estimated(fitted)
			relative, err := truth.error(rng, fitted)
			if err != nil {
				return m, err
			}
			sum += relative
			done++
			e.Step(done, len(designs)*len(cuts), design)
		}
		m.Extra["relative error, "+design+" differences"] = sum / float64(len(cuts))
		m.Value += sum / float64(len(cuts)) / float64(len(designs))
	}
	return m, a.soup(ctx, e, seed, m.Extra)
}

// estimated counts the numbers that a model has to find.
func (a rareArm) estimated(m *stats.Ordinal) int64 {
	cuts, columns := len(m.Alpha), len(m.Beta[0])
	if a.method == "proportional-odds" {
		return int64(cuts + columns)
	}
	return int64(cuts * (1 + columns))
}

// rareDraw is a generated set of rows and the model that it came from.
type rareDraw struct {
	alpha []float64
	beta  [][]float64 // [cuts][columns]
	x     *mat.Dense
	y     []int
}

// drawRare draws weights until all classes have a positive probability in every row, and
// rows until every class has three.
func drawRare(rng *rand.Rand, design string, alpha []float64, n int) *rareDraw {
	const columns = 10
	for {
		d := &rareDraw{alpha: alpha, x: mat.NewDense(n, columns, nil), y: make([]int, n)}
		for k := range alpha {
			b := make([]float64, columns)
			for j := range b {
				if k > 0 {
					b[j] = d.beta[k-1][j]
				}
				b[j] += rareStep(rng, design, k == 0)
			}
			d.beta = append(d.beta, b)
		}
		counts, positive := make([]int, len(alpha)+1), true
		for i := range n {
			positive = d.drawRow(rng, d.x.RawRowView(i), &d.y[i]) && positive
			counts[d.y[i]]++
		}
		enough := true
		for _, c := range counts {
			enough = enough && c >= 3
		}
		if positive && enough {
			return d
		}
	}
}

// rareStep draws a weight of the first cut, or a difference to the cut before.
func rareStep(rng *rand.Rand, design string, first bool) float64 {
	if design == "dense" {
		return rng.Float64() - 0.5
	}
	there, sign := rng.Float64() < 1.0/3, float64(2*rng.IntN(2)-1)
	switch {
	case !there:
		return 0
	case first:
		return 1
	}
	return 0.5 * sign
}

// drawRow draws a row and its class; it says whether all classes could be.
func (d *rareDraw) drawRow(rng *rand.Rand, row []float64, class *int) bool {
	for j := range row {
		row[j] = 2*rng.Float64() - 1
	}
	u, before := rng.Float64(), math.Inf(-1)
	*class = 0
	for k := range d.alpha {
		eta := d.eta(k, row)
		if eta <= before {
			return false
		}
		if u > 1/(1+math.Exp(-eta)) {
			*class = k + 1
		}
		before = eta
	}
	return true
}

func (d *rareDraw) eta(k int, row []float64) float64 {
	eta := d.alpha[k]
	for j, v := range row {
		eta += d.beta[k][j] * v
	}
	return eta
}

// error is √(mean (p̂ − p)²) / mean p of the last class's probability on fresh rows.
func (d *rareDraw) error(rng *rand.Rand, m *stats.Ordinal) (float64, error) {
	const fresh = 5000
	_, columns := d.x.Dims()
	x := mat.NewDense(fresh, columns, nil)
	x.Apply(func(int, int, float64) float64 { return 2*rng.Float64() - 1 }, x)
	p, _, err := m.Probabilities(x)
	if err != nil {
		return 0, err
	}
	var ss, mean float64
	for i := range fresh {
		rare := 1 / (1 + math.Exp(d.eta(len(d.alpha)-1, x.RawRowView(i))))
		row := p.RawRowView(i)
		ss += (row[len(row)-1] - rare) * (row[len(row)-1] - rare) / fresh
		mean += rare / fresh
	}
	return math.Sqrt(ss) / mean, nil
}

// soup adds the squared error on real tastings, where they are at hand.
func (a rareArm) soup(ctx context.Context, e Env, seed uint64, extra map[string]float64) error {
	folder := os.Getenv("TARE_TABLES")
	if folder == "" || e.Quick {
		return nil
	}
	sheet, err := fitting.ReadSheet(filepath.Join(folder, "soup.csv"))
	if err != nil {
		return fmt.Errorf("TARE_TABLES: %w", err)
	}
	m, err := fitting.ByName(a.method)
	if err != nil {
		return err
	}
	f, err := fitting.Fit(ctx, sheet, m, m.New(), fitting.Recipe{
		Formula: "SURENESS ~ . - RESP - PRODID", Order: []string{"6", "5", "4", "3", "2", "1"}, Categories: []string{"DAY"},
		Missing: fitting.MissingRefuse, Scale: true, Test: 0.1, Level: 0.95,
	}, fitting.Run{Seed: seed})
	if err != nil {
		return err
	}
	extra["soup: squared error of the rarest class"] = *f.Test.Brier
	return nil
}
