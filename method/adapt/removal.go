package adapt

import (
	"fmt"
	"math"
	"sort"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
	"tare/engine/train"
)

// Remover is an Options that takes heads and channels out of the model it tunes.
type Remover interface {
	// Keep says what stays of each block of the adapted model; nil for everything.
	Keep(a *Adapter) []model.Keep
}

// Shrink folds the method into the model's weights and removes the heads and channels
// that the method has done without. m is the model that the adapter is attached to.
func (a *Adapter) Shrink(m Model) error {
	r, ok := a.Options.(Remover)
	if !ok {
		return fmt.Errorf("adapt: %s removes no heads or channels", a.Method.Name)
	}
	s, ok := m.(model.Shrinker)
	if !ok {
		return fmt.Errorf("adapt: %s: heads and channels cannot be taken out of a %T", a.Method.Name, m)
	}
	keep := r.Keep(a)
	if err := a.Merge(); err != nil || keep == nil {
		return err
	}
	if err := s.Shrink(keep); err != nil {
		return fmt.Errorf("adapt: %s: %w", a.Method.Name, err)
	}
	return nil
}

// removal is what the methods that remove groups of heads and channels share: the
// groups of all blocks in order, of each block the heads and then the channels, and a
// gate on every layer that a group's output passes through,
//
//	y = W (c ⊙ x)
//
// with one factor in c for each group, repeated over the group's inputs. A factor of 0
// is the group's absence.
type removal struct {
	blocks []model.Groups
	units  []unit
	gates  []*gate // of each block that of O and that of Down
}

// unit is one group.
type unit struct {
	gate, at int // its place in removal.gates and among that gate's factors
	cost     int // entries that leave with it
}

// gate holds the factors of the groups whose outputs are a layer's inputs.
type gate struct {
	layer *nn.Linear
	c     *grad.Param // [groups]
	width int         // inputs of one group
}

// newRemoval finds the groups of a model and makes their gates, all open. Those layers
// must be among the ones that the method is put on.
func newRemoval(method string, m Model, layers []*nn.Linear) (*removal, error) {
	s, ok := m.(model.Shrinker)
	if !ok {
		return nil, fmt.Errorf("adapt: %s: heads and channels cannot be taken out of a %T", method, m)
	}
	blocks, err := s.Groups()
	if err != nil {
		return nil, fmt.Errorf("adapt: %s: %w", method, err)
	}
	adapted := map[*nn.Linear]bool{}
	for _, l := range layers {
		adapted[l] = true
	}
	r := &removal{blocks: blocks}
	for _, g := range blocks {
		for _, l := range append([]*nn.Linear{g.Q, g.K, g.V, g.O, g.Down}, g.Up...) {
			if !adapted[l] {
				return nil, fmt.Errorf("adapt: %s: layer %s is not among the targets; a head or channel leaves all of its layers together: target %s", method, l.Name, AllLinear)
			}
		}
		r.add(g.O, g.KVHeads, g.HeadCost())
		r.add(g.Down, g.Channels, g.ChannelCost())
	}
	return r, nil
}

// add adds the groups that pass through a layer.
func (r *removal) add(l *nn.Linear, groups, cost int) {
	_, in := l.Weight.Dims()
	c := tensor.New(groups)
	for i := range groups {
		c.F32()[i] = 1
		r.units = append(r.units, unit{len(r.gates), i, cost})
	}
	r.gates = append(r.gates, &gate{l, grad.NewParam(l.Name+".gate", c), in / groups})
}

// of returns the gate on a layer, or nil.
func (r *removal) of(l *nn.Linear) *gate {
	for _, g := range r.gates {
		if g.layer == l {
			return g
		}
	}
	return nil
}

// total returns what all groups cost.
func (r *removal) total() (n int) {
	for _, u := range r.units {
		n += u.cost
	}
	return n
}

// cost returns what the groups cost whose marks are set.
func (r *removal) cost(marks []bool) (n int) {
	for i, u := range r.units {
		if marks[i] {
			n += u.cost
		}
	}
	return n
}

// pick returns the groups of highest score whose cost together is at most share of
// all: over the whole model, or, where even says so, as many heads and as many channels
// of each block. At least one group of heads and one channel of each block are among
// them. Of equal scores the first wins.
func (r *removal) pick(score []float64, share float64, even bool) []bool {
	marks := make([]bool, len(r.units))
	if even {
		for b, g := range r.blocks {
			heads := clamp(share*float64(g.KVHeads), g.KVHeads)
			budget := share*float64(g.KVHeads*g.HeadCost()+g.Channels*g.ChannelCost()) - float64(heads*g.HeadCost())
			channels := clamp(math.Floor(budget/float64(g.ChannelCost())+1e-9), g.Channels)
			r.best(marks, score, 2*b, heads)
			r.best(marks, score, 2*b+1, channels)
		}
		return marks
	}
	for g := range r.gates {
		r.best(marks, score, g, 1)
	}
	left := share*float64(r.total()) - float64(r.cost(marks))
	for _, i := range ranked(score) {
		if cost := float64(r.units[i].cost); !marks[i] && cost <= left {
			marks[i] = true
			left -= cost
		}
	}
	return marks
}

// clamp rounds n to a count of 1 to most.
func clamp(n float64, most int) int { return min(max(1, int(math.Round(n))), most) }

// best marks the n groups of a gate with the highest scores.
func (r *removal) best(marks []bool, score []float64, gate, n int) {
	for _, i := range ranked(score) {
		if n > 0 && r.units[i].gate == gate {
			marks[i] = true
			n--
		}
	}
}

// ranked returns the positions of the scores, the highest first.
func ranked(score []float64) []int {
	order := make([]int, len(score))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return score[order[a]] > score[order[b]] })
	return order
}

