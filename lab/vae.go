package lab

import (
	"fmt"
	"math"
	"math/rand/v2"

	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/tensor"
	"tare/method/bayes/vi"
	"tare/method/optim"
)

// vae is a variational autoencoder of black and white digits (Kingma and Welling 2014):
// 784 pixels → hidden → the parameters of the latents, and back to a logit a pixel. It has
// Gaussian latents, or as many bits.
type vae struct {
	in, out layer
	heads   []layer // mean and log scale, or logits
	back    layer
	latents int
	tp      *grad.Tape
	ledger  *grad.Ledger
	rng     *rand.Rand // of the estimators
	adam    *optim.AdamW
}

// layer is x ↦ xWᵀ + b.
type layer struct{ w, b *grad.Param }

func newLayer(rng *rand.Rand, name string, in, out int) layer {
	w := make([]float32, out*in)
	for i := range w {
		w[i] = float32(rng.NormFloat64() / math.Sqrt(float64(in)))
	}
	l := layer{grad.NewParam(name+".weight", tensor.FromF32(w, out, in)), grad.NewParam(name+".bias", tensor.New(out))}
	l.w.Part, l.b.Part = grad.Whole, grad.Whole
	return l
}

func (l layer) of(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.AddBias(tp.Linear(x, l.w), l.b)
}

const vaeHidden = 200

// newVAE draws a network: the same for the same seed, heads and latents.
func newVAE(seed uint64, heads, latents int) *vae {
	rng := rand.New(rand.NewPCG(seed, 63))
	ledger := &grad.Ledger{}
	v := &vae{
		latents: latents, tp: grad.NewTape(ledger), ledger: ledger,
		rng: rand.New(rand.NewPCG(seed, 64)), adam: optim.NewAdamW(0, ledger),
	}
	v.in = newLayer(rng, "encoder.in", 784, vaeHidden)
	for i := range heads {
		v.heads = append(v.heads, newLayer(rng, fmt.Sprint("encoder.head", i), vaeHidden, latents))
	}
	v.back = newLayer(rng, "decoder.back", latents, vaeHidden)
	v.out = newLayer(rng, "decoder.out", vaeHidden, 784)
	ledger.Add(grad.Weights, 4*v.trainable())
	return v
}

func (v *vae) trainable() (n int64) {
	for _, l := range append([]layer{v.in, v.back, v.out}, v.heads...) {
		n += int64(l.w.PartLen() + l.b.PartLen())
	}
	return n
}

// encode returns the parameters of the latents [n, latents].
func (v *vae) encode(x *grad.Value) []*grad.Value {
	h := v.tp.ReLU(v.in.of(v.tp, x))
	out := make([]*grad.Value, len(v.heads))
	for i, l := range v.heads {
		out[i] = l.of(v.tp, h)
	}
	return out
}

// decode returns the pixels' logits [n, 784].
func (v *vae) decode(z *grad.Value) *grad.Value {
	return v.out.of(v.tp, v.tp.ReLU(v.back.of(v.tp, z)))
}

// bound is an estimate of the ELBO, or of the IWELBO, of each image in x.
type bound func(v *vae, x *grad.Value) (*grad.Value, error)

// programmed is the bound as a program, over so many draws.
func programmed(s vi.Strategy, draws int) bound {
	return func(v *vae, x *grad.Value) (*grad.Value, error) {
		code := v.encode(x)
		zero := v.tp.Const(make([]float32, v.latents), 1, v.latents)
		latent := func(code []*grad.Value) vi.Dist {
			if len(code) == 1 {
				return vi.Bernoulli{Logits: code[0]}
			}
			return vi.Normal{Mean: code[0], LogScale: code[1]}
		}
		prior := latent([]*grad.Value{zero, zero}[:len(code)])
		model := vi.Func(func(t *vi.Trace) {
			z := t.Sample("z", prior, s)
			t.Observe("x", vi.Bernoulli{Logits: v.decode(z)}, x)
		})
		guide := vi.Func(func(t *vi.Trace) { t.Sample("z", latent(code), s) })
		e := vi.Estimator{Tape: v.tp, Rows: x.Rows, Rand: v.rng}
		if draws == 1 {
			return e.Surrogate(vi.ELBO(model, guide))
		}
		return e.Surrogate(vi.IWELBO(model, guide, draws))
	}
}

