package adapt

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"tare/engine/grad"
	"tare/engine/train"
)

// How IST learns which layers matter. Every score_every steps, before the step:
//
//	S_k: N_v layers drawn with weights p_i, k = 1 … N_c, no two alike
//	L_k: the loss of the next micro-batch with the adapters of S_k weakened
//	r_k = exp(−L_k);   for i in S_k: a_i ← a_i + rate·(r_k − mean r)·p_i (1 − p_i)
//
// No gradients are taken for it. Draws depend on the run's seed and the step alone, so
// that a run goes on as it would have.

// Hooks implements Hooked.
func (o *IST) Hooks(a *Adapter, s Setup) []any {
	h := &sampler{o: o, setup: s}
	for _, l := range o.layers {
		var parts []trainedPart
		var scalings []func(float32) func()
		for _, hold := range l.holds {
			for _, p := range hold.Params() {
				if p.Trains() {
					parts = append(parts, trainedPart{p, p.Part})
				}
			}
			if scaler, ok := hold.(Scaler); ok && !o.Uniform {
				by, bytes := scaler.Scaling()
				scalings = append(scalings, by)
				h.bytes += bytes
			}
		}
		h.parts, h.scalings = append(h.parts, parts), append(h.scalings, scalings)
	}
	return []any{h}
}

// trainedPart is what of a parameter trains when its layer is drawn.
type trainedPart struct {
	p    *grad.Param
	part grad.Part
}

// sampler is IST's hook in the loop.
type sampler struct {
	o        *IST
	setup    Setup
	parts    [][]trainedPart          // of each layer
	scalings [][]func(float32) func() // of each layer's adapters
	bytes    int64                    // of the copies that weakening needs
	charged  bool
}

// BeginStep implements train.StepBeginner.
func (h *sampler) BeginStep(l *train.Loop) error {
	if !h.charged {
		h.charged = true
		l.Tape.Ledger.Add(grad.Weights, h.bytes)
	}
	if !h.o.Uniform && l.Step > 0 && l.Step%h.o.Every == 0 {
		if err := h.learn(l); err != nil {
			return err
		}
	}
	weights := make([]float64, len(h.o.layers))
	for i, layer := range h.o.layers {
		weights[i] = sigmoid(-layer.score)
	}
	drawn := draw(h.stream(l.Step, 0), weights, h.o.share(h.o.Train, 0.25))
	for i, parts := range h.parts {
		if slices.Contains(drawn, i) {
			continue
		}
		for _, t := range parts {
			l.Rest(t.p)
		}
	}
	return nil
}

// EndStep implements train.StepEnder: between steps everything counts as training, to
// be saved and averaged.
func (h *sampler) EndStep(*train.Loop) error {
	for _, parts := range h.parts {
		for _, t := range parts {
			t.p.Part = t.part
		}
	}
	return nil
}

// stream returns the random numbers of a step, of which there are several kinds.
func (h *sampler) stream(step, kind int) *rand.Rand {
	return rand.New(rand.NewPCG(seedFor(h.setup.Seed, "ist"), uint64(2*step+kind)))
}

// learn updates the scores.
func (h *sampler) learn(l *train.Loop) error {
	batches, err := h.setup.Batches(1)
	if err != nil {
		return fmt.Errorf("adapt: ist: %w", err)
	}
	p := make([]float64, len(h.o.layers))
	for i, layer := range h.o.layers {
		p[i] = sigmoid(layer.score)
	}
	sets := differing(h.stream(l.Step, 1), p, h.o.share(h.o.Suppress, 0.5), h.o.Sets)
	rewards := make([]float64, len(sets))
	for k, set := range sets {
		rewards[k] = math.Exp(-h.suppressed(l.Tape, set, batches[0]))
	}
	h.o.reward(sets, rewards)
	return nil
}

// reward is the scores' update; a loss that is no number, whose reward is none, changes
// nothing.
func (o *IST) reward(sets [][]int, rewards []float64) {
	mean, change := rewards[0], make([]float64, len(o.layers))
	for _, r := range rewards { // equal rewards have themselves as their mean, to the bit
		mean += (r - rewards[0]) / float64(len(rewards))
	}
	if math.IsNaN(mean) {
		return
	}
	for k, set := range sets {
		for _, i := range set {
			p := sigmoid(o.layers[i].score)
			change[i] += o.Rate * (rewards[k] - mean) * p * (1 - p)
		}
	}
	for i, layer := range o.layers {
		layer.score += change[i]
	}
}

// suppressed returns the loss of a batch with the adapters of a set of layers weakened.
func (h *sampler) suppressed(tp *grad.Tape, set []int, b train.Batch) (loss float64) {
	for _, i := range set {
		for _, by := range h.scalings[i] {
			defer by(float32(h.o.To))()
		}
	}
	tp.NoGrad(func() { loss = float64(b.Loss(tp, float64(max(1, b.Count()))).Data[0]) })
	tp.Reset()
	return loss
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// draw returns n places in rising order, drawn one after another without replacement,
// each with a chance in proportion to its weight.
func draw(rng *rand.Rand, weights []float64, n int) []int {
	places := make([]int, 0, n)
	for range min(n, len(weights)) {
		var left float64
		for i, w := range weights {
			if !slices.Contains(places, i) {
				left += w
			}
		}
		at, pick := rng.Float64()*left, -1
		for i, w := range weights {
			if slices.Contains(places, i) {
				continue
			}
			pick = i
			if at -= w; at < 0 {
				break
			}
		}
		places = append(places, pick)
	}
	slices.Sort(places)
	return places
}

// differing returns up to k sets of n places, no two alike. Where few sets exist, or one
// is all but certain, there are fewer.
func differing(rng *rand.Rand, weights []float64, n, k int) [][]int {
	const tries = 64
	var sets [][]int
	for range tries {
		if len(sets) == k {
			break
		}
		set := draw(rng, weights, n)
		if !slices.ContainsFunc(sets, func(s []int) bool { return slices.Equal(s, set) }) {
			sets = append(sets, set)
		}
	}
	return sets
}

// HookName implements train.Stateful.
func (h *sampler) HookName() string { return "ist" }

// HookState implements train.Stateful: the scores, by layer.
func (h *sampler) HookState() ([]byte, error) {
	scores := map[string]float64{}
	for _, l := range h.o.layers {
		scores[l.name] = l.score
	}
	return json.Marshal(scores)
}

// RestoreHook implements train.Stateful.
func (h *sampler) RestoreHook(state []byte) error {
	scores := map[string]float64{}
	if err := json.Unmarshal(state, &scores); err != nil {
		return fmt.Errorf("adapt: ist: saved scores: %w", err)
	}
	for _, l := range h.o.layers {
		score, ok := scores[l.name]
		if !ok {
			return fmt.Errorf("adapt: ist: saved scores: none of layer %s; resume with the same targets", l.name)
		}
		l.score = score
	}
	return nil
}
