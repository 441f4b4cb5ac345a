package lab

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"gonum.org/v1/gonum/mat"

	"tare/engine/data"
	"tare/engine/model"
	"tare/method/bayes"
)

// universalityLens is the experiment of Bayesian mixtures over large classes (Feder, Urbanke
// and Fogel 2025): what a mixture loses against the truth shall be within the bound that the
// prior weight of the hypotheses near the truth gives, grow with their complexity, and
// hardly with their number.
//
// Classes are all networks of three hidden units with weights −1, 0 and 1 on two signs, of
// which there are 531,441, coins on a grid of 4,096, and context trees of depth 12. The
// simple truths are "the first sign", a coin, and a tree of three contexts; the complex ones
// that the signs differ, and all eight contexts of three symbols; answers are noisy. The same
// is done with one hidden unit (81 networks), 16 coins and depth 3, to see what a larger
// class adds. The figure is the regret on the networks, in nats, over both truths.
//
// Beside the bound of the weight stand counting, which is the logarithm of the number of
// hypotheses and what the nearest one misses, of trees with what the true tree's leaves
// cost, so that what a complex truth adds is judged on networks; and maximum likelihood,
// which foretells by the likeliest hypothesis so far, of trees by the largest.
//
// On 1,000 digits of 7×7 points the mixture is an ensemble that Langevin dynamics draws from
// the posterior of 49-32-10 networks, maximum likelihood the single most probable network:
// the same steps without noise. The prior's deviation and the step were chosen for each on
// seed 0, by training digits kept apart, and came out the same. Beside the single network
// stands how flat its minimum is: −log of the prior weight near it where the loss grows by no
// more than 0.05, with the digits' labels and with labels at random.
func universalityLens() Experiment {
	const mixture, weight, counting, likelihood = "mixture", "weight bound", "counting", "maximum likelihood"
	rule := []Rule{Beats(mixture, weight), BeatsIn(OfExtra(coinRegret), mixture, weight), BeatsIn(OfExtra(treeRegret), mixture, weight)}
	for _, f := range []Figure{netsAdded, coinsAdded, treesAdded, complexNets} {
		rule = append(rule, BeatsIn(OfExtra(f), mixture, counting))
	}
	rule = append(rule, Beats(mixture, likelihood), BeatsIn(OfExtra(lensDigits), mixture, likelihood))
	return Experiment{
		Slug:   "universality-lens",
		Claim:  "A mixture's regret is within the bound by the weight of the hypotheses near the truth; a larger class adds little to it, a more complex truth much.",
		Figure: Figure{"regret on networks", "nats", Lower},
		Arms: []Arm{
			{mixture, Method, lens{mixtureRegret, mixtureOfTrees, 1}.run},
			{weight, Baseline, lens{weightBound, boundOfTrees, -1}.run},
			{counting, Baseline, lens{countingBound, countingTrees, -1}.run},
			{likelihood, Baseline, lens{leaderRegret, largestTree, 0}.run},
		},
		Seeds: 5, QuickSeeds: 2,
		Rule: All(rule...),
	}
}

// Further figures, in nats.
var (
	coinRegret   = Figure{"regret on coins", "nats", Lower}
	treeRegret   = Figure{"regret on context trees", "nats", Lower}
	netsAdded    = Figure{"regret added by 6,561 times the networks", "nats", Lower}
	coinsAdded   = Figure{"regret added by 256 times the coins", "nats", Lower}
	treesAdded   = Figure{"regret added by depth 12 for 3", "nats", Lower}
	complexNets  = Figure{"regret a complex truth adds, networks", "nats", Higher}
	complexTrees = Figure{"regret a complex truth adds, trees", "nats", Higher}
	lensDigits   = Figure{"test log loss on digits", "nats", Lower}
	flatLabels   = Figure{"−log weight, digits", "nats", Lower}
	flatRandom   = Figure{"−log weight, labels at random", "nats", Lower}
)

// lens is one arm.
type lens struct {
	finite      func(ctx context.Context, c finiteClass, d draws) ([]float64, error)
	trees       func(ctx context.Context, depth int, s treeSource, symbols []int) (float64, error)
	temperature float64 // of the networks on digits; negative does without
}

// finiteClass is a class with its prior, how many hypotheses it puts together, and how far
// each is from the truth.
type finiteClass struct {
	bayes.Class
	prior      []float64
	size       int
	divergence []float64
}

// draws are outcomes with their inputs, and the truth's own loss up to each.
type draws struct {
	x    *mat.Dense
	y    []int
	lost []float64
}

