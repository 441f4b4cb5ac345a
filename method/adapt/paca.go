package adapt

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// PaCA trains r columns C of the weight itself (Woo et al. 2025, "PaCA: Partial
// Connection Adaptation for Efficient Fine-Tuning", arXiv:2503.01905):
//
//	y = W x;   P = W[:, C] trains in place;   dP = dyᵀ x[:, C];   dx = Wᵀ dy
//
// The forward pass is the base's own, no product is added, and of x only the r
// columns that dP needs are kept. Over a dense f32 weight this is nothing but a
// parameter whose columns train. Over a packed weight the columns are held in f32
// beside the rest, whose columns are zero: y = Q(W without C) x + P x[:, C].
//
// C is random, or the columns of largest norm, or those whose gradient dL/dW[:, j] is
// largest over a few micro-batches. Trained entries: r·out a layer. Merging is the
// identity. Files hold the columns and their indices, as the authors' code does: it
// stores W[:, C]·r/alpha, and we write alpha = r.
type PaCA struct {
	Rank    int    `yaml:"rank" help:"Columns that train in each target." default:"16"`
	Choice  string `yaml:"choice" help:"Which columns: random, norm for those of largest norm, gradient for those of largest gradient before the first step." default:"random"`
	Batches int    `yaml:"batches" help:"Micro-batches that gradients are measured on." default:"4"`

	stored float32 // alpha/r of the file that is being read; 0 means 1
}

// NewPaCA returns the defaults: 16 random columns.
func NewPaCA() *PaCA { return &PaCA{Rank: 16, Choice: "random", Batches: 4} }

// Validate implements Options.
func (o *PaCA) Validate() error {
	var errs []error
	if o.Rank < 1 {
		errs = append(errs, fmt.Errorf("adapt: paca: rank %d, want at least 1", o.Rank))
	}
	if !slices.Contains([]string{"random", "norm", "gradient"}, o.Choice) {
		errs = append(errs, fmt.Errorf("adapt: paca: choice %q, want random, norm or gradient", o.Choice))
	}
	if o.Choice == "gradient" && o.Batches < 1 {
		errs = append(errs, fmt.Errorf("adapt: paca: batches %d, want at least 1", o.Batches))
	}
	return errors.Join(errs...)
}

// Attach implements Options.
func (o *PaCA) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	_, in := l.Weight.Dims()
	if err := checkRank("paca", l, o.Rank, in); err != nil {
		return nil, err
	}
	var index []int
	if o.Choice == "norm" {
		var err error
		if index, err = largestColumns(l.Weight, o.Rank); err != nil {
			return nil, err
		}
	} else {
		index = rand.New(rand.NewPCG(seed, 0)).Perm(in)[:o.Rank]
	}
	a := &paca{layer: l, base: l.Weight, stored: o.stored}
	if o.stored == 0 {
		a.stored = 1
	}
	return a, a.train(index)
}

// largestColumns returns the r columns of w with the largest norm.
func largestColumns(w nn.Weight, r int) ([]int, error) {
	m, err := nn.Materialize(w)
	if err != nil {
		return nil, err
	}
	return largest(columnSquares(make([]float64, m.Dim(1)), m.F32()), r), nil
}

// largest returns the places of the r largest scores, of equal ones the first.
func largest(score []float64, r int) []int {
	order := make([]int, len(score))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return score[order[i]] > score[order[j]] })
	return order[:r]
}

// Config implements Options.
func (o *PaCA) Config() map[string]any {
	return map[string]any{"r": o.Rank, "paca_alpha": o.Rank, "choice": o.Choice}
}

// SetConfig implements Options.
func (o *PaCA) SetConfig(c map[string]any) error {
	o.Rank, o.Choice = integer(c, "r", 16), "random" // which are in the file
	alpha := number(c, "paca_alpha", float64(o.Rank))
	if !(alpha > 0) || math.IsInf(alpha, 0) {
		return fmt.Errorf("adapt: paca: paca_alpha is %g, want a positive number", alpha)
	}
	o.stored = float32(alpha / float64(max(1, o.Rank)))
	return nil
}

// paca is PaCA's hold on a layer: the parameter whose columns train, or the columns
// split off a weight that cannot train in place.
type paca struct {
	layer  *nn.Linear
	base   nn.Weight // as found
	stored float32   // a file's columns are W[:, C]/stored
	index  []int
	p      *grad.Param // the whole of W with Part columns, or P [out, r]
}

