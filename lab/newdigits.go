package lab

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/train"
	"tare/lab/tuning"
	"tare/method/adapt"
)

// The new-digits test: a small network that knows the digits 0 to 4 learns the other five
// from few images, all of its arms with the same scale and about as many trained entries.

// The figures on the new digits.
var (
	digitAccuracy = Figure{"accuracy on new digits", "%", Higher}
	digitLoss     = Figure{"loss on new digits", "nats", Lower}
	digitEntries  = Figure{"trained entries on images", "", Lower} // without the head
)

// digitRates is the grid of learning rates. It goes higher than the tune test's, at whose
// end adapters of convolutions have their best.
var digitRates = []float64{0.0015, 0.004, 0.01, 0.025, 0.06}

// digitNet is a network of images.
type digitNet interface {
	adapt.Model
	train.Classifier
}

// digitTest is the test on one kind of network.
type digitTest struct {
	name    string
	fresh   func() (digitNet, error)
	targets []string // the layers that are adapted
	head    string   // knows nothing of the new digits and trains whole in every arm
	steps   int      // of the base's training

	opened opened[*digitBase]
}

// residualDigits is the test on a residual network. Its adapted layers are all but the
// first convolution, whose one channel leaves nothing to decompose, and the head.
var residualDigits = &digitTest{
	name: "residual network", fresh: newDigitNet,
	targets: []string{`layer\d\..*(conv\d|downsample\.0)`}, head: "fc", steps: 200,
}

func newDigitNet() (digitNet, error) {
	return model.NewResNet(model.ResNetOptions{
		Images: model.Images{Height: 28, Width: 28, Channels: 1, Classes: 10}, Blocks: []int{1, 1, 1}, Widths: []int{16, 32, 64},
	}, 1)
}

// transformerDigits is the test on a vision transformer, whose blocks are adapted.
var transformerDigits = &digitTest{
	name: "vision transformer", fresh: newDigitTransformer,
	targets: []string{`.*encoder\.layer\..*`}, head: "classifier", steps: 800,
}

// newDigitTransformer has 16 patches of 7 × 7 pixels.
func newDigitTransformer() (digitNet, error) {
	c, err := model.ParseConfig([]byte(`{"model_type": "vit", "image_size": 28, "patch_size": 7, "num_channels": 1,
		"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 256, "num_labels": 10}`))
	if err != nil {
		return nil, err
	}
	m, err := model.NewClassifier(c, 1)
	return scoredImages{m}, err
}

// scoredImages is a classifier that scores rows of pixels.
type scoredImages struct{ model.Classifier }

// Logits implements train.Classifier.
func (m scoredImages) Logits(tp *grad.Tape, x *grad.Value) *grad.Value {
	return m.Classify(tp, model.Inputs{Pixels: x.Data})
}

// digitBase is a network that knows the digits 0 to 4, and images of 5 to 9.
type digitBase struct {
	net                digitNet
	learn, valid, test *data.Images
}

// base returns the network and the images, and trains it the first time.
func (t *digitTest) base(ctx context.Context, e Env) (*digitBase, error) {
	return t.opened.get(e, func() (*digitBase, error) {
		training, test, err := readDigits()
		if err != nil {
			return nil, err
		}
		known := func(l int32) bool { return l < 5 }
		others := func(l int32) bool { return l >= 5 }
		first := firstImages(training, 50_000)
		b := &digitBase{
			learn: imagesOf(first, first.N, others),
			valid: imagesOf(lastImages(training, 10_000), e.Pick(1000, 200), others),
			test:  imagesOf(test, e.Pick(test.N, 500), others),
		}
		if b.net, err = t.fresh(); err != nil {
			return nil, err
		}
		for _, p := range b.net.Params() {
			p.Part = grad.Whole
		}
		run := imageRun{lr: 3e-3, floor: digitFloor, steps: e.Pick(t.steps, 20), batch: e.Pick(100, 50), note: "the base"}
		return b, learnDigits(ctx, e, run, b.net, imagesOf(first, first.N, known), 2, nil)
	})
}

