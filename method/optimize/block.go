package optimize

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// BlockDescent minimises F(x) = f(x) + L1·‖x‖₁ over Lower ≤ x ≤ Upper by moving a block
// of coordinates at a time (Nutini, Laradji and Schmidt 2022). With g = ∇f(x), L_i a bound
// on ∂²f/∂x_i² and H_b one on the Hessian of block b, everywhere, it chooses the block by
// Rule:
//
//	random, cyclic
//	gs      largest ‖g_b‖
//	gsl     largest ‖g_b‖² / L_b, L_b the largest eigenvalue of H_b; of a variable block,
//	        largest g_i² / L_i in each coordinate
//	bgs-d   largest Σ_{i∈b} g_i² / D_i, D_i = Σ_{j∈b} |H_ij|; of a variable block, as gsl
//	bgs-q   largest g_bᵀ H_b⁻¹ g_b; of a variable block, by hard thresholding
//	bgs-qq  the same with the Hessian at x in H_b's place
//	gsc     largest decrease of the bound on F in each coordinate: with L1 or bounds
//
// and moves it by Update:
//
//	gradient  d = −g_b / L_b
//	matrix    d = −H_b⁻¹ g_b
//	newton    d = −t ∇²_bb f(x)⁻¹ g_b, with t by halving until the decrease is that of Armijo
//	exact     newton again until the block's gradient is gone
//
// With L1 or bounds gradient is a proximal step, matrix minimises the bound's quadratic
// with them, and newton is two-metric: coordinates of the block that stay at a bound or at
// 0 are held, the others take the Newton step of their face, projected on it. Once the
// coordinates that end at a bound or at 0 are identified, which takes finitely many
// iterations, and a block holds all others, newton converges superlinearly.
//
// Tree takes for blocks sets on which the graph of the Hessian is a forest. They may hold
// half of all coordinates, and are minimised exactly by passing messages from the leaves
// to the roots and back, in time linear in their size.
//
// An iteration costs a gradient, O(|b|³) for all but gradient steps and trees, and what f
// asks for its Hessian.
type BlockDescent struct {
	Rule    string    `yaml:"rule" json:"rule" help:"random, cyclic, gs, gsl, bgs-d, bgs-q, bgs-qq or gsc" default:"gsl"`
	Blocks  string    `yaml:"blocks" json:"blocks" help:"variable, or fixed beforehand: random, average or sorted by Lipschitz constants" default:"variable"`
	Update  string    `yaml:"update" json:"update" help:"gradient, matrix, newton or exact" default:"matrix"`
	Size    int       `yaml:"size" json:"size" help:"coordinates in a block" default:"5"`
	Tree    bool      `yaml:"tree" json:"tree" help:"blocks are forests in the Hessian's graph, as large as they get"`
	Tol     float64   `yaml:"tol" json:"tol" help:"stop when no coordinate violates the conditions of an optimum by more" default:"1e-6"`
	MaxIter int       `yaml:"max_iter" json:"max_iter" help:"at most so many" default:"10000"`
	Seed    uint64    `yaml:"-" json:"-"` // of random choices
	L1      float64   `yaml:"l1" json:"l1" help:"weight of the sum of |x|" default:"0"`
	Lower   []float64 `yaml:"-" json:"-"` // nil: none
	Upper   []float64 `yaml:"-" json:"-"` // nil: none

	// Watch, if set, takes every step.
	Watch func(BlockStep) `yaml:"-" json:"-"`
}

// BlockStep is one iteration.
type BlockStep struct {
	Iteration int
	Block     []int   // the coordinates moved; valid during the call
	Before    float64 // F before it
	Value     float64 // F after it
	Bound     float64 // how far F had to fall at least, by theory
	Length    float64 // t of a Newton step, else 1
	Free      int     // coordinates that are neither at a bound nor at the 0 of L1
	Seconds   float64 // since the start, what watches left out
}

