package adapt

import (
	"tare/engine/grad"
	"tare/engine/tensor"
)

// Scaler is an Attached whose change of the layer can be weakened for a while.
type Scaler interface {
	// Scaling takes note of where training starts; bytes is what the note takes. by(f)
	// leaves f times what has been learnt and returns what puts all of it back, to the
	// bit.
	Scaling() (by func(f float32) (back func()), bytes int64)
}

// scaleEntries weakens a change that is linear in the trained entries of p, which start
// from start; nil for zeros.
func scaleEntries(p *grad.Param, start []float32) func(f float32) (back func()) {
	return func(f float32) func() {
		now := make([]float32, p.PartLen())
		p.Gather(now)
		less := make([]float32, len(now))
		for i, v := range now {
			if start == nil {
				less[i] = f * v
			} else {
				less[i] = start[i] + f*(v-start[i])
			}
		}
		p.Scatter(less)
		return func() { p.Scatter(now) }
	}
}

// scaleInPlace weakens what entries of the weight itself have learnt: it keeps a copy of
// them as they are now.
func scaleInPlace(p *grad.Param) (by func(f float32) (back func()), bytes int64) {
	start := make([]float32, p.PartLen())
	p.Gather(start)
	return scaleEntries(p, start), 4 * int64(len(start))
}

// Scaling implements Scaler. DoRA's lengths stay as they are.
func (w *loraWeight) Scaling() (by func(f float32) (back func()), bytes int64) {
	return func(f float32) func() {
		was := w.scale
		w.scale *= f
		return func() { w.scale = was }
	}, 0
}

// Scaling implements Scaler: what was learnt is s·(B A − B₀ A₀), and what is left of it
// stands beside the whole start, as f·B A + (1 − f)·B₀ A₀.
func (w *pissaWeight) Scaling() (by func(f float32) (back func()), bytes int64) {
	return func(f float32) func() {
		a, b := w.a.Value, w.b.Value
		var both, mixed *tensor.Tensor
		for _, s := range w.State() { // [A; A₀] and [B, −B₀]
			if s.Name == "lora_A.weight" {
				both = s.Tensor
			} else {
				mixed = s.Tensor
			}
		}
		r := b.Dim(1)
		for i, v := range mixed.F32() {
			if i%(2*r) < r {
				mixed.F32()[i] = f * v
			} else {
				mixed.F32()[i] = (f - 1) * v
			}
		}
		w.a.Value, w.b.Value = both, mixed
		return func() { w.a.Value, w.b.Value = a, b }
	}, 0
}

// Scaling implements Scaler: ΔW is linear in the block.
func (w *boneWeight) Scaling() (by func(f float32) (back func()), bytes int64) {
	return scaleEntries(w.d, nil), 0
}

// Scaling implements Scaler: ΔW is linear in the blocks.
func (w *batWeight) Scaling() (by func(f float32) (back func()), bytes int64) {
	return scaleEntries(w.d, nil), 0
}

// Scaling implements Scaler.
func (a *paca) Scaling() (by func(f float32) (back func()), bytes int64) { return scaleInPlace(a.p) }

// Scaling implements Scaler.
func (s *sparse) Scaling() (by func(f float32) (back func()), bytes int64) { return scaleInPlace(s.p) }