func (l lens) run(ctx context.Context, e Env, seed uint64) (Measurement, error) {
	m := Measurement{Extra: map[string]float64{}}
	begun := time.Now()
	rng := rand.New(rand.NewPCG(seed, 20))
	repeats, n := e.Pick(20, 5), e.Pick(300, 150)
	e.Step(0, 4, "networks")
	nets := signNets()
	first, differ := []float64{0.13, 0.13, 0.87, 0.87}, []float64{0.13, 0.87, 0.87, 0.13}
	regret := func(c weighed, truth []float64, n int) ([]float64, error) {
		return l.average(ctx, rng, c, truth, n, repeats)
	}
	small, err1 := regret(nets.one, first, n)
	large, err2 := regret(nets.three, first, n)
	hard, err3 := regret(nets.three, differ, n)
	e.Step(1, 4, "coins")
	few, err4 := regret(weighed{bayes.Coins(16), nil, 16}, []float64{0.3}, e.Pick(1000, 300))
	many, err5 := regret(weighed{bayes.Coins(4096), nil, 4096}, []float64{0.3}, e.Pick(1000, 300))
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			return m, err
		}
	}
	m.Value = (end(large) + end(hard)) / 2
	for t := range large {
		if (t+1)%10 == 0 {
			m.Curve = append(m.Curve, Point{t + 1, (large[t] + hard[t]) / 2})
		}
	}
	m.Extra[netsAdded.Name], m.Extra[complexNets.Name] = end(large)-end(small), end(hard)-end(large)
	m.Extra[coinRegret.Name], m.Extra[coinsAdded.Name] = end(many), end(many)-end(few)
	e.Step(2, 4, "context trees")
	if err := l.measureTrees(ctx, e, rng, repeats, &m); err != nil {
		return m, err
	}
	e.Step(3, 4, "digits")
	if l.temperature >= 0 {
		if err := l.measureDigits(ctx, e, seed, &m); err != nil {
			return m, err
		}
	}
	m.Seconds = time.Since(begun).Seconds()
	return m, nil
}

func end(v []float64) float64 { return v[len(v)-1] }

// weighed is a class whose members stand for size hypotheses of the same weight.
type weighed struct {
	bayes.Class
	prior []float64
	size  int
}

// signNets are the networks on two signs with one and with three hidden units, what says the
// same put together.
var signNets = sync.OnceValue(func() (nets struct{ one, three weighed }) {
	inputs := [][]float64{{1, -1, -1}, {1, -1, 1}, {1, 1, -1}, {1, 1, 1}}
	distinct := func(hidden int) weighed {
		c, err := bayes.NewQuantisedNets(3, hidden, []float64{-1, 0, 1}, 2)
		if err != nil {
			panic(err) // its arguments stand above
		}
		t, w := bayes.Distinct(c, inputs)
		return weighed{t, w, c.Len()}
	}
	nets.one, nets.three = distinct(1), distinct(3)
	return nets
})

// average is the mean over draws of what the arm says after each outcome; truth are the
// probabilities of a 1 by input, which are all as likely.
func (l lens) average(ctx context.Context, rng *rand.Rand, w weighed, truth []float64, n, repeats int) ([]float64, error) {
	var inputs [][]float64
	for x := range truth {
		inputs = append(inputs, []float64{float64(x)})
	}
	c := finiteClass{Class: w.Class, prior: w.prior, size: w.size}
	if c.prior == nil {
		c.prior = make([]float64, w.Len())
		for i := range c.prior {
			c.prior[i] = 1 / float64(w.Len())
		}
	}
	c.divergence = bayes.Divergences(w, func(x []float64) []float64 { p := truth[int(x[0])]; return []float64{1 - p, p} }, inputs)
	sum := make([]float64, n)
	for range repeats {
		d := draws{x: mat.NewDense(n, 1, nil), y: make([]int, n), lost: make([]float64, n)}
		lost := 0.0
		for t := range n {
			x := rng.IntN(len(truth))
			d.x.Set(t, 0, float64(x))
			p := truth[x]
			if rng.Float64() < p {
				d.y[t] = 1
			} else {
				p = 1 - p
			}
			lost -= math.Log(p)
			d.lost[t] = lost
		}
		regret, err := l.finite(ctx, c, d)
		if err != nil {
			return nil, err
		}
		for t, v := range regret {
			sum[t] += v / float64(repeats)
		}
	}
	return sum, nil
}

func mixtureRegret(ctx context.Context, c finiteClass, d draws) ([]float64, error) {
	f, err := (&bayes.Mixture{Class: c, Prior: c.prior}).Fit(ctx, d.x, d.y)
	if err != nil {
		return nil, err
	}
	return over(f.Losses, d), nil
}

// over sums losses up, less those of the truth.
func over(losses []float64, d draws) []float64 {
	out, sum := make([]float64, len(losses)), 0.0
	for t, v := range losses {
		sum += v
		out[t] = sum - d.lost[t]
	}
	return out
}

