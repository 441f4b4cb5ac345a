package bayes

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/stat/distuv"

	"tare/engine/model"
)

// means is a posterior in closed form: point i is a measurement y_i ~ N(θ_{i mod d}, 1/τ) and
// θ ~ N(0, σ²I), so that θ_j has precision λ_j = 1/σ² + τ n_j and mean τ Σ y / λ_j.
type means struct {
	y          []float64
	d          int
	tau, sigma float64
}

func (p *means) Dim() int    { return p.d }
func (p *means) Points() int { return len(p.y) }
func (p *means) Gradient(g, theta []float64, batch []int) (float64, error) {
	for j, v := range theta {
		g[j] = -v / (p.sigma * p.sigma)
	}
	if batch == nil {
		for i := range p.y {
			batch = append(batch, i)
		}
	}
	var loss float64
	for _, i := range batch {
		r := p.y[i] - theta[i%p.d]
		g[i%p.d] += float64(len(p.y)) / float64(len(batch)) * p.tau * r
		loss += p.tau * r * r / 2 / float64(len(batch))
	}
	return loss, nil
}

func (p *means) posterior() (mean, precision []float64) {
	mean, precision = make([]float64, p.d), make([]float64, p.d)
	for j := range precision {
		precision[j] = 1 / (p.sigma * p.sigma)
	}
	for i, v := range p.y {
		mean[i%p.d] += p.tau * v
		precision[i%p.d] += p.tau
	}
	for j := range mean {
		mean[j] /= precision[j]
	}
	return mean, precision
}

func drawMeans(seed uint64) *means {
	rng := rand.New(rand.NewPCG(seed, 9))
	p := &means{d: 3, tau: 4, sigma: 2}
	for i := range 40 {
		p.y = append(p.y, float64(i%3)+0.5*rng.NormFloat64())
	}
	return p
}

// Over all points a coordinate is an autoregression with a = 1 − ελ/2, whose variance is
// 1/(λ(1−ελ/4)); moments of draws lie within four standard errors of it, and its variance
// within ελ/4 of the posterior's.
func TestSGLDMatchesAGaussianPosterior(t *testing.T) {
	p := drawMeans(1)
	mean, precision := p.posterior()
	for _, temperature := range []float64{1, 0.3} {
		o := &SGLD{Step: 2e-3, Horizon: 1, Burn: 2000, Thin: 1, Draws: 60000, Temperature: temperature, Seed: 3}
		c, err := o.Sample(context.Background(), p, make([]float64, 3))
		if err != nil {
			t.Fatal(err)
		}
		m, v := c.Moments()
		n := float64(o.Draws)
		for j, l := range precision {
			a := 1 - o.Step*l/2
			want := temperature / (l * (1 - o.Step*l/4))
			if z := (m[j] - mean[j]) / math.Sqrt(want*(1+a)/(1-a)/n); math.Abs(z) > 4 {
				t.Errorf("mean %d is %g, want %g: %g standard errors", j, m[j], mean[j], z)
			}
			if z := (v[j]/want - 1) / math.Sqrt(2*(1+a*a)/(1-a*a)/n); math.Abs(z) > 4 {
				t.Errorf("variance %d is %g, want %g: %g standard errors", j, v[j], want, z)
			}
		}
	}
}

// Minibatches leave the mean where it is, since the gradient is linear, and falling steps
// take away what they add to the variance.
func TestSGLDWithMinibatches(t *testing.T) {
	p := drawMeans(2)
	mean, precision := p.posterior()
	o := &SGLD{Step: 2e-3, Power: 0.55, Horizon: 500, Batch: 8, Burn: 20000, Thin: 4, Draws: 40000, Temperature: 1, Seed: 5}
	c, err := o.Sample(context.Background(), p, make([]float64, 3))
	if err != nil {
		t.Fatal(err)
	}
	m, v := c.Moments()
	for j, l := range precision {
		// a step of the last ε has the longest memory, 2(1+a)/(1−a) draws' worth
		a := math.Pow(1-c.Step*l/2, float64(o.Thin))
		if z := (m[j] - mean[j]) / math.Sqrt(1/l*(1+a)/(1-a)/float64(o.Draws)); math.Abs(z) > 5 {
			t.Errorf("mean %d is %g, want %g: %g standard errors", j, m[j], mean[j], z)
		}
		if math.Abs(v[j]*l-1) > 0.2 {
			t.Errorf("variance %d is %g of the posterior's", j, v[j]*l)
		}
	}
	if first, last := c.Losses[0], c.Losses[len(c.Losses)-1]; first < last {
		t.Errorf("minibatches' loss went from %g to %g", first, last)
	}
}

// Without noise the chain ends at the most probable parameters.
func TestSGLDWithoutTemperatureDescends(t *testing.T) {
	p := drawMeans(3)
	mean, _ := p.posterior()
	o := &SGLD{Step: 1e-2, Horizon: 1, Burn: 2000, Thin: 1, Draws: 1}
	c, err := o.Sample(context.Background(), p, make([]float64, 3))
	if err != nil {
		t.Fatal(err)
	}
	for j := range mean {
		near(t, "parameter", c.Draws[0][j], mean[j], 1e-10)
	}
}

func smallNetwork(t *testing.T) (*NetworkPosterior, []float32, []int32) {
	t.Helper()
	rng := rand.New(rand.NewPCG(4, 4))
	x, labels := make([]float32, 12*5), make([]int32, 12)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	for i := range labels {
		labels[i] = int32(rng.IntN(3))
	}
	m, err := model.NewMLP([]int{5, 4, 3}, 1)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewNetworkPosterior(m, x, labels, 0.7)
	if err != nil {
		t.Fatal(err)
	}
	return p, x, labels
}

