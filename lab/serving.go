package lab

import (
	"context"
	"slices"
	"time"

	"tare/engine/eval"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/lab/tuning"
	"tare/method/adapt"
)

// What it costs to run a model that a method has pruned, as shares of what the base
// costs: operations are counted, a pass over the source domain's text is timed, the two
// models in turn.
var (
	operations = Figure{"operations left", "", Lower}
	passTime   = Figure{"time of a pass left", "", Lower}
	removedGap = Figure{"loss moved by removal", "nats", Lower}
)

// entriesLeft is the figure of methods that prune single entries.
const entriesLeft = "of the weights' entries left"

// serving adds those figures where the method prunes. Where it removes heads and
// channels the run's model is made smaller by that.
func serving(ctx context.Context, t *tuneTest, run *tuning.Run, extra map[string]float64) error {
	if run.Adapter == nil {
		return nil
	}
	all, blocks := forwardOperations(run.Model, opticksSeq)
	if left, ok := extra[entriesLeft]; ok { // entries are skipped; pairs beside them are not
		pairs := 0.0
		if run.Recipe.Method == "dsee" {
			pairs = 2 * float64(run.Trainable)
		}
		extra[operations.Name] = (all - (1-left)*blocks + pairs) / all
		return nil
	}
	r, ok := run.Adapter.Options.(adapt.Remover)
	if !ok || r.Keep(run.Adapter) == nil {
		return nil
	}
	before := run.Final().Loss
	if err := run.Adapter.Shrink(run.Model); err != nil {
		return err
	}
	after, err := eval.Loss(ctx, run.Model, run.Data.Valid, 0, nil)
	if err != nil {
		return err
	}
	left, _ := forwardOperations(run.Model, opticksSeq)
	extra[operations.Name], extra[removedGap.Name] = left/all, max(after.Loss-before, before-after.Loss)
	base, err := model.LoadCausal(t.folder.Config, t.folder, model.LoadOptions{})
	if err != nil {
		return err
	}
	extra[passTime.Name], err = t.passRatio(ctx, run.Model, base)
	return err
}

// forwardOperations counts the multiplications and additions of a token's pass in a
// sequence of that length: of all matrices and attentions, and of the blocks' matrices.
func forwardOperations(m model.Causal, length int) (all, blocks float64) {
	c := m.Info()
	for i, b := range m.Blocks() {
		for _, l := range b.Linears() {
			out, in := l.Weight.Dims()
			blocks += 2 * float64(out) * float64(in)
		}
		all += 4 * float64(c.LayerSize(i).Heads*c.HeadDim) * float64(length+1) / 2 // scores, and the sum of values
	}
	return all + blocks + 2*float64(c.VocabSize)*float64(c.HiddenSize), blocks
}

// passRatio is the median of seven passes of one model over that of another.
func (t *tuneTest) passRatio(ctx context.Context, m, other model.Causal) (float64, error) {
	b := t.source[0]
	tp := grad.NewTape(nil)
	pass := func(m model.Causal) float64 {
		began := time.Now()
		tp.NoGrad(func() { model.Loss(tp, m, b.Tokens, b.Targets, grad.Sequences{Lengths: b.Lengths}, 1) })
		tp.Reset()
		return time.Since(began).Seconds()
	}
	var ours, theirs []float64
	for i := range 8 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		x, y := pass(m), pass(other)
		if i > 0 { // the first warms up
			ours, theirs = append(ours, x), append(theirs, y)
		}
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	return ours[3] / theirs[3], nil
}
