package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// memory is a Store that keeps one run.
type memory struct {
	cells    []Cell
	finished *Record
}

func (m *memory) Begin(_ context.Context, _ Key, resume bool) (int64, time.Time, []Cell, error) {
	if !resume {
		m.cells = nil
	}
	return 1, time.Unix(0, 0), m.cells, nil
}
func (m *memory) SaveCell(ctx context.Context, _ int64, c Cell) error {
	m.cells = append(m.cells, c)
	return ctx.Err()
}
func (m *memory) Finish(_ context.Context, _ int64, r *Record) error { m.finished = r; return nil }

// twoArms measures seed (method) against 10·seed (baseline) and logs the order.
func twoArms(order *[]string, hook func(arm string, seed uint64) error) Experiment {
	run := func(name string, scale float64) func(context.Context, Env, uint64) (Measurement, error) {
		return func(_ context.Context, e Env, seed uint64) (Measurement, error) {
			*order = append(*order, fmt.Sprint(name, seed))
			e.Step(1, 2, "half")
			e.Logf("seed is %d", seed)
			if hook != nil {
				if err := hook(name, seed); err != nil {
					return Measurement{}, err
				}
			}
			return Measurement{Value: scale * float64(seed), Trainable: 7, Seconds: 2,
				Peak:  map[string]int64{Weights: 100, Activations: int64(seed)},
				Curve: []Point{{0, 1}, {5, scale}}, Extra: map[string]float64{"rank": scale}}, nil
		}
	}
	return Experiment{
		Slug: "toy", Claim: "smaller", Figure: Figure{"loss", "nats", Lower}, Seeds: 3, QuickSeeds: 2,
		Arms: []Arm{{"net", Method, run("net", 1)}, {"plain", Baseline, run("plain", 10)}},
		Rule: Beats("net", "plain"),
	}
}

func TestRunInterleavesAndFolds(t *testing.T) {
	var order, lines []string
	var last Event
	r, err := Run(t.Context(), twoArms(&order, nil), Options{
		Progress: func(e Event) { last = e }, Log: func(s string) { lines = append(lines, s) }})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"net1", "plain1", "net2", "plain2", "net3", "plain3"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if last.Cell != 6 || last.Cells != 6 || last.Step != 1 || last.Steps != 2 || last.Note != "half" {
		t.Errorf("last event %+v", last)
	}
	if len(lines) != 6 || lines[1] != "plain seed 1: seed is 1" {
		t.Errorf("log %q", lines)
	}
	net, _ := r.Arm("net")
	// Seeds 1 2 3: mean 2, s = 1, standard error 1/√3; peak is the largest.
	if net.Mean != 2 || math.Abs(net.StdErr-1/math.Sqrt(3)) > 1e-15 || !slices.Equal(net.Values, []float64{1, 2, 3}) ||
		net.Trainable != 7 || net.Seconds != 2 || net.Peak.Activations != 3 || net.Peak.Total() != 103 ||
		net.Extra["rank"].Mean != 1 || len(net.Curves) != 3 {
		t.Errorf("arm %+v", net)
	}
	if r.Verdict != Supported || len(r.Findings) != 1 || r.Findings[0].Gain != 18 {
		t.Errorf("verdict %q, findings %+v", r.Verdict, r.Findings)
	}
	if _, err := r.Arm("mesh"); err == nil || !strings.Contains(err.Error(), "net and plain") {
		t.Errorf("unknown arm: %v", err)
	}
}

