package lab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"tare/lab/passages"
	"tare/method/optimize"
)

// boRep is the experiment of BO-REP (Hao, Gong and Liu 2024): after as many oracle calls,
// gradients and second-order products of a sample counted alike, it shall sort passages of
// text by their source more accurately than StocBiO, MA-SOBA and TTSA. There are three
// problems: the upper level learns a recurrent network and the lower its linear head; the
// upper weighs passages, three tenths of them labelled wrongly, that the lower fits the whole
// network to; the upper chooses each word's ridge for a linear classifier of counts. BO-REP's
// refinement counts. What the methods have besides their steps is as in the authors'
// experiments.
//
// Step lengths are the best of one grid on the validation texts with seed 0, for each method
// and problem; the step of z, or of the series, is that of y. Steps with which the iterates
// leave the finite numbers are not chosen; where they do so with a later seed, the run counts
// with what is left of its classifier.
func boRep() Experiment {
	const method = "bo-rep"
	var arms []Arm
	var rule []Rule
	for _, a := range bilevelArms() {
		arms = append(arms, Arm{a.name, a.role, a.run})
		if a.role == Baseline {
			rule = append(rule, Beats(method, a.name), BeatsIn(OfExtra(cleaningAccuracy), method, a.name), BeatsIn(OfExtra(ridgeAccuracy), method, a.name))
		}
	}
	return Experiment{
		Slug:   "bo-rep",
		Claim:  "Normalised momentum above, and a lower variable refined once and updated now and then, sort text more accurately after as many oracle calls.",
		Figure: Figure{"accuracy on a learnt representation", "", Higher},
		Arms:   arms,
		Seeds:  5, QuickSeeds: 2,
		Rule: All(rule...),
	}
}

// Further figures of bilevel problems.
var (
	cleaningAccuracy = Figure{"accuracy after cleaning", "", Higher}
	ridgeAccuracy    = Figure{"accuracy with chosen ridges", "", Higher}
)

// bilevelSteps are the step lengths of x and of y.
type bilevelSteps struct{ X, Y float64 }

// bilevelSolver is any of the methods.
type bilevelSolver interface {
	Minimize(ctx context.Context, p optimize.Bilevel, x, y []float64) (*optimize.BilevelResult, error)
}

// bilevelArm is one method.
type bilevelArm struct {
	name   string
	role   Role
	method func(s bilevelSteps, limits optimize.BilevelLimits) bilevelSolver
}

func bilevelArms() []bilevelArm {
	return []bilevelArm{
		{"bo-rep", Method, func(s bilevelSteps, limits optimize.BilevelLimits) bilevelSolver {
			o := optimize.NewBOREP()
			o.Eta, o.Gamma, o.Nu, o.BilevelLimits = s.X, s.Y, s.Y, limits
			return o
		}},
		{"stocbio", Baseline, func(s bilevelSteps, limits optimize.BilevelLimits) bilevelSolver {
			o := optimize.NewStocBiO()
			o.Eta, o.Gamma, o.Nu, o.BilevelLimits = s.X, s.Y, s.Y, limits
			return o
		}},
		{"ma-soba", Baseline, func(s bilevelSteps, limits optimize.BilevelLimits) bilevelSolver {
			o := optimize.NewMASOBA()
			o.Eta, o.Gamma, o.Nu, o.BilevelLimits = s.X, s.Y, s.Y, limits
			return o
		}},
		{"ttsa", Baseline, func(s bilevelSteps, limits optimize.BilevelLimits) bilevelSolver {
			o := optimize.NewTTSA()
			o.Eta, o.Gamma, o.Nu, o.BilevelLimits = s.X, s.Y, s.Y, limits
			return o
		}},
	}
}

// bilevelTask is one problem, drawn for a seed.
type bilevelTask struct {
	name string
	open func(c *passages.Corpus, seed uint64) (*passages.Problem, error)
}

func bilevelTasks() []bilevelTask {
	return []bilevelTask{
		{"representation", passages.Representation},
		{"cleaning", func(c *passages.Corpus, seed uint64) (*passages.Problem, error) {
			return passages.Cleaning(c, 0.3, seed)
		}},
		{"ridges", func(c *passages.Corpus, _ uint64) (*passages.Problem, error) { return passages.Regularisation(c) }},
	}
}

// drawPassages returns the passages of a seed.
func drawPassages(e Env, seed uint64) (*passages.Corpus, error) {
	return passages.Draw(passages.Sizes{Lower: e.Pick(500, 250), Upper: e.Pick(500, 250), Valid: 125, Test: e.Pick(400, 125)}, seed)
}