// BlockResult is where a descent ended.
type BlockResult struct {
	X          []float64
	Value      float64
	Residual   float64 // largest violation of an optimum's conditions
	Iterations int
	// Identified is the iteration since which the same coordinates were at a bound or at
	// the 0 of L1; −1 without either.
	Identified int
}

// NewBlockDescent returns the defaults.
func NewBlockDescent() *BlockDescent {
	o := BlockDescent{}.withDefaults()
	return &o
}

func (o BlockDescent) withDefaults() BlockDescent {
	text := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	text(&o.Rule, "gsl")
	text(&o.Blocks, "variable")
	text(&o.Update, "matrix")
	if o.Size == 0 {
		o.Size = 5
	}
	if o.Tol == 0 {
		o.Tol = 1e-6
	}
	if o.MaxIter == 0 {
		o.MaxIter = 10000
	}
	return o
}

// constrained says whether F is more than f.
func (o *BlockDescent) constrained() bool { return o.L1 > 0 || o.Lower != nil || o.Upper != nil }

// The values that options may have.
var (
	blockRules   = []string{"random", "cyclic", "gs", "gsl", "bgs-d", "bgs-q", "bgs-qq", "gsc"}
	blockKinds   = []string{"variable", "random", "average", "sorted"}
	blockUpdates = []string{"gradient", "matrix", "newton", "exact"}
)

// Validate says all that is wrong with the settings at once.
func (o BlockDescent) Validate() error {
	o = o.withDefaults()
	var wrong []string
	say := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	oneOf := func(what, v string, list []string) {
		say(!slices.Contains(list, v), "%s %q, want one of %s", what, v, strings.Join(list, ", "))
	}
	oneOf("rule", o.Rule, blockRules)
	oneOf("blocks", o.Blocks, blockKinds)
	oneOf("update", o.Update, blockUpdates)
	say(o.Size < 1, "blocks of %d, want at least 1", o.Size)
	say(!(o.Tol > 0), "tolerance %v, want more than 0", o.Tol)
	say(o.MaxIter < 1, "%d iterations, want at least 1", o.MaxIter)
	say(!(o.L1 >= 0) || math.IsInf(o.L1, 1), "l1 %v, want 0 or more", o.L1)
	say(o.L1 > 0 && (o.Lower != nil || o.Upper != nil), "both l1 and bounds, want one of them")
	say(o.Tree && o.constrained(), "trees with l1 or bounds: messages minimise what is smooth")
	say(o.Tree && (o.Rule == "bgs-q" || o.Rule == "bgs-qq"), "trees by %s, which needs blocks of a size; want gs or gsl", o.Rule)
	say(o.constrained() && o.Update == "exact", "exact steps with l1 or bounds; want newton")
	for i := range min(len(o.Lower), len(o.Upper)) {
		say(o.Lower[i] > o.Upper[i], "coordinate %d has bounds %v to %v", i, o.Lower[i], o.Upper[i])
	}
	return optionsError("block descent", wrong)
}

// Smooth is a convex function f that follows a point as blocks of it move. A block lists
// different coordinates.
type Smooth interface {
	Dim() int
	Reset(x []float64)                                  // go to x
	Move(block []int, d []float64)                      // go on by d on a block
	Value() float64                                     // f there
	Gradient(dst []float64, block []int)                // there, of a block
	Hessian(dst []float64, block []int)                 // there, of a block: [b, b]
	Bound(dst []float64, block []int)                   // a bound on it everywhere: [b, b]
	BoundTimes(dst []float64, block []int, d []float64) // the bound's columns of a block times d: [n]
}

// Sparse is a quadratic f whose Hessian has few entries.
type Sparse interface {
	Smooth
	// Row lists the coordinates and entries of a row of the Hessian, its diagonal included.
	Row(i int) ([]int, []float64)
}

