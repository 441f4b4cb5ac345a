package lab

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"tare/engine/checkpoint"
	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/text"
	"tare/lab/bundle"
	"tare/lab/tuning"
	"tare/method/adapt"
)

// The tune test, which the adaptation papers share: the bundled base is tuned on
// Newton's Opticks and, from the start again, on arithmetic word problems. Arms have
// about as many trained entries as LoRA at rank 8; an arm's learning rate is the best
// of one grid on the validation split with seed 0.

// learningRates is the grid, the same for every arm.
var learningRates = []float64{0.0005, 0.0015, 0.004, 0.01, 0.025}

// The further figures that the tune test measures.
var (
	earlyLoss   = Figure{"early loss", "nats", Lower} // mean training loss over the first third of the steps
	exactAnswer = Figure{"arithmetic exact", "", Higher}
	answerLoss  = Figure{"arithmetic loss", "nats", Lower}
	sourceLoss  = Figure{"source loss after", "nats", Lower}
)

// opticksLoss is the tune test's own figure.
var opticksLoss = Figure{"held-out loss on Opticks", "nats", Lower}

// tuneArm is one way to tune.
type tuneArm struct {
	name   string
	role   Role
	method string // its name, and settings of it: "eva rho=1"
	rank   int    // 0 for methods without one
}

// tuneTest is the bundled base and its data, opened once.
type tuneTest struct {
	folder *checkpoint.Folder
	tok    *text.Tokenizer
	source []*data.Batch

	mu    sync.Mutex
	tuned map[string][]tunedMatrix
}

var openTuneTest = sync.OnceValues(func() (*tuneTest, error) {
	path, err := bundle.Folder()
	if err != nil {
		return nil, err
	}
	t := &tuneTest{}
	if t.folder, err = checkpoint.OpenFolder(path); err != nil {
		return nil, err
	}
	raw, err := t.folder.Read("tokenizer.json")
	if err != nil {
		return nil, err
	}
	if t.tok, err = text.Parse(raw); err != nil {
		return nil, err
	}
	const bytes = 60_000 // of the source domain are enough to see forgetting
	t.source, err = data.WindowBatches(t.tok.EncodeOrdinary(bundle.Source(bundle.Test)[:bytes]), opticksSeq, 16)
	return t, err
})

const (
	opticksSeq, opticksBatch = 128, 8
	mathSeq, mathBatch       = 64, 16
	mathQuestions            = 200
)

// lengths are the steps of a run, to be judged and to choose a learning rate, and the
// bytes of held-out text and batches of the source domain that it is judged on, 0 for all.
type lengths struct{ opticks, opticksChoice, math, mathChoice, heldOut, source int }

func (e Env) lengths() lengths {
	if e.Quick {
		return lengths{opticks: 24, opticksChoice: 8, heldOut: 30_000, source: 3}
	}
	n := lengths{opticks: 100, opticksChoice: 100, math: 100, mathChoice: 60}
	if e.textOnly {
		n.math = 0
	}
	return n
}

// run tunes and measures one arm with one seed, once for all experiments that have it.
func (a tuneArm) run(ctx context.Context, e Env, seed uint64) (Measurement, error) {
	work := fmt.Sprintf("tune test: %s, rank %d, seed %d, %+v", a.method, a.rank, seed, e.lengths())
	return once(ctx, e.shelf, work, func() (Measurement, error) { return a.measure(ctx, e, seed) })
}