func TestRecordHasTheAgreedKeys(t *testing.T) {
	var order []string
	r, err := Run(t.Context(), twoArms(&order, nil), Options{Quick: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(order) != 4 || !r.Quick {
		t.Errorf("a quick run of 2 seeds made the cells %v", order)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var top map[string]json.RawMessage
	var arms []map[string]json.RawMessage
	var peak, figure map[string]json.RawMessage
	for _, e := range []error{json.Unmarshal(raw, &top), json.Unmarshal(top["arms"], &arms),
		json.Unmarshal(arms[0]["peak_bytes"], &peak), json.Unmarshal(top["figure"], &figure)} {
		if e != nil {
			t.Fatal(e)
		}
	}
	has := func(what string, m map[string]json.RawMessage, keys ...string) {
		for _, k := range keys {
			if _, ok := m[k]; !ok {
				t.Errorf("%s has no %q in %s", what, k, raw)
			}
		}
	}
	has("the record", top, "slug", "claim", "figure", "arms", "verdict", "rule", "commit")
	has("an arm", arms[0], "name", "role", "mean", "stderr", "values", "trainable", "peak_bytes", "seconds")
	has("the peaks", peak, "weights", "gradients", "optimizer", "activations", "scratch")
	has("the figure", figure, "name", "unit", "better")
}

func TestInterruptedRunGoesOn(t *testing.T) {
	var whole, first, second []string
	want, err := Run(t.Context(), twoArms(&whole, nil), Options{})
	if err != nil {
		t.Fatal(err)
	}
	store := &memory{}
	ctx, cancel := context.WithCancel(t.Context())
	x := twoArms(&first, func(arm string, seed uint64) error {
		if arm == "net" && seed == 2 {
			cancel() // Ctrl-C in the middle of the third cell
			return ctx.Err()
		}
		return nil
	})
	_, err = Run(ctx, x, Options{Store: store})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "2 of 6") {
		t.Fatalf("interrupted run: %v", err)
	}
	if len(store.cells) != 2 || store.finished != nil {
		t.Fatalf("kept %d cells and record %v, want 2 and none", len(store.cells), store.finished)
	}
	reused := 0
	got, err := Run(t.Context(), twoArms(&second, nil), Options{Store: store, Resume: true,
		Progress: func(e Event) {
			if e.Reused {
				reused++
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	if ran := []string{"net2", "plain2", "net3", "plain3"}; !slices.Equal(second, ran) || reused != 2 {
		t.Errorf("the rest ran %v (reused %d), want %v (2)", second, reused, ran)
	}
	for i := range want.Arms {
		if !slices.Equal(got.Arms[i].Values, want.Arms[i].Values) {
			t.Errorf("arm %s: %v after the interruption, %v without", got.Arms[i].Name, got.Arms[i].Values, want.Arms[i].Values)
		}
	}
	if store.finished != got || !got.Started.Equal(time.Unix(0, 0)) {
		t.Error("the resumed record was not kept, or forgot when its run began")
	}
}

func TestCellThatFinishesDuringCtrlCIsKept(t *testing.T) {
	var order []string
	store := &memory{}
	ctx, cancel := context.WithCancel(t.Context())
	x := twoArms(&order, func(string, uint64) error { cancel(); return nil })
	if _, err := Run(ctx, x, Options{Store: store}); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted run: %v", err)
	}
	if len(store.cells) != 1 {
		t.Errorf("kept %d cells, want the 1 that finished", len(store.cells))
	}
}

func TestFailingArmIsNamed(t *testing.T) {
	var order []string
	boom := errors.New("boom")
	x := twoArms(&order, func(arm string, seed uint64) error {
		if arm == "plain" && seed == 2 {
			return boom
		}
		return nil
	})
	_, err := Run(t.Context(), x, Options{})
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), `arm "plain", seed 2`) {
		t.Errorf("error %v", err)
	}
}

func TestDivergedArmIsRefused(t *testing.T) {
	var order []string
	for _, m := range []Measurement{{Value: math.NaN()}, {Extra: map[string]float64{"x": math.Inf(1)}},
		{Curve: []Point{{3, math.NaN()}}}} {
		x := twoArms(&order, nil)
		x.Arms[1].Run = func(context.Context, Env, uint64) (Measurement, error) { return m, nil }
		if _, err := Run(t.Context(), x, Options{}); !errors.Is(err, ErrNotFinite) {
			t.Errorf("measurement %+v gave %v", m, err)
		}
	}
}

func TestIllFormedExperimentSaysAllThatIsWrong(t *testing.T) {
	var order []string
	x := twoArms(&order, nil)
	x.Seeds, x.Figure.Better, x.Rule = 0, "more", Beats("net", "lora")
	_, err := Run(t.Context(), x, Options{})
	if !errors.Is(err, ErrExperiment) {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{"0 seeds", `"more"`, `"lora"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
}

func TestListedExperimentsAreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, x := range Experiments() {
		if err := x.Validate(); err != nil {
			t.Error(err)
		}
		if seen[x.Slug] {
			t.Errorf("two experiments for %s", x.Slug)
		}
		seen[x.Slug] = true
		if found, ok := Find(x.Slug); !ok || found.Claim != x.Claim {
			t.Errorf("Find(%q) gave another experiment", x.Slug)
		}
	}
	if _, ok := Find("no-such-paper"); ok {
		t.Error("found an experiment for a paper that is none")
	}
}
