package lab

import (
	"context"
	"fmt"
	"math/rand/v2"

	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/train"
	"tare/lab/diffusion"
	"tare/lab/vision"
	"tare/method/adapt"
)

// The subject test: a network that has learnt to draw the digits 0 to 8 is shown a few
// nines and learns to draw these, all of it but the method's part frozen. Its class
// embedding for nine has never been trained, as the rare word of a subject in
// text-to-image tuning. Drawings are compared with the test set's nines by the features
// of a classifier.

// The figures that the subject test measures.
var (
	subjectDistance = Figure{"distance of drawings", "", Lower}         // from held-out nines, squared MMD
	subjectDrift    = Figure{"distance of the other digits", "", Lower} // from theirs, after tuning
	subjectShare    = Figure{"drawings taken for a nine", "", Higher}   // by the classifier
	subjectEntries  = Figure{"trained entries in drawing", "", Lower}
)

const (
	subject       = 9
	subjectImages = 20
	drawSteps     = 25
)

// subjectTargets are the layers that are adapted, by the ends of their names.
var subjectTargets = []string{"attn.q", "attn.k", "attn.v", "attn.proj", "mlp.fc1", "mlp.fc2"}

// subjectRates is the grid of learning rates.
var subjectRates = []float64{0.0003, 0.001, 0.003, 0.01, 0.03}

// subjectTest is the trained network and what drawings are compared with.
type subjectTest struct {
	base     *model.DiT
	judge    *model.CNN
	training *data.Images
	// Features of held-out images, rows of width numbers.
	nines, valid, others []float32
	width                int
}

var subjectTests opened[*subjectTest]

// openSubjectTest trains the network and the judge.
func openSubjectTest(ctx context.Context, e Env) (*subjectTest, error) {
	training, test, err := readDigits()
	if err != nil {
		return nil, err
	}
	t := &subjectTest{training: training}
	judged := training
	if e.Quick {
		judged = firstImages(training, 3000)
	}
	if t.judge, _, err = vision.CNN(ctx, judged, firstImages(test, e.Pick(test.N, 500)), 0, nil); err != nil {
		return nil, err
	}
	t.nines, t.width = t.features(imagesOf(test, e.Pick(500, 50), func(l int32) bool { return l == subject }))
	t.others, _ = t.features(imagesOf(test, e.Pick(500, 50), func(l int32) bool { return l != subject }))
	t.valid, _ = t.features(imagesOf(lastImages(training, 10_000), e.Pick(500, 50), func(l int32) bool { return l == subject }))
	t.base, err = t.learn(ctx, e)
	return t, err
}

// learn trains the network on the digits but nine.
func (t *subjectTest) learn(ctx context.Context, e Env) (*model.DiT, error) {
	m, err := newDiT()
	if err != nil {
		return nil, err
	}
	for _, p := range m.Params() {
		p.Part = grad.Whole
	}
	old := imagesOf(t.training, t.training.N, func(l int32) bool { return l != subject })
	run := imageRun{lr: 2e-3, floor: drawingFloor, steps: e.Pick(2000, 40), batch: e.Pick(64, 16), note: "the base"}
	err = learnToDraw(ctx, e, run, m, old, nil)
	for _, p := range m.Params() {
		p.Part = grad.Part{}
	}
	return m, err
}

func newDiT() (*model.DiT, error) {
	return model.NewDiT(model.DiTOptions{
		Images: model.Images{Height: 28, Width: 28, Channels: 1, Classes: 10}, Patch: 4, Hidden: 128, Layers: 4, Heads: 4,
	}, 1)
}

// drawingFloor is the part of the learning rate that is left in the end.
const drawingFloor = 0.05

// learnToDraw trains what trains of m.
func learnToDraw(ctx context.Context, e Env, run imageRun, m *model.DiT, images *data.Images, a *adapt.Adapter) error {
	pixels := make([]float32, len(images.Pixels))
	for i, v := range images.Pixels {
		pixels[i] = 2*v - 1
	}
	source, err := data.NewLabelled(pixels, images.Labels, run.batch, run.seed)
	if err != nil {
		return err
	}
	return run.train(ctx, e, m, diffusion.NewTask(m, source, run.seed), a)
}

// features returns what the judge sees of images of 0 to 1.
func (t *subjectTest) features(m *data.Images) (rows []float32, width int) {
	tp := grad.NewTape(nil)
	pixels := len(m.Pixels) / m.N
	for lo := 0; lo < m.N; lo += 100 {
		hi := min(lo+100, m.N)
		tp.NoGrad(func() {
			f := t.judge.Features(tp, tp.Const(m.Pixels[lo*pixels:hi*pixels], hi-lo, pixels))
			rows, width = append(rows, f.Data...), f.Cols
		})
		tp.Reset()
	}
	return rows, width
}

