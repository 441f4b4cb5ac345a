package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/mat"

	"tare/method/optimize"
)

// blockDescent is the experiment of block coordinate descent (Nutini, Laradji and Schmidt
// 2022): on six kinds of problems, drawn anew for each seed, the paper's blocks shall be
// nearer to the minimum after as many iterations than blocks of the same size that are
// chosen at random, in turn, or by their gradient's length. What it recommends is greedy
// choice in the norm of the bound with matrix steps (A least squares, B logistic, C
// softmax), forests solved by messages (D label propagation on a lattice, E on the
// neighbours of two moons), and Newton steps on the face (F with lower bounds and with L1).
//
// The figure is the decimal logarithm of what is left of F − F*, as a share of what there
// was at the start and at least 1e-12, and the mean of it over the problems; an
// iteration of a forest costs about what one of a block of n^{1/3} does, which is the
// size of the blocks on A to E. On F blocks hold up to 40 coordinates, for all arms.
func blockDescent() Experiment {
	greedy := func(problem byte) optimize.BlockDescent {
		switch problem {
		case 'D', 'E':
			return optimize.BlockDescent{Rule: "gsl", Tree: true}
		case 'F':
			return optimize.BlockDescent{Rule: "gsc", Update: "newton"}
		}
		return optimize.BlockDescent{Rule: "bgs-q", Update: "matrix"}
	}
	always := func(o optimize.BlockDescent) func(byte) optimize.BlockDescent {
		return func(byte) optimize.BlockDescent { return o }
	}
	const method, random, cyclic, gs, matrix = "faster blocks", "random, gradient steps", "cyclic, gradient steps",
		"Gauss–Southwell, gradient steps", "Gauss–Southwell, matrix steps"
	return Experiment{
		Slug:   "block-coordinate-descent",
		Claim:  "Greedy choice in the bound's norm, forests solved by messages and Newton steps on the face come nearer to the minimum in as many iterations.",
		Figure: Figure{"log10 of what is left", "", Lower},
		Arms: []Arm{
			{method, Method, descents(greedy)},
			{"gsl, matrix steps", Method, descents(always(optimize.BlockDescent{Rule: "gsl", Update: "matrix"}))},
			{random, Baseline, descents(always(optimize.BlockDescent{Rule: "random", Blocks: "random", Update: "gradient"}))},
			{cyclic, Baseline, descents(always(optimize.BlockDescent{Rule: "cyclic", Blocks: "random", Update: "gradient"}))},
			{gs, Baseline, descents(always(optimize.BlockDescent{Rule: "gs", Update: "gradient"}))},
			{matrix, Baseline, descents(always(optimize.BlockDescent{Rule: "gs", Update: "matrix"}))},
		},
		Seeds: 5, QuickSeeds: 2,
		Rule: All(
			Beats(method, random), Beats(method, cyclic), Beats(method, gs), Beats(method, matrix),
			BeatsIn(OfExtra(leftOf("D lattice")), method, matrix), BeatsIn(OfExtra(leftOf("E two moons")), method, matrix),
			BeatsIn(OfExtra(supportFound), method, matrix),
		),
	}
}

// leftOf is the figure of one problem.
func leftOf(problem string) Figure { return Figure{problem, "", Lower} }

// supportFound is the mean over the problems F; where the support is not found it is the
// number of iterations.
var supportFound = Figure{"iterations to the support of F", "", Lower}

// descents measures one way of choosing and moving blocks on all problems.
func descents(way func(problem byte) optimize.BlockDescent) func(context.Context, Env, uint64) (Measurement, error) {
	return func(ctx context.Context, e Env, seed uint64) (Measurement, error) {
		m := Measurement{Extra: map[string]float64{}}
		problems, err := blockProblems(seed, e.Quick)
		if err != nil {
			return m, err
		}
		iterations := e.Pick(200, 60)
		curve := make([]float64, iterations+1)
		var found, seconds, faces float64
		for at, p := range problems {
			e.Step(at, len(problems), p.name)
			o := way(p.name[0])
			o.Size, o.L1, o.Lower, o.Seed = p.size, p.l1, p.lower, seed
			left, r, took, err := p.follow(ctx, o, iterations)
			if err != nil {
				return m, fmt.Errorf("%s: %w", p.name, err)
			}
			m.Extra[p.name] = left[iterations]
			for k, v := range left {
				curve[k] += v / float64(len(problems))
			}
			seconds += took
			if r.Identified >= 0 {
				faces++
				if r.Identified > 0 && p.sameFace(r.X) {
					found += float64(r.Identified)
				} else {
					found += float64(iterations)
				}
			}
		}
		m.Extra[supportFound.Name] = found / faces
		m.Value, m.Seconds = curve[iterations], seconds
		for k, v := range curve {
			m.Curve = append(m.Curve, Point{k, v})
		}
		return m, nil
	}
}

