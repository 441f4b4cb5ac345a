package adapt

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// DSEE puts sparsity into the update and into the weight (Chen et al. 2021, "DSEE:
// Dually Sparsity-embedded Efficient Tuning of Pre-trained Language Models",
// arXiv:2111.00160):
//
//	W' = W ⊙ S1 + s·U V + S2
//
// U V is a pair as LoRA's [out, r], [r, in]; S2 has N values on a fixed support Ω: the
// largest residuals of W from a low-rank part (split), the largest |W|, or random
// entries. In phase 1 U, V and S2 train. Phase 2, after prune_at of the steps, prunes W:
//
//	entries: S1 keeps the largest |W| of all layers together, a fraction 1 − sparsity
//	groups:  gates c on heads and channels, trained in phase 1 with the penalty
//	         λ·Σ|c|, rank them; those of smallest |c| leave each block, and the others'
//	         gates stay as they are
//
// In phase 3 U, V and S2 train on. S2 lies in W's own storage, so that a step costs what
// LoRA's does and N entries more; bases must be dense f32. Trained entries: r·(in + out)
// + N a layer, and in phase 1 the gates.
//
// The split is as GreBsmo's: in turn L the rank-r projection of W − S and S the N
// largest entries of W − L, a few times, with the random sketch of svd.go. Files hold
// the pair, Ω with W' − s·U V there, and the gates; the configuration has the
// threshold of S1, from which a load prunes the base's W. Adapter.Shrink removes groups.
type DSEE struct {
	LoRA     `yaml:",inline"`
	Entries  int     `yaml:"entries" help:"N, values of S2 in each layer." default:"64"`
	Support  string  `yaml:"support" help:"Where S2's values are: split (of W into low rank and sparse), magnitude or random." default:"split"`
	Rounds   int     `yaml:"split_rounds" help:"Turns of the split." default:"3"`
	Prune    string  `yaml:"prune" help:"What is pruned: entries of W, groups (heads and channels), or none." default:"entries"`
	Sparsity float64 `yaml:"sparsity" help:"Fraction of W's entries that are pruned." default:"0.5"`
	Heads    float64 `yaml:"heads" help:"Fraction of each block's heads that are pruned with prune = groups." default:"0.33"`
	Channels float64 `yaml:"channels" help:"Fraction of each MLP's channels that are pruned with prune = groups." default:"0.4"`
	Lambda   float64 `yaml:"lambda" help:"Weight of the penalty on the gates." default:"0.0001"`
	PruneAt  float64 `yaml:"prune_at" help:"Fraction of the steps after which W is pruned." default:"0.5"`

	removal   *removal // of groups; nil otherwise
	threshold float64  // below which |W| is pruned; 0 before
	fromFile  bool
}

// NewDSEE returns the defaults: N, the share of heads and channels and the even split of
// the steps follow the paper's.
func NewDSEE() *DSEE {
	return &DSEE{LoRA: *NewLoRA(), Entries: 64, Support: "split", Rounds: 3, Prune: "entries", Sparsity: 0.5, Heads: 0.33, Channels: 0.4, Lambda: 1e-4, PruneAt: 0.5}
}

// Validate implements Options.
func (o *DSEE) Validate() error {
	errs := []error{o.LoRA.validate("dsee")}
	say := func(format string, args ...any) { errs = append(errs, fmt.Errorf("adapt: dsee: "+format, args...)) }
	if o.Entries < 1 || o.Rounds < 1 {
		say("entries %d and split_rounds %d, want at least 1", o.Entries, o.Rounds)
	}
	if !slices.Contains([]string{"split", "magnitude", "random"}, o.Support) {
		say("support %q, want split, magnitude or random", o.Support)
	}
	if !slices.Contains([]string{"entries", "groups", "none"}, o.Prune) {
		say("prune %q, want entries, groups or none", o.Prune)
	}
	for name, v := range map[string]float64{"sparsity": o.Sparsity, "heads": o.Heads, "channels": o.Channels} {
		if !(v >= 0 && v < 1) {
			say("%s %g, want 0 up to but not including 1", name, v)
		}
	}
	if !(o.Lambda >= 0) || math.IsInf(o.Lambda, 0) {
		say("lambda %g, want 0 or more", o.Lambda)
	}
	if !(o.PruneAt > 0 && o.PruneAt <= 1) {
		say("prune_at %g, want above 0 and at most 1", o.PruneAt)
	}
	return errors.Join(errs...)
}