// Minimize starts from x. Beside a [StoppedError] it returns where it stopped.
func (o BlockDescent) Minimize(ctx context.Context, f Smooth, x []float64) (*BlockResult, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	s, err := o.begin(f, x)
	if err != nil {
		return nil, err
	}
	start, watching := time.Now(), time.Duration(0)
	for k := 0; ; k++ {
		if k%s.checks == 0 || k == o.MaxIter {
			s.f.Gradient(s.g, s.all)
			if s.result.Residual = s.residual(); s.result.Residual <= o.Tol || math.IsNaN(s.result.Residual) {
				break
			}
		}
		if k == o.MaxIter {
			break
		}
		if err := ctx.Err(); err != nil {
			return s.finish(k), fmt.Errorf("optimize: block descent: stopped after %d iterations at %.6g: %w", k, s.result.Value, err)
		}
		step, err := s.iterate(k)
		if err != nil {
			return s.finish(k), err
		}
		s.result.Iterations = k + 1
		if o.Watch != nil {
			before := time.Now()
			step.Seconds = (before.Sub(start) - watching).Seconds()
			o.Watch(step)
			watching += time.Since(before)
		}
	}
	r := s.finish(s.result.Iterations)
	switch {
	case math.IsNaN(r.Residual) || math.IsNaN(r.Value):
		return r, &StoppedError{"block descent", "the gradient is not a number", r.Iterations, r.Residual, o.Tol}
	case r.Residual > o.Tol:
		return r, &StoppedError{"block descent", "the limit of iterations is reached; raise max_iter or tol", r.Iterations, r.Residual, o.Tol}
	}
	return r, nil
}

// descent is a run.
type descent struct {
	o      BlockDescent
	f      Smooth
	n      int
	x, g   []float64
	lip    []float64 // L_i
	all    []int
	fixed  [][]int   // blocks chosen beforehand, nil for variable ones
	consts []float64 // L_b of fixed blocks, where a rule or update asks
	free   []bool    // at neither bound nor 0
	rng    *rand.Rand
	checks int // iterations from one look at the whole gradient to the next
	result BlockResult

	score, bd []float64
	h         []float64 // [b, b]
}

// needs is what this descent's rule asks of every iteration.
func (o *BlockDescent) greedy() bool { return o.Rule != "random" && o.Rule != "cyclic" }

func (o BlockDescent) begin(f Smooth, x []float64) (*descent, error) {
	n := f.Dim()
	if len(x) != n || o.Lower != nil && len(o.Lower) != n || o.Upper != nil && len(o.Upper) != n {
		return nil, fmt.Errorf("optimize: block descent: %w: %d coordinates, a start of %d, and bounds of %d and %d", ErrData, n, len(x), len(o.Lower), len(o.Upper))
	}
	if o.Tree {
		if _, ok := f.(Sparse); !ok {
			return nil, fmt.Errorf("optimize: block descent: %w: trees need a quadratic with a sparse Hessian", ErrData)
		}
	}
	s := &descent{
		o: o, f: f, n: n, x: slices.Clone(x), g: make([]float64, n), lip: make([]float64, n), all: make([]int, n),
		free: make([]bool, n), rng: rand.New(rand.NewPCG(o.Seed, 35)), score: make([]float64, n), checks: 1,
	}
	for i := range n {
		if math.IsNaN(x[i]) || math.IsInf(x[i], 0) {
			return nil, fmt.Errorf("optimize: block descent: %w: coordinate %d starts at %v", ErrData, i, x[i])
		}
		s.all[i] = i
		s.x[i] = o.clip(i, x[i])
		f.Bound(s.lip[i:i+1], s.all[i:i+1])
		if !(s.lip[i] > 0) || math.IsInf(s.lip[i], 1) {
			return nil, fmt.Errorf("optimize: block descent: %w: coordinate %d has second derivatives up to %v, want a positive number: the function does not depend on it, or is not strictly convex in it", ErrData, i, s.lip[i])
		}
	}
	f.Reset(s.x)
	s.result.Value = s.value()
	s.mark()
	s.result.Identified = 0
	if !o.constrained() {
		s.result.Identified = -1
	}
	if !o.greedy() {
		s.checks = max(1, n/o.Size)
	}
	s.partition()
	return s, nil
}

