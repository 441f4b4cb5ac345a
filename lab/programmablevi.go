package lab

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"tare/method/bayes/vi"
)

// programmableVI is the experiment of programmable variational inference (Becker et al.
// 2024) on a variational autoencoder of MNIST: a programmed bound shall cost a step at most
// a tenth more time than the same one written by hand and train as well; the strategies'
// variances shall stand in the order that theory gives them; and training with importance
// weights, which is another line of the program, shall give a higher likelihood.
//
// The figure is the decimal logarithm of the variance of the encoder's gradient, summed over
// its entries, at least 1e-12: for ten Gaussian latents or six bits, on 50 images at a point
// that is the same for all strategies, and the same number of estimates, whose
// mean time stands beside it. Programmed and hand-coded training steps on 100 images are
// timed by turns, and their medians compared.
func programmableVI() Experiment {
	const (
		own, hand, weighted    = "programmed", "by hand", "programmed, 5 importance weights"
		gaussMVD, gaussMean    = "MVD", "REINFORCE less its mean"
		gaussPlain             = "REINFORCE"
		bitEnum, bitMVD        = "bits: ENUM", "bits: MVD"
		bitMean, bitReinforced = "bits: REINFORCE less its mean", "bits: REINFORCE"
	)
	fixed := func(s vi.Strategy) func() vi.Strategy { return func() vi.Strategy { return s } }
	less := func() vi.Strategy { return vi.ReinforceWith(&vi.RunningMean{}) }
	return Experiment{
		Slug:   "programmable-vi",
		Claim:  "A programmed variational bound trains as well as one by hand within a tenth more time a step, and strategies chosen choice by choice have the variances that theory orders.",
		Figure: Figure{"log10 of the gradient's variance", "", Lower},
		Arms: []Arm{
			{own, Method, trainedVAE(programmed(vi.Reparam, 1), 1)},
			{weighted, Method, trainedVAE(programmed(vi.Reparam, 5), 5)},
			{gaussMVD, Method, strategyVAE(fixed(vi.MVD), gaussians)},
			{bitEnum, Method, strategyVAE(fixed(vi.Enum), bits)},
			{bitMVD, Method, strategyVAE(fixed(vi.MVD), bits)},
			{hand, Baseline, trainedVAE(handCoded(1), 1)},
			{gaussMean, Baseline, strategyVAE(less, gaussians)},
			{gaussPlain, Baseline, strategyVAE(fixed(vi.Reinforce), gaussians)},
			{bitMean, Baseline, strategyVAE(less, bits)},
			{bitReinforced, Baseline, strategyVAE(fixed(vi.Reinforce), bits)},
		},
		Seeds: 5, QuickSeeds: 2,
		Rule: All(
			ReachesIn(OfExtra(stepRatio), own, 1.1), ReachesIn(OfExtra(stepRatio), weighted, 1.1),
			NotWorseIn(OfExtra(heldOutELBO), own, hand),
			Beats(own, gaussMean), Beats(gaussMVD, gaussMean), Beats(gaussMean, gaussPlain),
			Beats(bitEnum, bitMVD), Beats(bitMVD, bitMean), Beats(bitMean, bitReinforced),
			BeatsIn(OfExtra(heldOutMany), weighted, own),
		),
	}
}

// Further figures of the trained autoencoders; 50 draws bound the likelihood well.
var (
	stepRatio   = Figure{"time of a step over that by hand", "", Lower}
	stepTime    = Figure{"time of a step", "ms", Lower}
	heldOutELBO = Figure{"held-out ELBO", "nats", Higher}
	heldOutMany = Figure{"held-out likelihood by 50 draws", "nats", Higher}
)

// What heads of the encoder mean.
const bits, gaussians = 1, 2

// latentsOf are few bits, for all their values are gone through.
func latentsOf(heads int) int {
	if heads == bits {
		return 6
	}
	return 10
}

// vaeData are training batches and held-out images.
type vaeData struct {
	images, test []float32
	rng          *rand.Rand
}

func readVAE(e Env, seed uint64) (*vaeData, error) {
	training, test, err := readDigits()
	if err != nil {
		return nil, err
	}
	return &vaeData{
		blackAndWhite(firstImages(training, e.Pick(6000, 2000))), blackAndWhite(firstImages(test, e.Pick(500, 100))),
		rand.New(rand.NewPCG(seed, 65)),
	}, nil
}

