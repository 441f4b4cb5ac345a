package lab

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/train"
	"tare/lab/tuning"
	"tare/method/adapt"
)

// flora is the experiment of FLoRA (Si et al. 2024): a change that keeps a kernel's
// dimensions apart, as a core with a factor for each, shall be better than LoRA, which
// flattens the kernel, at about as many trained entries: on convolutions, where a small
// residual network that knows five digits learns the other five from few images, and on
// linear layers, in the tune test. The core adds 2 % of entries to LoRA's there, and 3 %
// on the convolutions. The scales are the defaults, 0.04 and 4; the paper tunes them for each
// model, so that LoRA's scale of 2 on linear layers is a further arm, as is full
// fine-tuning. On convolutions both have the same scale. The paper's models of images, and
// of images and language, are out of reach here.
func flora() Experiment {
	x := Experiment{
		Slug:   "flora",
		Claim:  "A core with a factor for each dimension of the kernel tunes convolutions and linear layers better than LoRA, which flattens them, at the same number of trained entries.",
		Figure: opticksLoss,
		Seeds:  5, QuickSeeds: 2,
		Rule: All(BeatsIn(OfExtra(digitAccuracy), "flora", "lora"), Beats("flora", "lora")),
	}
	for _, a := range digitArms {
		text := a
		if a.name == "lora" {
			text.rank = 8
		}
		x.Arms = append(x.Arms, text.with(digitPart(a)))
	}
	x.Arms = append(x.Arms, textArms(tuneArm{"flora, LoRA's scale", Method, "flora scale=2", 8})...)
	return x
}

// digitArms are the arms on the convolutions, where LoRA of rank 4 comes nearest to
// FLoRA of rank 8 in trained entries.
var digitArms = []tuneArm{
	{"flora", Method, "flora", 8},
	{"lora", Baseline, "lora", 4},
	{"full", Baseline, tuning.Full, 0},
}

// The figures on the new digits.
var (
	digitAccuracy = Figure{"accuracy on new digits", "%", Higher}
	digitLoss     = Figure{"loss on new digits", "nats", Lower}
	digitEntries  = Figure{"trained entries in the residual network", "", Lower} // an adapter's, without the head
)

// digitRates is the grid of learning rates. It goes higher than the tune test's, at whose
// end both adapters have their best.
var digitRates = []float64{0.0015, 0.004, 0.01, 0.025, 0.06}

// residualConvolutions are the layers that are adapted: all but the first convolution,
// whose one channel leaves nothing to decompose, and the head, which knows nothing of the
// new digits and trains whole in every arm.
const residualConvolutions = `layer\d\..*(conv\d|downsample\.0)`

// digitTest is a network that knows the digits 0 to 4, and images of 5 to 9.
type digitTest struct {
	base               *model.ResNet
	learn, valid, test *data.Images
}

var digitTests opened[*digitTest]

// openDigitTest trains the network.
func openDigitTest(ctx context.Context, e Env) (*digitTest, error) {
	training, test, err := readDigits()
	if err != nil {
		return nil, err
	}
	known := func(l int32) bool { return l < 5 }
	others := func(l int32) bool { return l >= 5 }
	first := firstImages(training, 50_000)
	t := &digitTest{
		learn: imagesOf(first, first.N, others),
		valid: imagesOf(lastImages(training, 10_000), e.Pick(1000, 200), others),
		test:  imagesOf(test, e.Pick(test.N, 500), others),
	}
	if t.base, err = newDigitNet(); err != nil {
		return nil, err
	}
	for _, p := range t.base.Params() {
		p.Part = grad.Whole
	}
	run := imageRun{lr: 3e-3, floor: digitFloor, steps: e.Pick(200, 20), batch: e.Pick(100, 50), note: "the base"}
	if err := learnDigits(ctx, e, run, t.base, imagesOf(first, first.N, known), 2, nil); err != nil {
		return nil, err
	}
	return t, nil
}

func newDigitNet() (*model.ResNet, error) {
	return model.NewResNet(model.ResNetOptions{
		Images: model.Images{Height: 28, Width: 28, Channels: 1, Classes: 10}, Blocks: []int{1, 1, 1}, Widths: []int{16, 32, 64},
	}, 1)
}

// digitFloor is the part of the learning rate that is left in the end.
const digitFloor = 0.01