// set opens the gates of the groups whose marks are set, and closes the others.
func (r *removal) set(marks []bool) {
	for i, u := range r.units {
		r.gates[u.gate].c.Value.F32()[u.at] = 0
		if marks[i] {
			r.gates[u.gate].c.Value.F32()[u.at] = 1
		}
	}
}

// open says which groups' gates are not closed.
func (r *removal) open() []bool {
	marks := make([]bool, len(r.units))
	for i, u := range r.units {
		marks[i] = r.gates[u.gate].c.Value.F32()[u.at] != 0
	}
	return marks
}

// keep says the same block by block.
func (r *removal) keep() []model.Keep {
	keep := make([]model.Keep, len(r.blocks))
	for i, stays := range r.open() {
		if k := &keep[r.units[i].gate/2]; r.units[i].gate%2 == 0 {
			k.Heads = append(k.Heads, stays)
		} else {
			k.Channels = append(k.Channels, stays)
		}
	}
	return keep
}

// figures tells what is left.
func (r *removal) figures() map[string]float64 {
	var left, all [2]float64
	marks := r.open()
	for i, u := range r.units {
		all[u.gate%2]++
		if marks[i] {
			left[u.gate%2]++
		}
	}
	return map[string]float64{
		"heads left": left[0] / all[0], "channels left": left[1] / all[1], "of the blocks' entries left": float64(r.cost(marks)) / float64(r.total()),
	}
}

// slopes returns the gradient of a batch's mean loss by every group's factor. Nothing
// else gets a gradient, and all is left as it was.
func (r *removal) slopes(tp *grad.Tape, params []*grad.Param, b train.Batch) ([]float64, error) {
	was := make([]grad.Part, len(params))
	for i, p := range params {
		was[i] = p.Part
		p.Part = grad.Part{}
	}
	place := map[*grad.Param]int{}
	n := 0
	for _, g := range r.gates {
		g.c.Part = grad.Whole
		place[g.c] = n
		n += g.c.Value.Len()
	}
	defer func() {
		for i, p := range params {
			p.Part = was[i]
		}
	}()
	out := make([]float64, n)
	err := tp.Backward(b.Loss(tp, float64(max(1, b.Count()))), func(p *grad.Param, g *tensor.Tensor) error {
		for i, v := range g.F32() {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fmt.Errorf("adapt: %s: its gradient is not finite", p.Name)
			}
			out[place[p]+i] = float64(v)
		}
		return nil
	})
	return out, err
}

// gated is a Weight behind a gate.
type gated struct {
	nn.Weight
	gate  *gate
	extra []*grad.Param // what else trains in the model's favour, and has no place of its own
}

// Apply returns W (c ⊙ x).
func (w *gated) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	if w.gate.idle() {
		return w.Weight.Apply(tp, x)
	}
	c := tp.Use(w.gate.c)
	if w.gate.width > 1 {
		at := make([]int, x.Cols)
		for i := range at {
			at[i] = i / w.gate.width
		}
		c = tp.Reshape(tp.GatherRows(tp.Reshape(c, c.Cols, 1), at), 1, x.Cols)
	}
	return w.Weight.Apply(tp, tp.Mul(x, c))
}

// idle reports whether the gate changes nothing and learns nothing.
func (g *gate) idle() bool {
	if g.c.Trains() {
		return false
	}
	for _, v := range g.c.Value.F32() {
		if v != 1 {
			return false
		}
	}
	return true
}

func (w *gated) Dense(dst *tensor.Tensor) error {
	if err := w.Weight.Dense(dst); err != nil {
		return err
	}
	c, in := w.gate.c.Value.F32(), dst.Dim(1)
	for i := range dst.F32() {
		dst.F32()[i] *= c[i%in/w.gate.width]
	}
	return nil
}

func (w *gated) Params() []*grad.Param {
	return append(append(w.Weight.Params(), w.gate.c), w.extra...)
}

// gatedHold is a low-rank pair on a layer that may have a gate: what ATP and pruning
// before tuning put on it.
type gatedHold struct {
	*loraWeight
	gate *gate // nil for none
}

// holdPair puts a pair, and the gate if the layer has one, on a layer.
func (r *removal) holdPair(o *LoRA, method string, l *nn.Linear, seed uint64) (*gatedHold, error) {
	w, err := o.pair(method, l, seed)
	if err != nil {
		return nil, err
	}
	h := &gatedHold{w, r.of(l)}
	l.Weight = w
	if h.gate != nil {
		l.Weight = &gated{Weight: w, gate: h.gate}
	}
	return h, nil
}

// Params returns what trains: the pair.
func (h *gatedHold) Params() []*grad.Param { return []*grad.Param{h.a, h.b} }

// State lists the pair, and the gate's factors.
func (h *gatedHold) State() []Named {
	s := h.loraWeight.State()
	if h.gate != nil {
		s = append(s, Named{"gate", h.gate.c.Value})
	}
	return s
}

// Restore takes them back.
func (h *gatedHold) Restore(state map[string]*tensor.Tensor) error {
	if h.gate != nil {
		if err := restore(h.gate.c.Value, state, "gate"); err != nil {
			return err
		}
	}
	return h.loraWeight.Restore(state)
}

// Unmerge implements Unmerger; columns that were multiplied by 0 do not come back.
func (h *gatedHold) Unmerge(w *tensor.Tensor) error {
	if h.gate != nil && !h.gate.idle() {
		return fmt.Errorf("adapt: layer %s has lost heads or channels, which do not come back from its merged weight", h.gate.layer.Name)
	}
	return h.loraWeight.Unmerge(w)
}