func (a tuneArm) measure(ctx context.Context, e Env, seed uint64) (Measurement, error) {
	t, err := openTuneTest()
	if err != nil {
		return Measurement{}, err
	}
	n := e.lengths()
	lr, err := t.rate(ctx, e, a, "opticks", n.opticksChoice)
	if err != nil {
		return Measurement{}, err
	}
	run, err := t.opticks(a, lr, n.opticks, n.held(bundle.Test), seed)
	if err != nil {
		return Measurement{}, err
	}
	norms := &gradientNorms{}
	run.Loop.Hooks = append(run.Loop.Hooks, norms)
	if err := runToEnd(ctx, e, run); err != nil {
		return Measurement{}, err
	}
	source := t.source
	if n.source > 0 {
		source = source[:n.source]
	}
	forgot, err := eval.Loss(ctx, run.Model, source, 0, nil)
	if err != nil {
		return Measurement{}, err
	}
	peak := run.Ledger.Peak()
	m := Measurement{
		Value: run.Final().Loss, Trainable: run.Trainable, Seconds: run.Seconds,
		Peak: map[string]int64{Weights: peak.Weights, Gradients: peak.Gradients, Optimizer: peak.Optimizer, Activations: peak.Activations, Scratch: peak.Scratch},
		Extra: map[string]float64{
			earlyLoss.Name: Mean(run.Curve[:max(1, len(run.Curve)/3)]), sourceLoss.Name: forgot.Loss, gradientSpread.Name: norms.spread(), "learning rate": lr,
		},
	}
	if run.Adapter != nil {
		if f, ok := run.Adapter.Options.(adapt.Figured); ok {
			maps.Copy(m.Extra, f.Figures(run.Adapter))
		}
	}
	if err := serving(ctx, t, run, m.Extra); err != nil {
		return m, err
	}
	for i, v := range run.Curve {
		m.Curve = append(m.Curve, Point{i + 1, v})
	}
	if n.math > 0 {
		err = t.arithmetic(ctx, e, a, n, seed, m.Extra)
	}
	return m, err
}

// recipe is an arm's recipe.
func (a tuneArm) recipe(lr float64, steps, batch, seqLen int) tuning.Recipe {
	r := tuning.Default()
	words := strings.Fields(a.method)
	r.Method, r.LR, r.Steps, r.Batch, r.SeqLen = words[0], lr, steps, batch, seqLen
	options := map[string]string{}
	if a.rank > 0 {
		options["rank"] = strconv.Itoa(a.rank)
	}
	for _, setting := range words[1:] {
		key, value, _ := strings.Cut(setting, "=")
		options[key] = value
	}
	if len(options) > 0 {
		r.Options = options
	}
	return r
}

// held returns the held-out text of a split.
func (n lengths) held(split bundle.Split) string {
	s := bundle.Opticks(split)
	if n.heldOut > 0 {
		return s[:n.heldOut]
	}
	return s
}

// opticks sets a run on Opticks up, to be measured on held-out text.
func (t *tuneTest) opticks(a tuneArm, lr float64, steps int, heldOut string, seed uint64) (*tuning.Run, error) {
	r := a.recipe(lr, steps, opticksBatch, opticksSeq)
	d, err := tuning.TextData(t.tok, bundle.Opticks(bundle.Train), heldOut, r, seed)
	if err != nil {
		return nil, err
	}
	return tuning.New(r, t.folder, d, seed)
}

// problems are the word problems: to learn from, to choose by and to judge by.
func problems() (learn, valid, test []bundle.Problem) {
	return bundle.ArithmeticSplits(8000, mathQuestions, mathQuestions)
}

// math sets a run on word problems up, to be measured on those given.
func (t *tuneTest) math(a tuneArm, lr float64, steps int, measured []bundle.Problem, seed uint64) (*tuning.Run, error) {
	r := a.recipe(lr, steps, mathBatch, mathSeq)
	learn, _, _ := problems()
	d, err := tuning.RecordData(t.tok, bundle.Records(learn), bundle.Records(measured), r, -1, seed)
	if err != nil {
		return nil, err
	}
	return tuning.New(r, t.folder, d, seed)
}

// arithmetic tunes the arm on word problems and adds its figures to extra.
func (t *tuneTest) arithmetic(ctx context.Context, e Env, a tuneArm, n lengths, seed uint64, extra map[string]float64) error {
	lr, err := t.rate(ctx, e, a, "arithmetic", n.mathChoice)
	if err != nil {
		return err
	}
	_, _, test := problems()
	run, err := t.math(a, lr, n.math, test, seed)
	if err != nil {
		return err
	}
	if err := runToEnd(ctx, e, run); err != nil {
		return err
	}
	questions := make([]eval.Question, len(test))
	for i, p := range test {
		questions[i] = eval.Question{Prompt: p.Prompt(), Answer: p.Completion()}
	}
	right, err := eval.ExactMatch(ctx, run.Model, t.tok, questions, nil)
	extra[exactAnswer.Name], extra[answerLoss.Name] = right, run.Final().Loss
	return err
}