// learnDigits trains what trains of m on images that are moved by up to shift pixels.
func learnDigits(ctx context.Context, e Env, run imageRun, m *model.ResNet, images *data.Images, shift int, a *adapt.Adapter) error {
	source, err := data.NewLabelled(images.Pixels, images.Labels, run.batch, run.seed)
	if err != nil {
		return err
	}
	if shift > 0 {
		source.Change(data.Shift(images.Rows, images.Cols, shift))
	}
	return run.train(ctx, e, m, &train.Classify{Model: m, Source: source}, a)
}

// digitImages is how many images of new digits there are to learn from.
const digitImages = 500

// tuned returns the network after the arm has learnt the new digits from images that seed
// chooses, and how many entries the arm trained, an adapter without the head.
func (t *digitTest) tuned(ctx context.Context, e Env, a tuneArm, lr float64, seed uint64) (*model.ResNet, int64, error) {
	m, err := newDigitNet()
	if err != nil {
		return nil, 0, err
	}
	for i, p := range append(m.Params(), m.Buffers()...) {
		from := append(t.base.Params(), t.base.Buffers()...)
		copy(p.Value.F32(), from[i].Value.F32())
	}
	adapter, entries, err := a.onDigits(m, seed)
	if err != nil {
		return nil, 0, err
	}
	few := pickImages(t.learn, rand.New(rand.NewPCG(seed, 5)).Perm(t.learn.N)[:digitImages])
	run := imageRun{lr: lr, floor: digitFloor, steps: e.Pick(100, 8), batch: 50, seed: seed, note: "new digits"}
	return m, entries, learnDigits(ctx, e, run, m, few, 0, adapter)
}

// onDigits lets the arm's part of m train, whose entries it counts, and then the head.
func (a tuneArm) onDigits(m *model.ResNet, seed uint64) (*adapt.Adapter, int64, error) {
	var adapter *adapt.Adapter
	if a.method == tuning.Full {
		for _, p := range m.Params() {
			p.Part = grad.Whole
		}
	} else {
		method, o, err := a.options()
		if err != nil {
			return nil, 0, err
		}
		if adapter, err = adapt.Attach(m, method, o, []string{residualConvolutions}, seed); err != nil {
			return nil, 0, err
		}
	}
	entries := train.Trainable(m.Params())
	for _, l := range m.Linears() {
		for _, p := range l.Params() {
			if l.Name == "fc" && !p.Trains() {
				p.Part = grad.Whole
			}
		}
	}
	return adapter, entries, nil
}

// measureDigits tunes and measures one arm with one seed.
func (a tuneArm) measureDigits(ctx context.Context, e Env, seed uint64) (map[string]float64, error) {
	work := fmt.Sprintf("new digits: %s, rank %d, seed %d, quick %v", a.method, a.rank, seed, e.Quick)
	return once(ctx, e.shelf, work, func() (map[string]float64, error) {
		t, err := digitTests.get(e, func() (*digitTest, error) { return openDigitTest(ctx, e) })
		if err != nil {
			return nil, err
		}
		lr, err := t.rate(ctx, e, a)
		if err != nil {
			return nil, err
		}
		m, entries, err := t.tuned(ctx, e, a, lr, seed)
		if err != nil {
			return nil, err
		}
		right, loss := judgeDigits(m, t.test)
		return map[string]float64{digitAccuracy.Name: 100 * right, digitLoss.Name: loss, digitEntries.Name: float64(entries)}, nil
	})
}

// judgeDigits returns the share of images that are right, and their mean cross-entropy.
func judgeDigits(m *model.ResNet, images *data.Images) (right, loss float64) {
	scores, classes := train.Scores(m, images.Pixels, images.N, 250)
	for i, label := range images.Labels {
		row := scores[i*classes : (i+1)*classes]
		var sum float64
		for _, s := range row {
			sum += math.Exp(float64(s - row[label]))
		}
		loss += math.Log(sum) / float64(images.N)
	}
	return eval.Accuracy(scores, classes, images.Labels), loss
}

// rate returns the arm's learning rate, the one of the grid that with seed 0 ends lowest
// on images of the training set that no run learns from.
func (t *digitTest) rate(ctx context.Context, e Env, a tuneArm) (float64, error) {
	grid := digitRates
	if e.Quick {
		grid = grid[1:4]
	}
	return e.bestRate(ctx, a, "new digits", grid, func(lr float64) (float64, error) {
		m, _, err := t.tuned(ctx, e, a, lr, 0)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil {
			e.Logf("%s at learning rate %g: %v", a.name, lr, err)
			return math.Inf(1), nil
		}
		_, loss := judgeDigits(m, t.valid)
		return loss, nil
	})
}

// digitPart adds the arm's figures on the new digits.
func digitPart(a tuneArm) part { return figuresPart(a.measureDigits) }