// digitFloor is the part of the learning rate that is left in the end.
const digitFloor = 0.01

// learnDigits trains what trains of m on images that are moved by up to shift pixels.
func learnDigits(ctx context.Context, e Env, run imageRun, m digitNet, images *data.Images, shift int, a *adapt.Adapter) error {
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
// chooses, and how many entries the arm trained beside the head.
func (t *digitTest) tuned(ctx context.Context, e Env, b *digitBase, a tuneArm, lr float64, seed uint64) (digitNet, int64, error) {
	m, err := t.fresh()
	if err != nil {
		return nil, 0, err
	}
	from := everything(b.net)
	for i, p := range everything(m) {
		copy(p.Value.F32(), from[i].Value.F32())
	}
	adapter, entries, err := t.attach(m, a, seed)
	if err != nil {
		return nil, 0, err
	}
	few := pickImages(b.learn, rand.New(rand.NewPCG(seed, 5)).Perm(b.learn.N)[:digitImages])
	run := imageRun{lr: lr, floor: digitFloor, steps: e.Pick(100, 8), batch: 50, seed: seed, note: "new digits"}
	return m, entries, learnDigits(ctx, e, run, m, few, 0, adapter)
}

// everything returns a network's parameters and then its buffers.
func everything(m digitNet) []*grad.Param {
	all := m.Params()
	if b, ok := m.(interface{ Buffers() []*grad.Param }); ok {
		all = append(all, b.Buffers()...)
	}
	return all
}

// attach lets the arm's part of m train, whose entries it counts, and the head.
func (t *digitTest) attach(m digitNet, a tuneArm, seed uint64) (*adapt.Adapter, int64, error) {
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
		if adapter, err = adapt.Attach(m, method, o, t.targets, seed); err != nil {
			return nil, 0, err
		}
	}
	at := slices.IndexFunc(m.Linears(), func(l *nn.Linear) bool { return l.Name == t.head })
	head := m.Linears()[at].Params()
	for _, p := range head {
		p.Part = grad.Whole
	}
	return adapter, train.Trainable(m.Params()) - train.Trainable(head), nil
}

// measure tunes and measures one arm with one seed.
func (t *digitTest) measure(ctx context.Context, e Env, a tuneArm, seed uint64) (map[string]float64, error) {
	work := fmt.Sprintf("new digits: %s, %s, rank %d, seed %d, quick %v", t.name, a.method, a.rank, seed, e.Quick)
	return once(ctx, e.shelf, work, func() (map[string]float64, error) {
		b, err := t.base(ctx, e)
		if err != nil {
			return nil, err
		}
		lr, err := t.rate(ctx, e, b, a)
		if err != nil {
			return nil, err
		}
		m, entries, err := t.tuned(ctx, e, b, a, lr, seed)
		if err != nil {
			return nil, err
		}
		right, loss := judgeDigits(m, b.test)
		return map[string]float64{digitAccuracy.Name: 100 * right, digitLoss.Name: loss, digitEntries.Name: float64(entries)}, nil
	})
}

// judgeDigits returns the share of images that are right, and their mean cross-entropy.
func judgeDigits(m digitNet, images *data.Images) (right, loss float64) {
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
func (t *digitTest) rate(ctx context.Context, e Env, b *digitBase, a tuneArm) (float64, error) {
	grid := digitRates
	if e.Quick {
		grid = grid[1:4]
	}
	return e.bestRate(ctx, a, "new digits, "+t.name, grid, func(lr float64) (float64, error) {
		m, _, err := t.tuned(ctx, e, b, a, lr, 0)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil {
			e.Logf("%s at learning rate %g: %v", a.name, lr, err)
			return math.Inf(1), nil
		}
		_, loss := judgeDigits(m, b.valid)
		return loss, nil
	})
}

// part adds the arm's figures on the new digits.
func (t *digitTest) part(a tuneArm) part {
	return figuresPart(func(ctx context.Context, e Env, seed uint64) (map[string]float64, error) {
		return t.measure(ctx, e, a, seed)
	})
}