func weightBound(_ context.Context, c finiteClass, d draws) ([]float64, error) {
	out := make([]float64, len(d.y))
	for t := range out {
		if (t+1)%10 != 0 && t+1 < len(out) {
			continue // only each tenth is drawn
		}
		var err error
		if out[t], _, err = bayes.WeightBound(c.prior, c.divergence, t+1); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func countingBound(_ context.Context, c finiteClass, d draws) ([]float64, error) {
	nearest := math.Inf(1)
	for _, v := range c.divergence {
		nearest = min(nearest, v)
	}
	out := make([]float64, len(d.y))
	for t := range out {
		out[t] = math.Log(float64(c.size)) + float64(t+1)*nearest
	}
	return out, nil
}

// leaderRegret foretells by the hypothesis that lost least so far, of several by their mean
// by the prior.
func leaderRegret(ctx context.Context, c finiteClass, d draws) ([]float64, error) {
	k := c.Len()
	lost, table, losses := make([]float64, k), make([]float64, 2*k), make([]float64, len(d.y))
	for t, y := range d.y {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.LogProbabilities(table, d.x.RawRowView(t))
		least := math.Inf(1)
		for _, v := range lost {
			least = min(least, v)
		}
		var weight, p float64
		for i, v := range lost {
			if v <= least+1e-9 {
				weight += c.prior[i]
				p += c.prior[i] * math.Exp(table[2*i+y])
			}
			lost[i] -= table[2*i+y]
		}
		losses[t] = -math.Log(p / weight)
	}
	return over(losses, d), nil
}

// treeSource makes binary symbols: the probability of a 1 depends on the last depth ones,
// numbered with the last as the lowest bit, and leaves are the contexts that differ.
type treeSource struct {
	depth int
	ones  []float64
	leaf  []int // of each context
	inner int   // nodes of the tree that have children
}

var (
	simpleTree  = treeSource{2, []float64{0.8, 0.1, 0.4, 0.1}, []int{0, 1, 2, 1}, 2}
	complexTree = treeSource{3, []float64{0.1, 0.9, 0.8, 0.3, 0.6, 0.2, 0.3, 0.7}, []int{0, 1, 2, 3, 4, 5, 6, 7}, 7}
)

// at is the context of a symbol; before the beginning are zeros.
func (s treeSource) at(symbols []int, t int) int {
	c := 0
	for d := range s.depth {
		if t-1-d >= 0 {
			c |= symbols[t-1-d] << d
		}
	}
	return c
}

func (s treeSource) draw(rng *rand.Rand, n int) []int {
	symbols := make([]int, n)
	for t := range symbols {
		if rng.Float64() < s.ones[s.at(symbols, t)] {
			symbols[t] = 1
		}
	}
	return symbols
}

// loss is that of the truth.
func (s treeSource) loss(symbols []int) float64 {
	var sum float64
	for t, y := range symbols {
		p := s.ones[s.at(symbols, t)]
		if y == 0 {
			p = 1 - p
		}
		sum -= math.Log(p)
	}
	return sum
}

func (l lens) measureTrees(ctx context.Context, e Env, rng *rand.Rand, repeats int, m *Measurement) error {
	n := e.Pick(2000, 500)
	var regrets [3]float64
	for i, c := range []struct {
		depth  int
		source treeSource
	}{{3, simpleTree}, {12, simpleTree}, {12, complexTree}} {
		for range repeats {
			r, err := l.trees(ctx, c.depth, c.source, c.source.draw(rng, n))
			if err != nil {
				return err
			}
			regrets[i] += r / float64(repeats)
		}
	}
	m.Extra[treeRegret.Name] = (regrets[1] + regrets[2]) / 2
	m.Extra[treesAdded.Name], m.Extra[complexTrees.Name] = regrets[1]-regrets[0], regrets[2]-regrets[1]
	return nil
}

func treesOfDepth(depth int) *bayes.ContextTree {
	o := bayes.NewContextTree(2)
	o.Depth = depth
	return o
}

func mixtureOfTrees(ctx context.Context, depth int, s treeSource, symbols []int) (float64, error) {
	f, err := treesOfDepth(depth).Fit(ctx, [][]int{symbols})
	if err != nil {
		return 0, err
	}
	return f.Loss - s.loss(symbols), nil
}

// visits counts the symbols of each leaf. Those whose context reaches before the beginning
// have leaves of their own, one below each inner node, and are the first ones.
func (s treeSource) visits(symbols []int) []int {
	leaves := 0
	for _, l := range s.leaf {
		leaves = max(leaves, l+1)
	}
	out := make([]int, leaves, leaves+s.depth)
	for t := range symbols {
		if t < s.depth {
			out = append(out, 1)
		} else {
			out[s.leaf[s.at(symbols, t)]]++
		}
	}
	return out
}

func boundOfTrees(_ context.Context, depth int, s treeSource, symbols []int) (float64, error) {
	leaves := 2*s.inner + 1 // of three children each, one before the beginning
	if depth == s.depth {
		leaves = s.inner - (1<<(depth-1) - 1)
	}
	return treesOfDepth(depth).TreeBound(s.inner, leaves, s.visits(symbols)), nil
}

// countingTrees gives all binary trees the same weight: there are T(d) = 1 + T(d−1)² of
// depth d.
func countingTrees(_ context.Context, depth int, s treeSource, symbols []int) (float64, error) {
	count := 0.0 // log T
	for range depth {
		count = 2*count + math.Log1p(math.Exp(-2*count))
	}
	for _, n := range s.visits(symbols) {
		count += bayes.KTBound(2, n)
	}
	return count, nil
}

// largestTree is the tree that has most contexts, which has the largest likelihood.
func largestTree(_ context.Context, depth int, s treeSource, symbols []int) (float64, error) {
	all := treeSource{depth: depth}
	counts := make([][2]float64, 1<<depth)
	var loss float64
	for t, y := range symbols {
		a := &counts[all.at(symbols, t)]
		loss -= math.Log((a[y] + 0.5) / (a[0] + a[1] + 1))
		a[y]++
	}
	return loss - s.loss(symbols), nil
}

// digitSet are coarse images as rows, about centred and scaled.
func digitSet(images *data.Images, at []int) (x []float32, labels []int32) {
	for _, i := range at {
		for _, v := range coarse(images, i) {
			x = append(x, float32((v-0.13)/0.25))
		}
		labels = append(labels, images.Labels[i])
	}
	return x, labels
}

func (l lens) measureDigits(ctx context.Context, e Env, seed uint64, m *Measurement) error {
	training, test, err := readDigits()
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 21))
	x, labels := digitSet(training, rng.Perm(training.N)[:e.Pick(1000, 300)])
	tx, answers := digitSet(test, rng.Perm(test.N)[:e.Pick(5000, 2000)])
	p, c, err := l.sample(ctx, e, x, labels, seed)
	if err != nil {
		return err
	}
	m.Trainable = int64(p.Dim())
	drawn := c.Draws
	if l.temperature == 0 {
		drawn = drawn[len(drawn)-1:]
	}
	said, err := p.Ensemble(drawn, tx)
	if err != nil {
		return err
	}
	m.Extra[lensDigits.Name] = bayes.LogLoss(said, answers)
	if l.temperature > 0 {
		return nil
	}
	if m.Extra[flatLabels.Name], err = flatness(p, drawn[0], x, labels, seed); err != nil {
		return err
	}
	rng.Shuffle(len(labels), func(i, j int) { labels[i], labels[j] = labels[j], labels[i] })
	if p, c, err = l.sample(ctx, e, x, labels, seed); err != nil {
		return err
	}
	m.Extra[flatRandom.Name], err = flatness(p, c.Draws[len(c.Draws)-1], x, labels, seed)
	return err
}