// runToEnd trains, reporting progress.
func runToEnd(ctx context.Context, e Env, run *tuning.Run) error {
	return run.Train(ctx, tuning.Watch{Step: func(r *tuning.Run) {
		e.Step(r.Loop.Step, r.Recipe.Steps, fmt.Sprintf("loss %.3f", r.Loop.Loss))
	}})
}

// rate returns the arm's learning rate for a domain, by the validation split.
func (t *tuneTest) rate(ctx context.Context, e Env, a tuneArm, domain string, steps int) (float64, error) {
	grid := learningRates
	if e.Quick {
		grid = grid[2:4]
	}
	return e.bestRate(ctx, a, domain, grid, func(lr float64) (float64, error) { return t.trial(ctx, e, a, domain, lr, steps) })
}

// bestRate returns the learning rate of the grid with which the arm has the least loss in
// a domain, trying it the first time; an infinite loss is that of a run that diverged.
func (e Env) bestRate(ctx context.Context, a tuneArm, domain string, grid []float64, loss func(lr float64) (float64, error)) (float64, error) {
	work := fmt.Sprintf("learning rate: %s, rank %d, %s, of %v, quick %v", a.method, a.rank, domain, grid, e.Quick)
	return once(ctx, e.shelf, work, func() (float64, error) {
		best, least := 0.0, math.Inf(1)
		for _, lr := range grid {
			v, err := loss(lr)
			if err != nil {
				return 0, err
			}
			if v < least {
				best, least = lr, v
			}
		}
		if best == 0 {
			return 0, fmt.Errorf("lab: %s: no learning rate of the grid %v gives a loss on %s: %w", a.name, grid, domain, ErrNotFinite)
		}
		e.Logf("learning rate %g on %s", best, domain)
		return best, nil
	})
}

// trial is one run of the choice of a learning rate; a run that diverges loses.
func (t *tuneTest) trial(ctx context.Context, e Env, a tuneArm, domain string, lr float64, steps int) (float64, error) {
	var run *tuning.Run
	var err error
	if domain == "opticks" {
		run, err = t.opticks(a, lr, steps, e.lengths().held(bundle.Valid), 0)
	} else {
		_, valid, _ := problems()
		run, err = t.math(a, lr, steps, valid, 0)
	}
	if err != nil {
		return 0, err
	}
	if err := runToEnd(ctx, e, run); err != nil {
		if ctx.Err() != nil {
			return 0, err
		}
		e.Logf("%s at learning rate %g: %v", a.name, lr, err)
		return math.Inf(1), nil
	}
	return run.Final().Loss, nil
}

// matchedRank returns the rank at which a method with r·Σ perRank trained entries
// comes nearest to LoRA at rank 8 on the bundled base's shapes.
func matchedRank(perRank func(out, in int) int) int {
	const loraRank = 8
	lora, each := 0, 0
	for _, s := range bundledShapes {
		lora += loraRank * (s[0] + s[1])
		each += perRank(s[0], s[1])
	}
	return int(math.Round(float64(lora) / float64(each)))
}

// bundledShapes are the matrices [out, in] of a block of the bundled base; a test
// holds them against the checkpoint.
var bundledShapes = [][2]int{{192, 192}, {96, 192}, {96, 192}, {192, 192}, {512, 192}, {512, 192}, {192, 512}}

// onlyOut counts r·out entries, as methods that train columns or blocks do.
func onlyOut(out, _ int) int { return out }

// arms makes the tune test's arms of an experiment.
func arms(list ...tuneArm) []Arm {
	out := make([]Arm, len(list))
	for i, a := range list {
		out[i] = Arm{Name: a.name, Role: a.role, Run: a.run}
	}
	return slices.Clip(out)
}

// textArms makes arms that are tuned on text alone: variants of a method, and baselines
// that the word problems, where arms hardly differ, would tell nothing more of.
func textArms(list ...tuneArm) []Arm {
	out := arms(list...)
	for i := range out {
		out[i] = textOnly(out[i])
	}
	return out
}

func textOnly(a Arm) Arm {
	run := a.Run
	a.Run = func(ctx context.Context, e Env, seed uint64) (Measurement, error) {
		e.textOnly = true
		return run(ctx, e, seed)
	}
	return a
}