func (a bilevelArm) run(ctx context.Context, e Env, seed uint64) (Measurement, error) {
	m := Measurement{Extra: map[string]float64{}}
	c, err := drawPassages(e, seed)
	if err != nil {
		return m, err
	}
	tasks := bilevelTasks()
	for i, task := range tasks {
		e.Step(i, len(tasks), task.name)
		steps, err := a.steps(ctx, e, task)
		if err != nil {
			return m, err
		}
		p, err := task.open(c, seed)
		if err != nil {
			return m, err
		}
		curve, seconds, err := a.follow(ctx, e, p, &c.Test, steps, seed)
		if err := unlessDiverged(e, task, steps, err); err != nil {
			return m, err
		}
		accuracy := curve[len(curve)-1].Value
		switch task.name {
		case "representation":
			m.Value, m.Curve = accuracy, curve
		case "cleaning":
			m.Extra[cleaningAccuracy.Name] = accuracy
		default:
			m.Extra[ridgeAccuracy.Name] = accuracy
		}
		m.Extra["time of "+task.name] = seconds
		m.Seconds += seconds
	}
	return m, nil
}

// unlessDiverged is nil, and logs it, where a method stopped because its iterates are no longer
// finite.
func unlessDiverged(e Env, task bilevelTask, steps bilevelSteps, err error) error {
	var stopped *optimize.StoppedError
	if err != nil && !errors.As(err, &stopped) {
		return fmt.Errorf("%s with steps %g and %g: %w", task.name, steps.X, steps.Y, err)
	}
	if err != nil {
		e.Logf("%s with steps %g and %g: %v", task.name, steps.X, steps.Y, err)
	}
	return nil
}

// follow runs the method until its calls are spent and returns the accuracy on a set as they
// go, and the seconds that the method took; beside a [optimize.StoppedError] too.
func (a bilevelArm) follow(ctx context.Context, e Env, p *passages.Problem, s *passages.Set, steps bilevelSteps, seed uint64) (curve []Point, seconds float64, err error) {
	const points = 8
	budget := e.Pick(1200, 150)
	x, y := p.Values()
	curve = []Point{{0, p.Accuracy(s, x, y)}}
	begun, watching := time.Now(), time.Duration(0)
	limits := optimize.BilevelLimits{MaxIter: budget, Budget: budget, Seed: seed}
	limits.Watch = func(step optimize.BilevelStep) {
		calls := step.Oracles.Calls()
		if calls < budget && calls < len(curve)*budget/points {
			return
		}
		before := time.Now()
		curve = append(curve, Point{calls, p.Accuracy(s, step.X, step.Y)})
		watching += time.Since(before)
	}
	r, err := a.method(steps, limits).Minimize(ctx, p, x, y)
	seconds = (time.Since(begun) - watching).Seconds()
	if err != nil && r != nil {
		curve = append(curve, Point{budget, p.Accuracy(s, r.X, r.Y)})
	}
	return curve, seconds, err
}

// steps returns the method's step lengths for a problem.
func (a bilevelArm) steps(ctx context.Context, e Env, task bilevelTask) (bilevelSteps, error) {
	upper, lower := []float64{0.01, 0.1, 1, 10}, []float64{0.1, 1}
	if e.Quick {
		upper, lower = upper[1:3], lower[:1]
	}
	work := fmt.Sprintf("bilevel steps: %s, %s, of %v and %v, quick %v", a.name, task.name, upper, lower, e.Quick)
	return once(ctx, e.shelf, work, func() (best bilevelSteps, err error) {
		c, err := drawPassages(e, 0)
		if err != nil {
			return best, err
		}
		most := math.Inf(-1)
		for _, eta := range upper {
			for _, gamma := range lower {
				p, err := task.open(c, 0)
				if err != nil {
					return best, err
				}
				steps := bilevelSteps{eta, gamma}
				curve, _, stopped := a.follow(ctx, e, p, &c.Valid, steps, 0)
				if err := unlessDiverged(e, task, steps, stopped); err != nil {
					return best, err
				}
				if v := curve[len(curve)-1].Value; stopped == nil && v > most {
					best, most = steps, v
				}
			}
		}
		if math.IsInf(most, -1) {
			return best, fmt.Errorf("%s: no steps of %v and %v stay finite: %w", task.name, upper, lower, ErrNotFinite)
		}
		e.Logf("steps %g and %g for %s, %.3f on the validation texts", best.X, best.Y, task.name, most)
		return best, nil
	})
}