// draw returns n drawings of the classes, as images of 0 to 1.
func (t *subjectTest) draw(ctx context.Context, m *model.DiT, n int, class func(i int) int32, seed uint64) (*data.Images, error) {
	out := &data.Images{N: n, Rows: 28, Cols: 28, Labels: make([]int32, n)}
	for i := range out.Labels {
		out.Labels[i] = class(i)
	}
	for lo := 0; lo < n; lo += 50 {
		pixels, err := diffusion.Draw(ctx, m, out.Labels[lo:min(lo+50, n)], drawSteps, seed+uint64(lo)<<32)
		if err != nil {
			return nil, err
		}
		out.Pixels = append(out.Pixels, pixels...)
	}
	for i, v := range out.Pixels {
		out.Pixels[i] = min(1, max(0, (v+1)/2))
	}
	return out, nil
}

// tuned returns the network after a method has learnt the subject from twenty images
// that seed chooses of the first 50,000.
func (t *subjectTest) tuned(ctx context.Context, e Env, a tuneArm, lr float64, seed uint64) (*model.DiT, error) {
	m, err := newDiT()
	if err != nil {
		return nil, err
	}
	for i, p := range m.Params() {
		copy(p.Value.F32(), t.base.Params()[i].Value.F32())
	}
	method, o, err := a.options()
	if err != nil {
		return nil, err
	}
	adapter, err := adapt.Attach(m, method, o, subjectTargets, seed)
	if err != nil {
		return nil, err
	}
	nines := imagesOf(firstImages(t.training, 50_000), t.training.N, func(l int32) bool { return l == subject })
	few := pickImages(nines, rand.New(rand.NewPCG(seed, 3)).Perm(nines.N)[:subjectImages])
	run := imageRun{lr: lr, floor: drawingFloor, steps: e.Pick(200, 10), batch: subjectImages, seed: seed, note: "drawing"}
	return m, learnToDraw(ctx, e, run, m, few, adapter)
}

// measureSubject tunes and measures one arm with one seed.
func (a tuneArm) measureSubject(ctx context.Context, e Env, seed uint64) (map[string]float64, error) {
	work := fmt.Sprintf("subject test: %s, rank %d, seed %d, quick %v", a.method, a.rank, seed, e.Quick)
	return once(ctx, e.shelf, work, func() (map[string]float64, error) {
		t, err := subjectTests.get(e, func() (*subjectTest, error) { return openSubjectTest(ctx, e) })
		if err != nil {
			return nil, err
		}
		lr, err := t.rate(ctx, e, a)
		if err != nil {
			return nil, err
		}
		m, err := t.tuned(ctx, e, a, lr, seed)
		if err != nil {
			return nil, err
		}
		return t.judgeDrawings(ctx, e, m, seed)
	})
}

func (t *subjectTest) judgeDrawings(ctx context.Context, e Env, m *model.DiT, seed uint64) (map[string]float64, error) {
	n := e.Pick(200, 20)
	nines, err := t.draw(ctx, m, n, func(int) int32 { return subject }, seed)
	if err != nil {
		return nil, err
	}
	others, err := t.draw(ctx, m, n, func(i int) int32 { return int32(i % subject) }, seed)
	if err != nil {
		return nil, err
	}
	scores, classes := train.Scores(t.judge, nines.Pixels, n, 100)
	drawn, _ := t.features(nines)
	rest, _ := t.features(others)
	return map[string]float64{
		subjectDistance.Name: diffusion.Distance(drawn, t.nines, t.width),
		subjectDrift.Name:    diffusion.Distance(rest, t.others, t.width),
		subjectShare.Name:    eval.Accuracy(scores, classes, nines.Labels),
		subjectEntries.Name:  float64(train.Trainable(m.Params())),
	}, nil
}

// rate returns the arm's learning rate, the one of the grid whose drawings with seed 0
// come nearest to nines of the training set that no run learns from.
func (t *subjectTest) rate(ctx context.Context, e Env, a tuneArm) (float64, error) {
	grid := subjectRates
	if e.Quick {
		grid = grid[1:3]
	}
	return e.bestRate(ctx, a, "drawing", grid, func(lr float64) (float64, error) {
		m, err := t.tuned(ctx, e, a, lr, 0)
		if err != nil {
			return 0, err
		}
		drawn, err := t.draw(ctx, m, e.Pick(100, 10), func(int) int32 { return subject }, 0)
		if err != nil {
			return 0, err
		}
		rows, width := t.features(drawn)
		return diffusion.Distance(rows, t.valid, width), nil
	})
}

// subjectPart adds the arm's figures of the subject test.
func subjectPart(a tuneArm) part { return figuresPart(a.measureSubject) }