// blockProblem is one problem with its minimum.
type blockProblem struct {
	name  string
	f     optimize.Smooth
	size  int
	l1    float64
	lower []float64
	best  optimize.BlockResult
}

// solve finds the minimum by Newton's method on all coordinates.
func (p *blockProblem) solve() error {
	n := p.f.Dim()
	o := optimize.BlockDescent{Rule: "cyclic", Update: "newton", Size: n, L1: p.l1, Lower: p.lower, Tol: 1e-9, MaxIter: 500}
	r, err := o.Minimize(context.Background(), p.f, make([]float64, n))
	if err != nil {
		return fmt.Errorf("minimum of %s: %w", p.name, err)
	}
	p.best = *r
	return nil
}

// sameFace says whether x has its zeros where the minimum has them.
func (p *blockProblem) sameFace(x []float64) bool {
	for i, v := range x {
		if (v == 0) != (p.best.X[i] == 0) {
			return false
		}
	}
	return true
}

// follow descends and returns what is left after each iteration. A descent that has
// converged stays where it is.
func (p *blockProblem) follow(ctx context.Context, o optimize.BlockDescent, iterations int) (left []float64, r *optimize.BlockResult, seconds float64, err error) {
	n := p.f.Dim()
	start := 0.0
	share := func(v float64) float64 {
		return math.Log10(max((v-p.best.Value)/(start-p.best.Value), 1e-12))
	}
	o.MaxIter, o.Tol = iterations, 1e-10
	o.Watch = func(s optimize.BlockStep) {
		if left == nil {
			start = s.Before
			left = append(left, 0)
		}
		left, seconds = append(left, share(s.Value)), s.Seconds
	}
	r, err = o.Minimize(ctx, p.f, make([]float64, n))
	var stopped *optimize.StoppedError
	if err != nil && !errors.As(err, &stopped) {
		return nil, nil, 0, err
	}
	for len(left) <= iterations {
		left = append(left, left[len(left)-1])
	}
	return left, r, seconds, nil
}

// blockProblems draws A to F.
func blockProblems(seed uint64, quick bool) ([]*blockProblem, error) {
	rng := rand.New(rand.NewPCG(seed, 35))
	rows, columns, side := 500, 250, 22
	if quick {
		rows, columns, side = 200, 100, 12
	}
	a, y := unevenRows(rng, rows, columns)
	signs := make([]float64, rows)
	classes := make([]float64, rows)
	for r, v := range y {
		signs[r] = math.Copysign(1, v)
		if rng.Float64() < 0.1 {
			signs[r] = -signs[r]
		}
		classes[r] = float64(rng.IntN(8))
		if v > 0 && rng.Float64() < 0.7 {
			classes[r] = float64(r % 3)
		}
	}
	few := mat.DenseCopyOf(a.Slice(0, rows, 0, columns/8))
	var problems []*blockProblem
	var failed error
	add := func(p *blockProblem, err error) {
		if failed = errors.Join(failed, err); failed != nil {
			return
		}
		if p.size == 0 {
			p.size = int(math.Cbrt(float64(p.f.Dim())))
		}
		failed = p.solve()
		problems = append(problems, p)
	}
	linear := func(name, loss string, a *mat.Dense, y []float64, classes int, ridge float64) *blockProblem {
		f, err := optimize.NewLinear(loss, a, y, classes, ridge)
		failed = errors.Join(failed, err)
		return &blockProblem{name: name, f: f}
	}
	add(linear("A least squares", "squares", a, y, 0, 1), nil)
	add(linear("B logistic", "logistic", a, signs, 0, 1), nil)
	add(linear("C softmax", "softmax", few, classes, 8, 1), nil)
	add(latticeProblem(rng, side))
	add(moonsProblem(rng, side*side))
	below := linear("F lower bounds", "squares", a, y, 0, 0.01)
	below.size, below.lower = 40, make([]float64, columns)
	add(below, nil)
	sparse := linear("F L1", "squares", a, y, 0, 0)
	sparse.size, sparse.l1 = 40, 0.1*steepest(sparse.f)
	add(sparse, nil)
	return problems, failed
}