// train makes the given columns train.
func (a *paca) train(index []int) error {
	a.index = slices.Sorted(slices.Values(index))
	if d, ok := a.base.(nn.Dense); ok {
		if err := makeTrainable(d.P); err != nil {
			return err
		}
		d.P.Part = grad.ColumnsOf(a.index)
		a.p, a.layer.Weight = d.P, d
		return nil
	}
	s, ok := a.base.(nn.ColumnSplitter)
	if !ok {
		return fmt.Errorf("adapt: paca: layer %s is held as %T, whose columns cannot be told apart", a.layer.Name, a.base)
	}
	rest, columns, err := s.SplitColumns(a.index)
	if err != nil {
		return err
	}
	a.p = grad.NewParam(a.layer.Name+".paca_w", columns)
	a.p.Part = grad.Whole
	a.layer.Weight = &splitWeight{rest: rest, p: a.p, index: a.index}
	return nil
}

// makeTrainable gives a parameter that is stored otherwise, or mapped from a file, f32
// values of its own.
func makeTrainable(p *grad.Param) error {
	if p.Value.DType() == tensor.F32 && !p.Value.ReadOnly() {
		return nil
	}
	t := tensor.New(p.Value.Shape()...)
	if err := p.Value.ReadF32(t.F32(), 0); err != nil {
		return fmt.Errorf("adapt: %s: %w", p.Name, err)
	}
	p.Value = t
	return nil
}

func (a *paca) Params() []*grad.Param { return []*grad.Param{a.p} }

// columns returns P [out, r], live when it is held apart and a copy otherwise.
func (a *paca) columns() *tensor.Tensor {
	if a.p.Part.Kind != grad.Columns {
		return a.p.Value
	}
	t := tensor.New(a.p.PartShape()...)
	a.p.Gather(t.F32())
	return t
}

func (a *paca) State() []Named {
	index := tensor.NewOf(tensor.I64, len(a.index))
	for i, c := range a.index {
		index.I64()[i] = int64(c)
	}
	return []Named{{"paca_w", a.columns()}, {"paca_indices", index}}
}

func (a *paca) Restore(state map[string]*tensor.Tensor) error {
	idx, ok := state["paca_indices"]
	if !ok || idx.DType() != tensor.I64 {
		return errors.New("adapt: the file has no paca_indices of type I64")
	}
	_, in := a.layer.Weight.Dims()
	order := make([]int, idx.Len()) // the file's columns may stand in any order
	for i, c := range idx.I64() {
		if c < 0 || int(c) >= in {
			return fmt.Errorf("adapt: paca_indices has %d, layer %s has %d columns", c, a.layer.Name, in)
		}
		order[i] = int(c)
	}
	if err := a.train(order); err != nil {
		return err
	}
	if err := a.p.Check(); err != nil {
		return err
	}
	columns := tensor.New(a.columns().Shape()...)
	if err := restore(columns, state, "paca_w"); err != nil {
		return err
	}
	r := len(order)
	sorted, from := make([]float32, columns.Len()), columns.F32()
	for i, c := range order {
		to := sort.SearchInts(a.index, c)
		for row := 0; row < len(from); row += r {
			sorted[row+to] = a.stored * from[row+i]
		}
	}
	a.p.Scatter(sorted)
	return nil
}

// splitWeight is a weight whose columns in index are held apart, as P.
type splitWeight struct {
	rest  nn.Weight // with those columns zero
	p     *grad.Param
	index []int
}

func (w *splitWeight) Dims() (out, in int) { return w.rest.Dims() }

func (w *splitWeight) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.AddLinear(w.rest.Apply(tp, x), tp.Columns(x, w.index), w.p, 1)
}

func (w *splitWeight) Dense(dst *tensor.Tensor) error {
	if err := w.rest.Dense(dst); err != nil {
		return err
	}
	t, p, in, r := dst.F32(), w.p.Value.F32(), dst.Dim(1), len(w.index)
	for row := range dst.Dim(0) {
		for i, c := range w.index {
			t[row*in+c] = p[row*r+i]
		}
	}
	return nil
}

func (w *splitWeight) Params() []*grad.Param { return append(w.rest.Params(), w.p) }
