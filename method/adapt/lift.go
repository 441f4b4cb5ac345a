package adapt

import (
	"errors"
	"fmt"
	"time"

	"gonum.org/v1/gonum/mat"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
)

// LIFT trains the principal weights: the entries that are largest once the weight is
// reduced to a low rank (Liu et al. 2025, "LIFT the Veil for the Truth: Principal
// Weights Emerge after Rank Reduction for Reasoning-Focused Supervised Fine-Tuning",
// arXiv:2506.00772):
//
//	W ≈ W_k = U_k S_k V_kᵀ;   trained: the m entries where |W_k| is largest
//
// with m as in [Sparse], the paper's density 5 %. Every update_interval steps the
// choice is made anew from the current W. Entries that stay keep their two moments,
// new ones start at zero, and the optimizer's step count, hence the bias correction,
// goes on for all, as in the authors' SparseAdamW. Entries that leave keep what they
// have learned. State in the optimizer: 8·m bytes.
//
// The authors' k is 128 on 7 billion parameters; ours is the smaller side over 8, at
// most 128. The decomposition is a random sketch (see principal) or exact. A choice
// holds one matrix of |W_k| and one of its copy. What all choices took is Seconds.
type LIFT struct {
	Rank       int     `yaml:"rank" help:"LoRA rank whose number of trained entries is matched; 0 goes by density." default:"0"`
	Density    float64 `yaml:"density" help:"Fraction of the entries that train, where rank is 0." default:"0.05"`
	FilterRank int     `yaml:"filter_rank" help:"Rank k of the approximation that entries are chosen by; 0 takes an eighth of the smaller side, at most 128." default:"0"`
	Interval   int     `yaml:"update_interval" help:"Steps between choices; 0 keeps the first." default:"200"`
	Exact      bool    `yaml:"exact" help:"Decompose exactly, without a random sketch."`

	// Seconds is the time that choosing has taken so far.
	Seconds float64 `yaml:"-"`

	fromFile bool // a file says which entries
}

// NewLIFT returns the defaults: 5 % of the entries, chosen anew every 200 steps.
func NewLIFT() *LIFT { return &LIFT{Density: 0.05, Interval: 200} }

// Validate implements Options.
func (o *LIFT) Validate() error {
	errs := []error{checkDensity("lift", o.Rank, o.Density)}
	if o.FilterRank < 0 {
		errs = append(errs, fmt.Errorf("adapt: lift: filter_rank %d, want 0 or more", o.FilterRank))
	}
	if o.Interval < 0 {
		errs = append(errs, fmt.Errorf("adapt: lift: update_interval %d, want 0 or more", o.Interval))
	}
	return errors.Join(errs...)
}

// Attach implements Options.
func (o *LIFT) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	s, err := newSparse("lift", l)
	if err != nil || o.fromFile {
		return s, err
	}
	out, in := l.Weight.Dims()
	if err := checkRank("lift: filter", l, o.FilterRank, min(out, in)); err != nil {
		return nil, err
	}
	index, err := o.choose(s.p.Value, seed)
	if err != nil {
		return nil, fmt.Errorf("adapt: lift: layer %s: %w", l.Name, err)
	}
	s.train(index)
	return s, nil
}

// choose returns the principal entries of w in rising order.
func (o *LIFT) choose(w *tensor.Tensor, seed uint64) ([]int, error) {
	began := time.Now()
	defer func() { o.Seconds += time.Since(began).Seconds() }()
	m := entries(o.Rank, o.Density, w)
	if m == w.Len() {
		return topEntries(w.F32(), m), nil
	}
	out, in := w.Dim(0), w.Dim(1)
	k := o.FilterRank
	if k == 0 {
		k = max(1, min(min(out, in)/8, 128))
	}
	decomposed := sketched
	if o.Exact {
		decomposed = func(w *tensor.Tensor, r int, _ uint64) (u *mat.Dense, s []float64, v *mat.Dense, err error) {
			return decompose(wide(w.F32(), out, in), r)
		}
	}
	u, s, v, err := decomposed(w, k, seed)
	if err != nil {
		return nil, err
	}
	return topEntries(magnitudes(product(u, s, v)), m), nil
}