// Attach implements Options.
func (o *DSEE) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	s, err := newSparse("dsee", l)
	if err != nil {
		return nil, err
	}
	if n := s.p.Value.Len(); o.Entries > n {
		out, in := l.Weight.Dims()
		return nil, fmt.Errorf("adapt: dsee: %d entries are more than layer %s [%d, %d] has; lower entries or leave the layer out of the targets", o.Entries, l.Name, out, in)
	}
	w, err := o.pair("dsee", l, seed)
	if err != nil {
		return nil, err
	}
	h := &dsee{loraWeight: w, o: o, s: s}
	if !o.fromFile {
		index, err := o.support(s.p.Value, w.a.Value.Dim(0), seed)
		if err != nil {
			return nil, fmt.Errorf("adapt: dsee: layer %s: %w", l.Name, err)
		}
		h.train(index)
	}
	l.Weight = w
	if o.removal != nil {
		if h.gate = o.removal.of(l); h.gate != nil {
			l.Weight = &gated{Weight: w, gate: h.gate}
		}
	}
	return h, nil
}

// Couple implements Coupler: only groups need the layers together.
func (o *DSEE) Couple(m Model, layers []*nn.Linear, _ uint64) (func(*nn.Linear, uint64) (Attached, error), error) {
	o.removal = nil
	if o.Prune == "groups" {
		r, err := newRemoval("dsee", m, layers)
		if err != nil {
			return nil, err
		}
		o.removal = r
	}
	return o.Attach, nil
}

// support returns Ω, the positions of S2's values in rising order.
func (o *DSEE) support(w *tensor.Tensor, r int, seed uint64) ([]int, error) {
	switch o.Support {
	case "magnitude":
		return topEntries(magnitudes(w.F32()), o.Entries), nil
	case "random":
		index := rand.New(rand.NewPCG(seed, 2)).Perm(w.Len())[:o.Entries]
		slices.Sort(index)
		return index, nil
	}
	return split(w, r, o.Entries, o.Rounds, seed)
}

// split cuts W ≈ L + S with L of rank r and n entries in S, and returns where these are.
func split(w *tensor.Tensor, r, n, rounds int, seed uint64) ([]int, error) {
	rest := w.Clone() // W − S
	var index []int
	for round := range rounds {
		u, s, v, err := sketched(rest, r, seed+uint64(round))
		if err != nil {
			return nil, err
		}
		residual := product(u, s, v)
		for i, x := range w.F32() {
			residual[i] = x - residual[i]
		}
		index = topEntries(magnitudes(residual), n)
		copy(rest.F32(), w.F32())
		for _, at := range index {
			rest.F32()[at] -= residual[at]
		}
	}
	return index, nil
}

// Config implements Options.
func (o *DSEE) Config() map[string]any {
	c := o.LoRA.Config()
	c["entries"], c["support"], c["prune"], c["threshold"] = o.Entries, o.Support, o.Prune, o.threshold
	c["sparsity"], c["heads"], c["channels"] = o.Sparsity, o.Heads, o.Channels
	return c
}

// SetConfig implements Options.
func (o *DSEE) SetConfig(c map[string]any) error {
	o.Entries, o.threshold, o.fromFile = integer(c, "entries", 64), number(c, "threshold", 0), true
	o.Sparsity, o.Heads, o.Channels = number(c, "sparsity", 0.5), number(c, "heads", 0.33), number(c, "channels", 0.4)
	for key, to := range map[string]*string{"support": &o.Support, "prune": &o.Prune} {
		if s, ok := c[key].(string); ok {
			*to = s
		}
	}
	return o.setConfig("dsee", c)
}

// Keep implements Remover.
func (o *DSEE) Keep(a *Adapter) []model.Keep {
	if o.removal == nil {
		return nil
	}
	return o.removal.keep()
}