// The gradient is that of the log posterior, by finite differences of Ensemble's
// probabilities, for all points and for a minibatch.
func TestNetworkPosteriorGradient(t *testing.T) {
	p, x, labels := smallNetwork(t)
	theta := p.Start()
	for _, batch := range [][]int{nil, {3, 7}} {
		g := make([]float64, p.Dim())
		if _, err := p.Gradient(g, theta, batch); err != nil {
			t.Fatal(err)
		}
		value := func(theta []float64) float64 {
			probabilities, err := p.Ensemble([][]float64{theta}, x)
			if err != nil {
				t.Fatal(err)
			}
			var sum float64
			for i := range labels {
				if batch == nil {
					sum += math.Log(probabilities[i][labels[i]])
				}
			}
			for _, i := range batch {
				sum += 6 * math.Log(probabilities[i][labels[i]])
			}
			for _, v := range theta {
				sum -= v * v / (2 * 0.49)
			}
			return sum
		}
		for j := 0; j < p.Dim(); j += 5 {
			const h = 1e-2
			moved := append([]float64(nil), theta...)
			moved[j] += h
			up := value(moved)
			moved[j] -= 2 * h
			near(t, "slope", g[j], (up-value(moved))/(2*h), 2e-2)
		}
	}
}

// An ensemble is the mean of its members.
func TestEnsembleAverages(t *testing.T) {
	p, x, labels := smallNetwork(t)
	a := p.Start()
	b := append([]float64(nil), a...)
	for i := range b {
		b[i] *= -0.5
	}
	one, err := p.Ensemble([][]float64{a}, x)
	if err != nil {
		t.Fatal(err)
	}
	other, _ := p.Ensemble([][]float64{b}, x)
	both, _ := p.Ensemble([][]float64{a, b}, x)
	for i := range both {
		for y := range both[i] {
			near(t, "probability", both[i][y], (one[i][y]+other[i][y])/2, 1e-6)
		}
	}
	if LogLoss(both, labels) > (LogLoss(one, labels)+LogLoss(other, labels))/2 {
		t.Error("the log loss of a mean is above the mean of log losses, which is not convex")
	}
}

// Around the centre of the prior a round valley's weight is a χ² probability; off the
// centre, in one dimension, a normal one.
func TestLocalVolumeClosedForms(t *testing.T) {
	quadratic := func(centre float64) func([]float64) (float64, error) {
		return func(theta []float64) (float64, error) {
			var s float64
			for _, v := range theta {
				s += (v - centre) * (v - centre)
			}
			return 3 * s / 2, nil
		}
	}
	for _, d := range []int{1, 2, 10, 40} {
		o := LocalVolume{Sigma: 0.8, Epsilon: 0.1, Directions: 3, Seed: 1}
		got, relative, err := o.Estimate(make([]float64, d), quadratic(0))
		if err != nil {
			t.Fatal(err)
		}
		want := math.Log(distuv.ChiSquared{K: float64(d)}.CDF(2 * o.Epsilon / 3 / (0.8 * 0.8)))
		near(t, "log weight", got, want, 1e-4)
		near(t, "its error", relative, 0, 1e-6)
	}
	o := LocalVolume{Sigma: 1, Epsilon: 1, Directions: 20000, Seed: 1}
	got, relative, err := o.Estimate([]float64{0.5}, quadratic(0.5))
	if err != nil {
		t.Fatal(err)
	}
	r := math.Sqrt(2. / 3)
	want := distuv.UnitNormal.CDF(0.5+r) - distuv.UnitNormal.CDF(0.5-r)
	if math.Abs(math.Exp(got)/want-1) > 4*relative+1e-4 {
		t.Errorf("weight %g, want %g, standard error %g", math.Exp(got), want, relative*want)
	}
}

func TestSGLDRefuses(t *testing.T) {
	ctx := context.Background()
	p := drawMeans(1)
	if _, err := (&SGLD{Step: -1, Temperature: math.NaN(), Thin: 0}).Sample(ctx, p, nil); !errors.Is(err, ErrOptions) {
		t.Errorf("%v, want ErrOptions", err)
	}
	o := NewSGLD()
	if _, err := o.Sample(ctx, p, nil); !errors.Is(err, ErrData) {
		t.Errorf("%v of a start without numbers, want ErrData", err)
	}
	o.Step = 10
	if _, err := o.Sample(ctx, p, make([]float64, 3)); !errors.Is(err, ErrDiverged) {
		t.Errorf("%v of steps too long, want ErrDiverged", err)
	}
	m, err := model.NewMLP([]int{2, 3}, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, label := NewNetworkPosterior(m, make([]float32, 4), []int32{0, 3}, 1)
	_, value := NewNetworkPosterior(m, []float32{0, float32(math.NaN())}, []int32{0}, 1)
	_, count := NewNetworkPosterior(m, make([]float32, 5), []int32{0, 1}, 1)
	for _, err := range []error{label, value, count} {
		if !errors.Is(err, ErrData) {
			t.Errorf("%v, want ErrData", err)
		}
	}
	if _, err := NewNetworkPosterior(m, make([]float32, 2), []int32{0}, 0); !errors.Is(err, ErrOptions) {
		t.Errorf("%v of σ = 0", err)
	}
	if _, _, err := (&LocalVolume{}).Estimate([]float64{1}, nil); !errors.Is(err, ErrOptions) {
		t.Errorf("%v of no volume", err)
	}
}