// product returns U diag(s) Vᵀ, row-major.
func product(u *mat.Dense, s []float64, v *mat.Dense) []float32 {
	out, k := u.Dims()
	in, _ := v.Dims()
	us := mat.NewDense(out, k, nil)
	us.Apply(func(_, j int, x float64) float64 { return x * s[j] }, u)
	w := make([]float32, out*in)
	tp := grad.NewTape(nil)
	tp.NoGrad(func() {
		copy(w, tp.MatMul(tp.Const(narrow(us), out, k), tp.Const(narrow(v), in, k), false, true).Data)
	})
	tp.Reset()
	return w
}

// Config implements Options.
func (o *LIFT) Config() map[string]any {
	return map[string]any{"r": o.Rank, "density": o.Density, "filter_rank": o.FilterRank, "update_interval": o.Interval, "exact": o.Exact}
}

// SetConfig implements Options.
func (o *LIFT) SetConfig(c map[string]any) error {
	o.Rank, o.Density, o.FilterRank = integer(c, "r", 0), number(c, "density", 0.05), integer(c, "filter_rank", 0)
	o.Interval, o.Exact, o.fromFile = integer(c, "update_interval", 200), truth(c, "exact"), true
	return nil
}

// Hooks implements Hooked.
func (o *LIFT) Hooks(a *Adapter, s Setup) []any { return []any{&lifting{o, a, s.Seed}} }

// Figures implements Figured: what choosing took, and how many entries have trained for
// a while and left.
func (o *LIFT) Figures(a *Adapter) map[string]float64 {
	left := 0
	for _, h := range a.Holds {
		left += len(h.(*sparse).left)
	}
	return map[string]float64{"seconds choosing": o.Seconds, "entries left": float64(left)}
}

// lifting chooses anew as training goes on.
type lifting struct {
	o    *LIFT
	a    *Adapter
	seed uint64
}

// EndStep implements train.StepEnder.
func (h *lifting) EndStep(l *train.Loop) error {
	if h.o.Interval == 0 || l.Step%h.o.Interval != 0 || l.Step >= l.Options.Steps {
		return nil
	}
	for _, hold := range h.a.Holds {
		s := hold.(*sparse)
		index, err := h.o.choose(s.p.Value, seedFor(h.seed, s.layer.Name)+uint64(l.Step))
		if err != nil {
			return fmt.Errorf("adapt: lift: layer %s: %w", s.layer.Name, err)
		}
		from := s.p.Flat()
		if err := l.SetPart(s.p, s.part(index)); err != nil {
			return err
		}
		s.leave(from)
	}
	return nil
}

// HookName implements train.Keeper.
func (h *lifting) HookName() string { return "lift" }

// The tensors of a saved run, after the layer's name.
const (
	liftNow    = ".now"    // the entries that train
	liftLeft   = ".left"   // those that trained before
	liftValues = ".values" // what the latter have learned
)

// HookTensors implements train.Keeper: the loop saves the trained entries' values, but
// not which they are, nor what entries that left have learned.
func (h *lifting) HookTensors() train.State {
	var st train.State
	for _, hold := range h.a.Holds {
		s := hold.(*sparse)
		name := s.layer.Name
		st = append(st, train.Named{Name: name + liftNow, Tensor: positionsOf(s.p.Flat())})
		if len(s.left) > 0 {
			st = append(st, train.Named{Name: name + liftLeft, Tensor: positionsOf(s.left)}, train.Named{Name: name + liftValues, Tensor: s.values(s.left)})
		}
	}
	return st
}

// RestoreTensors implements train.Keeper.
func (h *lifting) RestoreTensors(st train.State) error {
	state := map[string]*tensor.Tensor{}
	for _, n := range st {
		state[n.Name] = n.Tensor
	}
	for _, hold := range h.a.Holds {
		s := hold.(*sparse)
		name, size := s.layer.Name, s.p.Value.Len()
		now, err := positions(state, name+liftNow, size)
		if err != nil {
			return err
		}
		s.train(now)
		s.left = nil
		if _, ok := state[name+liftLeft]; !ok {
			continue
		}
		if s.left, err = positions(state, name+liftLeft, size); err != nil {
			return err
		}
		values := tensor.New(len(s.left))
		if err := restore(values, state, name+liftValues); err != nil {
			return err
		}
		for i, at := range s.left {
			s.p.Value.F32()[at] = values.F32()[i]
		}
	}
	return nil
}