// handCoded is the same bound for Gaussian latents, written out: with z = μ + σε the
// logarithm of the weight is
//
//	Σ xl − log(1+e^l) + Σ (ε² − z²)/2 + log σ.
func handCoded(draws int) bound {
	return func(v *vae, x *grad.Value) (*grad.Value, error) {
		tp, code := v.tp, v.encode(x)
		mean, scale := code[0], code[1]
		sigma, width := tp.Exp(scale), tp.SumCols(scale)
		weights := make([]*grad.Value, draws)
		for i := range weights {
			eps, squares := make([]float32, x.Rows*v.latents), make([]float32, x.Rows)
			for j := range eps {
				eps[j] = float32(v.rng.NormFloat64())
				squares[j/v.latents] += eps[j] * eps[j] / 2
			}
			z := tp.Add(mean, tp.Mul(tp.Const(eps, x.Rows, v.latents), sigma))
			l := v.decode(z)
			pixels := tp.SumCols(tp.Sub(tp.Mul(x, l), tp.Softplus(l)))
			codes := tp.Add(tp.Scale(tp.SumCols(tp.Mul(z, z)), -0.5), tp.Const(squares, x.Rows, 1))
			weights[i] = tp.Add(pixels, tp.Add(codes, width))
		}
		if draws == 1 {
			return weights[0], nil
		}
		return vi.LogMeanExp(tp, weights), nil
	}
}

// ascend estimates the gradient of the mean bound over x and gives its negative to sink.
// It returns the bound.
func (v *vae) ascend(b bound, x []float32, sink grad.Sink) (float64, error) {
	n := len(x) / 784
	each, err := b(v, v.tp.Const(x, n, 784))
	if err != nil {
		return 0, err
	}
	loss := v.tp.Scale(v.tp.Mean(each), -1)
	value := -float64(loss.Data[0])
	return value, v.tp.Backward(loss, sink)
}

// step is ascend with a step of Adam.
func (v *vae) step(b bound, x []float32) (float64, error) {
	return v.ascend(b, x, func(p *grad.Param, g *tensor.Tensor) error { return v.adam.Step(p, g, 1e-3) })
}

// spread is the variance of the encoder's gradient at x, summed over its entries, from n
// estimates.
func (v *vae) spread(b bound, x []float32, n int) (float64, error) {
	params := []*grad.Param{v.in.w, v.in.b}
	for _, l := range v.heads {
		params = append(params, l.w, l.b)
	}
	sums, squares := map[*grad.Param][]float64{}, map[*grad.Param][]float64{}
	for _, p := range params {
		sums[p], squares[p] = make([]float64, p.PartLen()), make([]float64, p.PartLen())
	}
	for range n {
		_, err := v.ascend(b, x, func(p *grad.Param, g *tensor.Tensor) error {
			if s, q := sums[p], squares[p]; s != nil {
				for i, d := range g.F32() {
					s[i] += float64(d)
					q[i] += float64(d) * float64(d)
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	var total float64
	for _, p := range params {
		for i, s := range sums[p] {
			total += (squares[p][i] - s*s/float64(n)) / float64(n-1)
		}
	}
	return total, nil
}

// heldOut returns the mean over images of the ELBO and of the bound over draws draws.
func (v *vae) heldOut(images []float32, draws int) (elbo, many float64, err error) {
	n := len(images) / 784
	logs := make([][]float64, n)
	for range draws {
		v.tp.NoGrad(func() {
			var w *grad.Value
			if w, err = handCoded(1)(v, v.tp.Const(images, n, 784)); err == nil {
				for r := range logs {
					logs[r] = append(logs[r], float64(w.Data[r]))
				}
			}
		})
		v.tp.Reset()
		if err != nil {
			return 0, 0, err
		}
	}
	for _, w := range logs {
		top, sum := math.Inf(-1), 0.0
		for _, l := range w {
			top = max(top, l)
		}
		for _, l := range w {
			sum += math.Exp(l - top)
		}
		elbo += Mean(w) / float64(n)
		many += (top + math.Log(sum/float64(draws))) / float64(n)
	}
	return elbo, many, nil
}

// blackAndWhite returns pixels as 0 and 1.
func blackAndWhite(m *data.Images) []float32 {
	out := make([]float32, len(m.Pixels))
	for i, p := range m.Pixels {
		if p > 0.5 {
			out[i] = 1
		}
	}
	return out
}
