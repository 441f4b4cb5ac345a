package train

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
)

// herald writes down its calls and fails at one of them.
type herald struct {
	name string
	log  *[]string
	fail string
}

var errHerald = errors.New("the herald has had enough")

func (h herald) note(what string) error {
	*h.log = append(*h.log, h.name+" "+what)
	if what == h.fail {
		return errHerald
	}
	return nil
}
func (h herald) BeginStep(l *Loop) error { return h.note(fmt.Sprint("begin ", l.Step)) }
func (h herald) EndStep(l *Loop) error   { return h.note(fmt.Sprint("end ", l.Step)) }
func (h herald) Gradient(_ *Loop, p *grad.Param, _ *tensor.Tensor) error {
	return h.note("gradient " + p.Name)
}

func TestHooksAreCalledInOrder(t *testing.T) {
	var log []string
	q := newBowl()
	l := q.loop(Options{Steps: 2, LR: 0.1, Accumulate: 2}, herald{"a", &log, ""}, "no hook at all", herald{"b", &log, ""})
	if err := l.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var want []string
	for step := range 2 {
		for _, what := range []string{fmt.Sprint("begin ", step), "gradient w", "gradient v", fmt.Sprint("end ", step+1)} {
			want = append(want, "a "+what, "b "+what)
		}
	}
	if !slices.Equal(log, want) {
		t.Errorf("calls:\n%s\nwant:\n%s", strings.Join(log, "\n"), strings.Join(want, "\n"))
	}
}

func TestAHooksErrorStopsTheRun(t *testing.T) {
	for _, accumulate := range []int{1, 2} {
		for fail, steps := range map[string]int{"begin 3": 3, "gradient w": 0, "end 3": 3} {
			var log []string
			q := newBowl()
			l := q.loop(Options{Steps: 9, LR: 0.1, Accumulate: accumulate}, herald{"a", &log, fail}, herald{"b", &log, ""})
			err := l.Run(t.Context())
			if !errors.Is(err, errHerald) || l.Step != steps {
				t.Errorf("%s: %v after %d steps, want the hook's error after %d", fail, err, l.Step, steps)
			}
			if last := log[len(log)-1]; last != "a "+fail {
				t.Errorf("%s: %q was called last", fail, last)
			}
			if fail == "gradient w" && q.params[0].Value.F32()[0] != 1 {
				t.Errorf("%s: the parameter was updated all the same", fail)
			}
		}
	}
}

// pull is a Penalizer that adds ½ λ Σ w² of one parameter.
type pull struct {
	p      *grad.Param
	lambda float32
}

func (h pull) Penalty(_ *Loop, tp *grad.Tape) *grad.Value {
	w := tp.Use(h.p)
	return tp.Scale(tp.Sum(tp.Mul(w, w)), h.lambda/2)
}

// A penalty adds its gradient once a step, however many micro-batches there are, and
// nothing to the reported loss.
func TestPenalty(t *testing.T) {
	const lambda = 0.7
	for _, accumulate := range []int{1, 3} {
		q := newBowl()
		want := q.gradient()
		for k, w := range q.params[0].Value.F32() {
			want[k] += lambda * float64(w)
		}
		loss := 0.0
		for i, p := range q.params {
			for k, w := range p.Value.F32() {
				d := float64(w) - float64(q.b[i][k])
				loss += float64(q.a[i][k]) * d * d / 2
			}
		}
		seen := map[string][]float64{}
		watch := watcher(func(p *grad.Param, g *tensor.Tensor) {
			for _, v := range g.F32() {
				seen[p.Name] = append(seen[p.Name], float64(v))
			}
		})
		l := q.loop(Options{Steps: 1, LR: 0.1, Accumulate: accumulate}, pull{q.params[0], lambda}, watch)
		if err := l.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		checkNear(t, "gradient", append(seen["w"], seen["v"]...), want, 1e-6)
		if math.Abs(l.Loss-loss) > 1e-5 {
			t.Errorf("loss %g, want %g", l.Loss, loss)
		}
	}
}

type watcher func(*grad.Param, *tensor.Tensor)

func (f watcher) Gradient(_ *Loop, p *grad.Param, g *tensor.Tensor) error { f(p, g); return nil }