// unevenRows draws a sparse matrix with columns of very different sizes and responses
// that a tenth of the columns make.
func unevenRows(rng *rand.Rand, m, p int) (*mat.Dense, []float64) {
	a, y := mat.NewDense(m, p, nil), make([]float64, m)
	fill := min(1, 10*math.Log(float64(m))/float64(m))
	for j := range p {
		scale := math.Exp(1.2 * rng.NormFloat64())
		truth := 0.0
		if j%10 == 0 {
			truth = rng.NormFloat64() / scale
		}
		for r := range m {
			if rng.Float64() < fill {
				a.Set(r, j, scale*rng.NormFloat64())
			}
			y[r] += a.At(r, j) * truth
		}
		if mat.Norm(a.ColView(j), 2) == 0 {
			a.Set(rng.IntN(m), j, scale)
		}
	}
	for r := range y {
		y[r] += 0.1 * rng.NormFloat64()
	}
	return a, y
}

// steepest is the largest |∂f/∂x_i| at 0, at and above which L1 keeps all at 0.
func steepest(f optimize.Smooth) float64 {
	all := make([]int, f.Dim())
	for i := range all {
		all[i] = i
	}
	g := make([]float64, len(all))
	f.Gradient(g, all)
	return max(slices.Max(g), -slices.Min(g))
}

// latticeProblem is label propagation on a grid in which a tenth of the nodes are known.
func latticeProblem(rng *rand.Rand, side int) (*blockProblem, error) {
	n := side * side
	var edges []optimize.Pair
	for i := range n {
		if i%side+1 < side {
			edges = append(edges, optimize.Pair{I: i, J: i + 1, Value: 1})
		}
		if i+side < n {
			edges = append(edges, optimize.Pair{I: i, J: i + side, Value: 1})
		}
	}
	return propagation("D lattice", rng, n, edges, func(int) float64 { return float64(1 - 2*rng.IntN(2)) })
}

// moonsProblem is label propagation among the five nearest neighbours of points on two
// half circles that reach into one another.
func moonsProblem(rng *rand.Rand, n int) (*blockProblem, error) {
	x := make([][2]float64, n)
	for i := range x {
		u := math.Pi * rng.Float64()
		x[i] = [2]float64{math.Cos(u), math.Sin(u)}
		if i%2 == 1 {
			x[i] = [2]float64{1 - math.Cos(u), 0.5 - math.Sin(u)}
		}
		x[i][0] += 0.1 * rng.NormFloat64()
		x[i][1] += 0.1 * rng.NormFloat64()
	}
	pairs := map[[2]int]bool{}
	var edges []optimize.Pair
	link := func(i, j int) {
		if key := [2]int{min(i, j), max(i, j)}; i != j && !pairs[key] {
			pairs[key] = true
			edges = append(edges, optimize.Pair{I: key[0], J: key[1], Value: 1})
		}
	}
	distance := func(i, j int) float64 { return math.Hypot(x[i][0]-x[j][0], x[i][1]-x[j][1]) }
	for i := range n {
		near := make([]int, n)
		for j := range near {
			near[j] = j
		}
		slices.SortFunc(near, func(a, b int) int { return cmp.Compare(distance(i, a), distance(i, b)) })
		for _, j := range near[1:6] {
			link(i, j)
		}
		if i > 1 {
			link(i, i-2) // each half circle is one piece
		}
	}
	return propagation("E two moons", rng, n, edges, func(i int) float64 { return float64(1 - 2*(i%2)) })
}

func propagation(name string, rng *rand.Rand, n int, edges []optimize.Pair, label func(i int) float64) (*blockProblem, error) {
	known := map[int]float64{}
	for len(known) < n/10 {
		i := rng.IntN(n)
		known[i] = label(i)
	}
	f, _, err := optimize.Propagate(n, edges, known)
	return &blockProblem{name: name, f: f}, err
}