// batch draws n training images.
func (d *vaeData) batch(n int) []float32 {
	out := make([]float32, 0, n*784)
	for range n {
		i := d.rng.IntN(len(d.images) / 784)
		out = append(out, d.images[i*784:(i+1)*784]...)
	}
	return out
}

const vaeBatch = 100

// warmed returns an autoencoder after some steps, the same for all arms of a seed, and the
// images at which gradients are compared.
func (d *vaeData) warmed(ctx context.Context, e Env, seed uint64, heads int) (*vae, []float32, error) {
	v := newVAE(seed, heads, latentsOf(heads))
	b := handCoded(1)
	if heads == bits {
		b = programmed(vi.ReinforceWith(&vi.RunningMean{}), 1)
	}
	for range e.Pick(150, 30) {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if _, err := v.step(b, d.batch(vaeBatch)); err != nil {
			return nil, nil, err
		}
	}
	return v, d.batch(50), nil
}

// variance is the experiment's figure of a bound, after a few estimates that are not
// counted, from which a running mean learns. m gets what an estimate takes as well.
func variance(ctx context.Context, e Env, seed uint64, heads int, b bound, m *Measurement) error {
	d, err := readVAE(e, seed)
	if err != nil {
		return err
	}
	v, x, err := d.warmed(ctx, e, seed, heads)
	if err != nil {
		return err
	}
	if _, err := v.spread(b, x, 10); err != nil {
		return err
	}
	n := e.Pick(24, 6)
	v.ledger.ResetPeak()
	begun := time.Now()
	s, err := v.spread(b, x, n)
	m.Seconds = time.Since(begun).Seconds() / float64(n)
	m.Value, m.Trainable, m.Peak = math.Log10(max(s, 1e-12)), v.trainable(), peakOf(v.ledger.Peak())
	return err
}

// strategyVAE measures a strategy's variance.
func strategyVAE(strategy func() vi.Strategy, heads int) func(context.Context, Env, uint64) (Measurement, error) {
	return func(ctx context.Context, e Env, seed uint64) (m Measurement, err error) {
		err = variance(ctx, e, seed, heads, programmed(strategy(), 1), &m)
		return m, err
	}
}

// trainedVAE measures the variance, trains, and times steps against those by hand.
func trainedVAE(b bound, draws int) func(context.Context, Env, uint64) (Measurement, error) {
	return func(ctx context.Context, e Env, seed uint64) (Measurement, error) {
		m := Measurement{Extra: map[string]float64{}}
		if err := variance(ctx, e, seed, gaussians, b, &m); err != nil {
			return m, err
		}
		d, err := readVAE(e, seed)
		if err != nil {
			return m, err
		}
		v := newVAE(seed, gaussians, latentsOf(gaussians))
		steps := e.Pick(1000, 60)
		var recent []float64
		for i := range steps {
			if err := ctx.Err(); err != nil {
				return m, err
			}
			e.Step(i, steps, "training")
			value, err := v.step(b, d.batch(vaeBatch))
			if err != nil {
				return m, err
			}
			if recent = append(recent, value); len(recent) == 20 {
				m.Curve = append(m.Curve, Point{i + 1, Mean(recent)})
				recent = recent[:0]
			}
		}
		if m.Extra[heldOutELBO.Name], m.Extra[heldOutMany.Name], err = v.heldOut(d.test, 50); err != nil {
			return m, err
		}
		mine, theirs, err := byTurns(ctx, d, v, b, draws, e.Pick(200, 40))
		m.Extra[stepTime.Name], m.Extra[stepRatio.Name] = 1e3*mine, mine/theirs
		return m, err
	}
}

// byTurns returns the median seconds of a step of v and of a network trained by hand.
func byTurns(ctx context.Context, d *vaeData, v *vae, b bound, draws, n int) (mine, theirs float64, err error) {
	const warmUp = 10 // the first steps of a tape make its buffers
	rival := newVAE(0, gaussians, v.latents)
	var times [2][]float64
	for i := range warmUp + 2*n {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		x := d.batch(vaeBatch)
		begun := time.Now()
		if i%2 == 0 {
			_, err = v.step(b, x)
		} else {
			_, err = rival.step(handCoded(draws), x)
		}
		if err != nil {
			return 0, 0, err
		}
		if i >= warmUp {
			times[i%2] = append(times[i%2], time.Since(begun).Seconds())
		}
	}
	return median(times[0]), median(times[1]), nil
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