// Figures implements Figured: what is left.
func (o *DSEE) Figures(a *Adapter) map[string]float64 {
	if o.removal != nil {
		return o.removal.figures()
	}
	return zeroFigures(a)
}

// zeroFigures tells how many of the adapted weights are not zero.
func zeroFigures(a *Adapter) map[string]float64 {
	left, all := 0, 0
	for _, h := range a.Holds {
		for _, p := range h.Params() {
			if d, ok := h.(pruned); ok && p == d.weight() {
				all += p.Value.Len()
				for _, v := range p.Value.F32() {
					if v != 0 {
						left++
					}
				}
			}
		}
	}
	return map[string]float64{"of the weights' entries left": float64(left) / float64(max(1, all))}
}

// pruned is a hold on a dense weight whose entries are pruned in place.
type pruned interface{ weight() *grad.Param }

// dsee is the method on one layer.
type dsee struct {
	*loraWeight // U is its b, V its a, and its base W ⊙ S1 + S2 in one dense matrix
	o           *DSEE
	s           *sparse
	w           []float32 // W on Ω, as it was
	gate        *gate     // nil for none
}

func (h *dsee) weight() *grad.Param { return h.s.p }

// train puts S2 at those positions.
func (h *dsee) train(index []int) {
	h.s.train(index)
	h.w = make([]float32, len(index))
	h.s.p.Gather(h.w)
}

// Params returns what trains: S2, the pair, and the gate while it learns.
func (h *dsee) Params() []*grad.Param {
	ps := []*grad.Param{h.s.p, h.a, h.b}
	if h.gate != nil {
		ps = append(ps, h.gate.c)
	}
	return ps
}

// cut prunes the entries of W below the threshold; S2's values stay.
func (h *dsee) cut(threshold float32) {
	s2 := make([]float32, len(h.w))
	h.s.p.Gather(s2)
	for i, w := range h.w {
		if max(w, -w) < threshold {
			s2[i] -= w
		}
	}
	h.cutRest(threshold)
	h.s.p.Scatter(s2)
}

// cutRest prunes W outside Ω, where it is still as it was, and leaves any numbers on Ω.
func (h *dsee) cutRest(threshold float32) {
	for i, v := range h.s.p.Value.F32() {
		if max(v, -v) < threshold {
			h.s.p.Value.F32()[i] = 0
		}
	}
}

// original returns a copy of W before pruning.
func (h *dsee) original() []float32 {
	w := h.s.p.Value.Clone()
	copyOf := &grad.Param{Name: h.s.p.Name, Value: w, Part: h.s.p.Part}
	copyOf.Scatter(h.w)
	return w.F32()
}

func (h *dsee) State() []Named {
	s := append(h.loraWeight.State(), h.s.State()...)
	if h.gate != nil {
		s = append(s, Named{"gate", h.gate.c.Value})
	}
	return s
}

func (h *dsee) Restore(state map[string]*tensor.Tensor) error {
	index, err := positions(state, "sparse_indices", h.s.p.Value.Len())
	if err != nil {
		return fmt.Errorf("adapt: layer %s: %w", h.s.layer.Name, err)
	}
	h.train(index)
	h.cutRest(float32(h.o.threshold))
	if h.gate != nil {
		if err := restore(h.gate.c.Value, state, "gate"); err != nil {
			return err
		}
	}
	return errors.Join(h.s.Restore(state), h.loraWeight.Restore(state))
}

// Unmerge implements Unmerger; what has been pruned does not come back.
func (h *dsee) Unmerge(w *tensor.Tensor) error {
	if h.o.threshold > 0 || h.gate != nil && !h.gate.idle() {
		return fmt.Errorf("adapt: layer %s has been pruned, and what has left does not come back from its merged weight", h.s.layer.Name)
	}
	if err := h.loraWeight.Unmerge(w); err != nil {
		return err
	}
	(&grad.Param{Name: h.s.p.Name, Value: w, Part: h.s.p.Part}).Scatter(h.w)
	return nil
}
