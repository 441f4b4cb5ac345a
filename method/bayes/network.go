package bayes

import (
	"fmt"
	"math"

	"tare/engine/grad"
	"tare/engine/tensor"
)

// Classifier is a network whose parameters a chain moves, such as those of engine/model.
type Classifier interface {
	// Logits returns the scores [n, classes] of x [n, width].
	Logits(tp *grad.Tape, x *grad.Value) *grad.Value
	Params() []*grad.Param
}

// NetworkPosterior is the posterior of a classifier's parameters, by the tape:
//
//	log p(θ) = −‖θ‖²/2σ²,   log p(y_i|x_i, θ) = log softmax(f_θ(x_i))_{y_i}
//
// It writes the parameters that it is asked about into the network, and belongs to one
// goroutine.
type NetworkPosterior struct {
	model  Classifier
	x      []float32 // [n, width]
	labels []int32
	width  int
	sigma  float64
	params map[*grad.Param]int // where a parameter's values begin in θ
	dim    int
	tape   *grad.Tape
	rows   []float32
	picked []int32
}

// NewNetworkPosterior takes points x [n, width] with labels, and the standard deviation σ of
// the prior. All of the network's parameters must be f32; all of them train.
func NewNetworkPosterior(m Classifier, x []float32, labels []int32, sigma float64) (*NetworkPosterior, error) {
	if len(labels) == 0 || len(x) == 0 || len(x)%len(labels) != 0 {
		return nil, fmt.Errorf("bayes: network: %w: %d values of inputs for %d labels", ErrData, len(x), len(labels))
	}
	if !(sigma > 0) || math.IsInf(sigma, 0) {
		return nil, optionsError("network", []string{fmt.Sprintf("the prior's standard deviation is %g, want a positive number", sigma)})
	}
	p := &NetworkPosterior{model: m, x: x, labels: labels, width: len(x) / len(labels), sigma: sigma, params: map[*grad.Param]int{}, tape: grad.NewTape(nil)}
	for i, v := range x {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, &RowError{i / p.width, i % p.width, f, "is not a finite number"}
		}
	}
	for _, q := range m.Params() {
		if q.Value.DType() != tensor.F32 {
			return nil, fmt.Errorf("bayes: network: %w: parameter %s is %v, want f32", ErrData, q.Name, q.Value.DType())
		}
		q.Part = grad.Whole
		p.params[q] = p.dim
		p.dim += len(q.Value.F32())
	}
	var classes int
	p.tape.NoGrad(func() { classes = m.Logits(p.tape, p.tape.Const(x[:p.width], 1, p.width)).Cols })
	p.tape.Reset()
	for i, l := range labels {
		if l < 0 || int(l) >= classes {
			return nil, &OutcomeError{i, int(l), fmt.Sprintf("is none of the network's %d classes, which count from 0", classes)}
		}
	}
	return p, nil
}

// Dim implements [Potential].
func (p *NetworkPosterior) Dim() int { return p.dim }

// Points implements [Potential].
func (p *NetworkPosterior) Points() int { return len(p.labels) }

// Start returns the network's parameters as they are.
func (p *NetworkPosterior) Start() []float64 {
	theta := make([]float64, p.dim)
	for q, at := range p.params {
		for i, v := range q.Value.F32() {
			theta[at+i] = float64(v)
		}
	}
	return theta
}

// Set writes parameters into the network.
func (p *NetworkPosterior) Set(theta []float64) {
	for q, at := range p.params {
		w := q.Value.F32()
		for i := range w {
			w[i] = float32(theta[at+i])
		}
	}
}

// Gradient implements [Potential].
func (p *NetworkPosterior) Gradient(gradient, theta []float64, batch []int) (float64, error) {
	p.Set(theta)
	x, labels := p.x, p.labels
	if batch != nil {
		p.rows, p.picked = p.rows[:0], p.picked[:0]
		for _, i := range batch {
			p.rows = append(p.rows, p.x[i*p.width:(i+1)*p.width]...)
			p.picked = append(p.picked, p.labels[i])
		}
		x, labels = p.rows, p.picked
	}
	for i, v := range theta {
		gradient[i] = -v / (p.sigma * p.sigma)
	}
	n := len(labels)
	loss := p.tape.CrossEntropy(p.model.Logits(p.tape, p.tape.Const(x, n, p.width)), labels, float64(n))
	mean := float64(loss.Data[0])
	points := float64(len(p.labels))
	err := p.tape.Backward(loss, func(q *grad.Param, g *tensor.Tensor) error {
		at := p.params[q]
		for i, v := range g.F32() {
			gradient[at+i] -= points * float64(v)
		}
		return nil
	})
	if err == nil && (math.IsNaN(mean) || math.IsInf(mean, 0)) {
		err = fmt.Errorf("%w: the loss is %g", ErrDiverged, mean)
	}
	return mean, err
}

// Ensemble averages what networks say: p(y|x) = 1/K Σ_k softmax(f_{θ_k}(x))_y, for inputs x
// [n, width] and parameters θ_1 … θ_K, which may be the draws of a [Chain]. The result is
// [n][classes].
func (p *NetworkPosterior) Ensemble(draws [][]float64, x []float32) ([][]float64, error) {
	if len(draws) == 0 || len(x) == 0 || len(x)%p.width != 0 {
		return nil, fmt.Errorf("bayes: network: %w: %d draws, %d values of inputs of width %d", ErrData, len(draws), len(x), p.width)
	}
	n := len(x) / p.width
	out := make([][]float64, n)
	for k, theta := range draws {
		if len(theta) != p.dim {
			return nil, fmt.Errorf("bayes: network: %w: draw %d has %d numbers, the network %d parameters", ErrData, k+1, len(theta), p.dim)
		}
		p.Set(theta)
		p.tape.NoGrad(func() {
			s := p.tape.Softmax(p.model.Logits(p.tape, p.tape.Const(x, n, p.width)))
			for i := range out {
				if out[i] == nil {
					out[i] = make([]float64, s.Cols)
				}
				for y, v := range s.Data[i*s.Cols : (i+1)*s.Cols] {
					out[i][y] += float64(v) / float64(len(draws))
				}
			}
		})
		p.tape.Reset()
	}
	return out, nil
}

// LogLoss is the mean of −log p(y_i) over labels, where probabilities below 1e-12 count as
// that.
func LogLoss(probabilities [][]float64, labels []int32) float64 {
	var sum float64
	for i, l := range labels {
		sum -= math.Log(max(probabilities[i][l], 1e-12))
	}
	return sum / float64(len(labels))
}