func (s *descent) finish(iterations int) *BlockResult {
	s.result.X, s.result.Iterations = s.x, iterations
	return &s.result
}

// value is F.
func (s *descent) value() float64 {
	v := s.f.Value()
	if s.o.L1 > 0 {
		for _, x := range s.x {
			v += s.o.L1 * math.Abs(x)
		}
	}
	return v
}

// clip projects a coordinate on its bounds.
func (o *BlockDescent) clip(i int, v float64) float64 {
	if o.Lower != nil {
		v = max(v, o.Lower[i])
	}
	if o.Upper != nil {
		v = min(v, o.Upper[i])
	}
	return v
}

// prox minimises ½ L (z − v)² + L1 |z| within coordinate i's bounds.
func (o *BlockDescent) prox(i int, v, l float64) float64 {
	if o.L1 > 0 {
		t := o.L1 / l
		return math.Copysign(max(math.Abs(v)-t, 0), v)
	}
	return o.clip(i, v)
}

// isFree says whether a coordinate is at neither a bound nor the 0 of L1.
func (o *BlockDescent) isFree(i int, v float64) bool {
	return !(o.L1 > 0 && v == 0 || o.Lower != nil && v == o.Lower[i] || o.Upper != nil && v == o.Upper[i])
}

// mark notes which coordinates are free and whether that is new.
func (s *descent) mark() (changed bool, count int) {
	for i, v := range s.x {
		free := s.o.isFree(i, v)
		changed = changed || free != s.free[i]
		s.free[i] = free
		if free {
			count++
		}
	}
	return changed, count
}

// violation is how far coordinate i is from its condition of an optimum: |g_i| inside,
// the least |subgradient| with L1, and with bounds how far a step of −g stays from x.
func (s *descent) violation(i int) float64 {
	x, g := s.x[i], s.g[i]
	switch {
	case s.o.L1 > 0 && x == 0:
		return max(math.Abs(g)-s.o.L1, 0)
	case s.o.L1 > 0:
		return math.Abs(g + math.Copysign(s.o.L1, x))
	case s.o.constrained():
		return math.Abs(x - s.o.clip(i, x-g))
	}
	return math.Abs(g)
}

func (s *descent) residual() (worst float64) {
	for i := range s.x {
		v := s.violation(i)
		if math.IsNaN(v) {
			return v
		}
		worst = max(worst, v)
	}
	return worst
}

// iterate moves one block.
func (s *descent) iterate(k int) (BlockStep, error) {
	step := BlockStep{Iteration: k, Before: s.result.Value, Length: 1}
	step.Block = s.choose(k)
	if !s.o.greedy() {
		s.block(len(step.Block))
		part := s.score[:len(step.Block)]
		s.f.Gradient(part, step.Block)
		for j, i := range step.Block {
			s.g[i] = part[j]
		}
	}
	if err := s.move(&step); err != nil {
		return step, fmt.Errorf("optimize: block descent: iteration %d: %w", k, err)
	}
	step.Value = s.result.Value
	changed, free := s.mark()
	if step.Free = free; changed && s.o.constrained() {
		s.result.Identified = k + 1
	}
	return step, nil
}

// block makes room for a block's direction and matrix.
func (s *descent) block(b int) {
	if cap(s.bd) < b {
		s.bd = make([]float64, b)
	}
	s.bd = s.bd[:b]
	if s.o.Tree {
		return
	}
	if cap(s.h) < b*b {
		s.h = make([]float64, b*b)
	}
	s.h = s.h[:b*b]
}
