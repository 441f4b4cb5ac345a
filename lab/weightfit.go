package lab

import (
	"context"
	"fmt"
	"math"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
	"tare/lab/bundle"
	"tare/lab/tuning"
	"tare/method/adapt"
	"tare/method/optim"
)

// How near an adapter can come to what full fine-tuning does: the bundled base is fully
// tuned on Opticks, and the adapter fitted to the tuned matrices of one block, without
// any data. Parts that have a closed form take it; the rest is found by Adam on
//
//	‖Ŵ − W'‖² / ‖W' − W‖²
//
// whose root, over all matrices, is the figure: 0 is W' itself, 1 the base.

// fitError is the figure at the tune test's number of trained entries.
var fitError = Figure{"error of the fit", "", Lower}

// fitRates are the rates that each fit is tried with; the best counts, since nothing is
// held out.
var fitRates = []float64{0.004, 0.015, 0.05}

// tunedMatrix is a matrix before and after full fine-tuning.
type tunedMatrix struct {
	name   string
	w, new *tensor.Tensor
}

// fullyTuned returns the matrices of the block in the middle.
func (t *tuneTest) fullyTuned(ctx context.Context, e Env, seed uint64) ([]tunedMatrix, error) {
	n := e.lengths()
	key := fmt.Sprint(seed, n.opticks)
	t.mu.Lock()
	list, there := t.tuned[key]
	t.mu.Unlock()
	if there {
		return list, nil
	}
	full := tuneArm{"full", Baseline, tuning.Full, 0}
	lr, err := t.rate(ctx, e, full, "opticks", n.opticksChoice)
	if err != nil {
		return nil, err
	}
	run, err := t.opticks(full, lr, n.opticks, n.held(bundle.Valid), seed)
	if err != nil {
		return nil, err
	}
	blocks := run.Model.Blocks()
	layers := blocks[len(blocks)/2].Linears()
	for _, l := range layers {
		w, err := nn.Materialize(l.Weight)
		if err != nil {
			return nil, err
		}
		list = append(list, tunedMatrix{name: l.Name, w: w})
	}
	if err := runToEnd(ctx, e, run); err != nil {
		return nil, err
	}
	for i, l := range layers {
		if list[i].new, err = nn.Materialize(l.Weight); err != nil {
			return nil, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tuned == nil {
		t.tuned = map[string][]tunedMatrix{}
	}
	t.tuned[key] = list
	return list, nil
}

// fit measures an arm's fit.
func (a tuneArm) fit(ctx context.Context, e Env, seed uint64) (relative float64, entries int64, err error) {
	t, err := openTuneTest()
	if err != nil {
		return 0, 0, err
	}
	list, err := t.fullyTuned(ctx, e, seed)
	if err != nil {
		return 0, 0, err
	}
	if e.Quick {
		list = list[:2]
	}
	var left, all float64
	for _, m := range list {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		whole := squaredDistance(m.w, m.new)
		r, n, err := a.fitMatrix(ctx, m, whole, e.Pick(200, 20), fitRates[:e.Pick(3, 1)], seed)
		if err != nil {
			return 0, 0, err
		}
		left, all, entries = left+r*whole, all+whole, entries+n
	}
	return math.Sqrt(left / all), entries, nil
}

// fitMatrix returns the least squared error that was found, relative to whole.
func (a tuneArm) fitMatrix(ctx context.Context, m tunedMatrix, whole float64, steps int, rates []float64, seed uint64) (least float64, entries int64, err error) {
	if a.method == "lora" { // the closed form is the best there is
		rates, steps = rates[:1], 0
	}
	least = math.Inf(1)
	for _, lr := range rates {
		l := &nn.Linear{Name: m.name, Weight: nn.NewDense(m.name+".weight", m.w.Clone())}
		hold, err := a.attachTo(l, seed)
		if err != nil {
			return 0, 0, err
		}
		entries = train.Trainable(hold.Params())
		measure := func() error {
			if f, ok := hold.(adapt.Fitter); ok {
				if err := f.Fit(m.new); err != nil {
					return err
				}
			}
			now, err := nn.Materialize(l.Weight)
			if err != nil {
				return err
			}
			least = min(least, squaredDistance(now, m.new)/whole)
			return nil
		}
		if err := measure(); err != nil {
			return 0, 0, err
		}
		if steps == 0 {
			continue
		}
		schedule, err := train.NewSchedule("cosine", steps/20, 0.01)
		if err != nil {
			return 0, 0, err
		}
		descent := &train.Loop{
			Task: newFitTask(l, m.new, whole), Params: hold.Params(), Optimizer: &optim.AdamW{}, Tape: grad.NewTape(nil),
			Options: train.Options{Steps: steps, LR: lr, Schedule: schedule},
		}
		if err := descent.Run(ctx); err != nil {
			return 0, 0, err
		}
		if err := measure(); err != nil {
			return 0, 0, err
		}
	}
	return least, entries, nil
}

// options returns the arm's method with its settings.
func (a tuneArm) options() (adapt.Method, adapt.Options, error) {
	r := a.recipe(1, 1, 1, 2)
	method, err := adapt.ByName(r.Method)
	if err != nil {
		return method, nil, err
	}
	o := method.New()
	return method, o, tuning.SetOptions(o, r.Options)
}

// attachTo puts the arm's method on a layer by itself.
func (a tuneArm) attachTo(l *nn.Linear, seed uint64) (adapt.Attached, error) {
	method, o, err := a.options()
	if err != nil {
		return nil, err
	}
	adapter, err := adapt.Attach(lone{l}, method, o, nil, seed)
	if err != nil {
		return nil, err
	}
	return adapter.Holds[0], nil
}

// lone is a layer as a model.
type lone struct{ *nn.Linear }

func (m lone) Linears() []*nn.Linear { return []*nn.Linear{m.Linear} }

// fitTask is the distance to a matrix as a loss: the layer of the unit vectors is its
// matrix, transposed.
type fitTask struct {
	l            *nn.Linear
	unit, target []float32 // I [in, in], W'ᵀ [in, out]
	whole        float64
}

func newFitTask(l *nn.Linear, target *tensor.Tensor, whole float64) fitTask {
	out, in := target.Dim(0), target.Dim(1)
	t := fitTask{l, make([]float32, in*in), make([]float32, in*out), whole}
	for i := range in {
		t.unit[i*in+i] = 1
		for p := range out {
			t.target[i*out+p] = target.F32()[p*in+i]
		}
	}
	return t
}

func (t fitTask) Next() (train.Batch, error) { return t, nil }
func (t fitTask) State() ([]byte, error)     { return nil, nil }
func (t fitTask) Restore([]byte) error       { return nil }
func (t fitTask) Count() int                 { return 1 }

func (t fitTask) Loss(tp *grad.Tape, denom float64) *grad.Value {
	out, in := t.l.Weight.Dims()
	d := tp.Sub(t.l.Apply(tp, tp.Const(t.unit, in, in)), tp.Const(t.target, in, out))
	return tp.Scale(tp.Sum(tp.Mul(d, d)), float32(1/(t.whole*denom)))
}

func squaredDistance(a, b *tensor.Tensor) (s float64) {
	for i, v := range a.F32() {
		d := float64(v) - float64(b.F32()[i])
		s += d * d
	}
	return s
}

// fitPart measures the fits of arms with the tune test's number of trained entries, half
// and a quarter as many; a quick run the first alone, on two matrices.
func fitPart(budgets ...tuneArm) part {
	return func(ctx context.Context, e Env, seed uint64, m *Measurement) error {
		for i, a := range budgets {
			if i > 0 && e.Quick {
				break
			}
			r, entries, err := a.fit(ctx, e, seed)
			if err != nil {
				return fmt.Errorf("fit of %s: %w", a.method, err)
			}
			f := fitErrors[i]
			m.Extra[f.Name], m.Extra[f.Name+": entries"] = r, float64(entries)
		}
		return nil
	}
}

// fitErrors are the figures by budget.
var fitErrors = []Figure{fitError, {"error of the fit, half the entries", "", Lower}, {"error of the fit, a quarter", "", Lower}}
