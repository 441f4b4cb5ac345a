package adapt

import (
	"context"
	"math"
	"strings"

	"tare/engine/grad"
	"tare/engine/train"
)

// Setup is what a method may look at before and while it trains.
type Setup struct {
	Model Model
	Steps int     // optimizer steps of the run
	Seed  uint64  // of the run
	LR    float64 // its peak learning rate
	// Ledger accounts for what the look takes; may be nil.
	Ledger *grad.Ledger
	// Batches returns the first n micro-batches of the training data without using
	// them up.
	Batches func(n int) ([]train.Batch, error)
}

// Preparer is an Options that looks at training data once, after Attach and before the
// first step: at activations, or at gradients.
type Preparer interface {
	Prepare(ctx context.Context, a *Adapter, s Setup) error
}

// Hooked is an Options that acts during training, through hooks of the loop: a penalty
// on the loss, a look at gradients, a change of what trains between steps.
type Hooked interface {
	Hooks(a *Adapter, s Setup) []any
}

// Prepare runs the method's look at the training data, if it takes one, and returns its
// hooks.
func (a *Adapter) Prepare(ctx context.Context, s Setup) ([]any, error) {
	if p, ok := a.Options.(Preparer); ok {
		if err := p.Prepare(ctx, a, s); err != nil {
			return nil, err
		}
	}
	if h, ok := a.Options.(Hooked); ok {
		return h.Hooks(a, s), nil
	}
	return nil, nil
}

// Figured is an Options with figures of its own to report beside those of the run.
type Figured interface {
	Figures(a *Adapter) map[string]float64
}

// rankFigures reports the ranks of an adapter whose layers differ: the mean for each
// kind of layer, and the extremes.
func rankFigures(a *Adapter, rank func(Attached) int) map[string]float64 {
	f, n := map[string]float64{}, map[string]float64{}
	low, high := math.Inf(1), math.Inf(-1)
	for i, l := range a.Layers {
		r := float64(rank(a.Holds[i]))
		key := "rank of " + l.Name[strings.LastIndexByte(l.Name, '.')+1:]
		n[key]++
		f[key] += r
		low, high = min(low, r), max(high, r)
	}
	for key := range n {
		f[key] /= n[key]
	}
	f["lowest rank"], f["highest rank"] = low, high
	return f
}