// digitPrior is the deviation of the networks' prior.
const digitPrior = 0.5

func (l lens) sample(ctx context.Context, e Env, x []float32, labels []int32, seed uint64) (*bayes.NetworkPosterior, *bayes.Chain, error) {
	net, err := model.NewMLP([]int{49, 32, 10}, seed)
	if err != nil {
		return nil, nil, err
	}
	p, err := bayes.NewNetworkPosterior(net, x, labels, digitPrior)
	if err != nil {
		return nil, nil, err
	}
	o := bayes.NewSGLD()
	o.Step, o.Power, o.Horizon, o.Batch = 2*0.3/float64(len(labels)), 0.55, 3000, 100
	o.Burn, o.Thin, o.Draws = e.Pick(20000, 3000), e.Pick(200, 60), e.Pick(100, 50)
	o.Temperature, o.Seed = l.temperature, seed
	steps := o.Burn + o.Thin*o.Draws
	o.Trace = func(step int, loss float64) {
		if step%500 == 0 {
			e.Step(step, steps, fmt.Sprintf("digits, loss %.4f", loss))
		}
	}
	c, err := o.Sample(ctx, p, p.Start())
	return p, c, err
}

func flatness(p *bayes.NetworkPosterior, theta []float64, x []float32, labels []int32, seed uint64) (float64, error) {
	o := bayes.LocalVolume{Sigma: digitPrior, Epsilon: 0.05, Directions: 20, Seed: seed}
	w, _, err := o.Estimate(theta, func(theta []float64) (float64, error) {
		said, err := p.Ensemble([][]float64{theta}, x)
		if err != nil {
			return 0, err
		}
		return bayes.LogLoss(said, labels), nil
	})
	return -w, err
}
