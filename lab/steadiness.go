package lab

import (
	"math"

	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/engine/train"
)

// gradientSpread is how unsteady training is: the standard deviation of the steps'
// gradient norms over their mean, which leaves out how many entries a method trains and
// at what scale.
var gradientSpread = Figure{"spread of gradient norms", "", Lower}

// gradientNorms is a hook that keeps the norm of every step's gradient.
type gradientNorms struct {
	squares float64 // of the step under way
	norms   []float64
}

// Gradient implements train.GradWatcher.
func (h *gradientNorms) Gradient(_ *train.Loop, _ *grad.Param, g *tensor.Tensor) error {
	for _, v := range g.F32() {
		h.squares += float64(v) * float64(v)
	}
	return nil
}

// EndStep implements train.StepEnder.
func (h *gradientNorms) EndStep(*train.Loop) error {
	h.norms = append(h.norms, math.Sqrt(h.squares))
	h.squares = 0
	return nil
}

// spread returns the figure; 0 where nothing moved.
func (h *gradientNorms) spread() float64 {
	mean := Mean(h.norms)
	if len(h.norms) < 2 || mean == 0 {
		return 0
	}
	return StdErr(h.norms) * math.Sqrt(float64(len(h.norms))) / mean
}
