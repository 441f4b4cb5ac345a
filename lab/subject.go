package lab

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"sync"

	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/train"
	"tare/lab/diffusion"
	"tare/lab/vision"
	"tare/method/adapt"
	"tare/method/optim"
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

	mu    sync.Mutex
	rates map[string]float64
}

var (
	subjectOnce sync.Mutex
	subjectHeld = map[bool]*subjectTest{} // by Quick
)

// openSubjectTest trains the network and the judge, once for a program.
func openSubjectTest(ctx context.Context, e Env) (*subjectTest, error) {
	subjectOnce.Lock()
	defer subjectOnce.Unlock()
	if t := subjectHeld[e.Quick]; t != nil {
		return t, nil
	}
	training, err := data.MNIST(true)
	if err != nil {
		return nil, noDigits(err)
	}
	test, err := data.MNIST(false)
	if err != nil {
		return nil, noDigits(err)
	}
	t := &subjectTest{training: training, rates: map[string]float64{}}
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
	if err == nil {
		subjectHeld[e.Quick] = t
	}
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
	steps := e.Pick(2000, 40)
	err = drawingRun(ctx, e, m, old, nil, drawing{lr: 2e-3, steps: steps, batch: e.Pick(64, 16)}, "the base")
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

// drawing is how a run that learns to draw goes.
type drawing struct {
	lr           float64
	steps, batch int
	seed         uint64
}

// drawingRun trains what trains of m, and the method's hooks with it.
func drawingRun(ctx context.Context, e Env, m *model.DiT, images *data.Images, a *adapt.Adapter, d drawing, note string) error {
	pixels := make([]float32, len(images.Pixels))
	for i, v := range images.Pixels {
		pixels[i] = 2*v - 1
	}
	source, err := data.NewLabelled(pixels, images.Labels, d.batch, d.seed)
	if err != nil {
		return err
	}
	schedule, err := train.NewSchedule("cosine", d.steps/20, 0.05)
	if err != nil {
		return err
	}
	task := diffusion.NewTask(m, source, d.seed)
	loop := train.Loop{
		Task: task, Params: m.Params(), Optimizer: optim.NewAdamW(0, nil), Tape: grad.NewTape(nil),
		Options: train.Options{Steps: d.steps, LR: d.lr, Schedule: schedule, Clip: 1, Seed: d.seed},
	}
	if a != nil {
		loop.Hooks, err = a.Prepare(ctx, adapt.Setup{Model: m, Steps: d.steps, Seed: d.seed, Batches: func(n int) ([]train.Batch, error) {
			return peekBatches(task, n)
		}})
		if err != nil {
			return err
		}
		loop.Params = m.Params()
	}
	loop.Hooks = append(loop.Hooks, stepHook(func(l *train.Loop) { e.Step(l.Step, d.steps, fmt.Sprintf("%s, loss %.4f", note, l.Loss)) }))
	return loop.Run(ctx)
}

// peekBatches returns the next n batches and puts the position in the data back.
func peekBatches(task train.Task, n int) ([]train.Batch, error) {
	state, err := task.State()
	if err != nil {
		return nil, err
	}
	batches := make([]train.Batch, n)
	for i := range batches {
		if batches[i], err = task.Next(); err != nil {
			return nil, err
		}
	}
	return batches, task.Restore(state)
}

// stepHook is a hook that is told of steps.
type stepHook func(l *train.Loop)

// EndStep implements train.StepEnder.
func (h stepHook) EndStep(l *train.Loop) error { h(l); return nil }

// imagesOf returns the first n images whose labels are wanted.
func imagesOf(m *data.Images, n int, want func(label int32) bool) *data.Images {
	part := *m
	part.N, part.Pixels, part.Labels = 0, nil, nil
	width := len(m.Pixels) / m.N
	for i := 0; i < m.N && part.N < n; i++ {
		if want(m.Labels[i]) {
			part.Pixels = append(part.Pixels, m.Pixels[i*width:(i+1)*width]...)
			part.Labels = append(part.Labels, m.Labels[i])
			part.N++
		}
	}
	return &part
}

func lastImages(m *data.Images, n int) *data.Images {
	part := *m
	width := len(m.Pixels) / m.N
	part.Pixels, part.Labels, part.N = m.Pixels[(m.N-n)*width:], m.Labels[m.N-n:], n
	return &part
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
	width, few := len(nines.Pixels)/nines.N, data.Images{N: subjectImages, Rows: 28, Cols: 28}
	for _, i := range rand.New(rand.NewPCG(seed, 3)).Perm(nines.N)[:subjectImages] {
		few.Pixels = append(few.Pixels, nines.Pixels[i*width:(i+1)*width]...)
		few.Labels = append(few.Labels, subject)
	}
	d := drawing{lr: lr, steps: e.Pick(200, 10), batch: subjectImages, seed: seed}
	return m, drawingRun(ctx, e, m, &few, adapter, d, "drawing")
}

// measureSubject tunes and measures one arm with one seed.
func (a tuneArm) measureSubject(ctx context.Context, e Env, seed uint64) (map[string]float64, error) {
	work := fmt.Sprintf("subject test: %s, rank %d, seed %d, quick %v", a.method, a.rank, seed, e.Quick)
	return once(ctx, e.shelf, work, func() (map[string]float64, error) {
		t, err := openSubjectTest(ctx, e)
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
	taken := 0
	for i := range n {
		if best(scores[i*classes:(i+1)*classes]) == subject {
			taken++
		}
	}
	drawn, _ := t.features(nines)
	rest, _ := t.features(others)
	return map[string]float64{
		subjectDistance.Name: diffusion.Distance(drawn, t.nines, t.width),
		subjectDrift.Name:    diffusion.Distance(rest, t.others, t.width),
		subjectShare.Name:    float64(taken) / float64(n),
		subjectEntries.Name:  float64(train.Trainable(m.Params())),
	}, nil
}

func best(scores []float32) (at int) {
	for i, v := range scores {
		if v > scores[at] {
			at = i
		}
	}
	return at
}

// rate returns the arm's learning rate, the one of the grid whose drawings with seed 0
// come nearest to nines of the training set that no run learns from.
func (t *subjectTest) rate(ctx context.Context, e Env, a tuneArm) (float64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := fmt.Sprint(a.method, a.rank)
	if lr, ok := t.rates[key]; ok {
		return lr, nil
	}
	grid := subjectRates
	if e.Quick {
		grid = grid[1:3]
	}
	chosen, least := 0.0, math.Inf(1)
	for _, lr := range grid {
		m, err := t.tuned(ctx, e, a, lr, 0)
		if err != nil {
			return 0, err
		}
		drawn, err := t.draw(ctx, m, e.Pick(100, 10), func(int) int32 { return subject }, 0)
		if err != nil {
			return 0, err
		}
		rows, width := t.features(drawn)
		if d := diffusion.Distance(rows, t.valid, width); d < least {
			chosen, least = lr, d
		}
	}
	if chosen == 0 {
		return 0, fmt.Errorf("lab: %s: no learning rate of the grid %v gives drawings that can be compared: %w", a.method, grid, ErrNotFinite)
	}
	e.Logf("learning rate %g on drawing", chosen)
	t.rates[key] = chosen
	return chosen, nil
}

// subjectPart adds the arm's figures of the subject test.
func subjectPart(a tuneArm) part {
	return func(ctx context.Context, e Env, seed uint64, m *Measurement) error {
		figures, err := a.measureSubject(ctx, e, seed)
		maps.Copy(m.Extra, figures)
		return err
	}
}
