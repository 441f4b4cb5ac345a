package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tare/lab"
)

// toy measures its seed, twice as much in the baseline.
func toy(slug string) lab.Experiment {
	arm := func(name string, role lab.Role, factor float64) lab.Arm {
		return lab.Arm{Name: name, Role: role, Run: func(_ context.Context, e lab.Env, seed uint64) (lab.Measurement, error) {
			e.Step(1, 1, "")
			return lab.Measurement{Value: factor * float64(seed), Trainable: 12345, Seconds: 1, Peak: map[string]int64{lab.Weights: 2048},
				Curve: []lab.Point{{Step: 1, Value: 3}, {Step: 2, Value: 2}}, Extra: map[string]float64{"share": 0.5}}, nil
		}}
	}
	return lab.Experiment{Slug: slug, Claim: "Half as much.", Figure: lab.Figure{Name: "loss", Unit: "nats", Better: lab.Lower}, Seeds: 3, QuickSeeds: 2,
		Arms: []lab.Arm{arm("half", lab.Method, 1), arm("whole", lab.Baseline, 2)}, Rule: lab.Beats("half", "whole")}
}

func TestReproduce(t *testing.T) {
	state := t.TempDir()
	t.Setenv("TARE_STATE", state)
	run := func(json bool, v reproduce, experiments ...lab.Experiment) (string, string) {
		var out, errOut bytes.Buffer
		a := &app{ctx: t.Context(), out: &out, errOut: &errOut}
		a.JSON = json
		if err := v.run(a, experiments); err != nil {
			t.Fatal(err)
		}
		return out.String(), errOut.String()
	}

	// Seeds 1, 2, 3: means 2 and 4, standard errors 1/√3 and 2/√3, of the
	// difference √(5/3).
	out, remarks := run(false, reproduce{}, toy("paca"))
	for _, want := range []string{"Half as much.", "loss (nats)", "2.00 ± 0.58", "4.0 ± 1.2", "12.3 k", "2.0 KiB", "0.5000",
		"gain +2.0 ± 1.3: supported", "Verdict: supported", "Rule: supported if half is better than whole"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	page := filepath.Join(state, "reports", "paca.html")
	if !strings.Contains(remarks, page) {
		t.Errorf("the report's place is not said: %q", remarks)
	}
	if html, err := os.ReadFile(page); err != nil || !bytes.Contains(html, []byte("polyline")) {
		t.Errorf("report: %v", err)
	}

	// One record is an object with the fixed keys first, several are a list.
	out, _ = run(true, reproduce{Quick: true, Report: filepath.Join(state, "own.html")}, toy("paca"))
	var one lab.Record
	if err := json.Unmarshal([]byte(out), &one); err != nil || len(one.Seeds) != 2 || !one.Quick {
		t.Errorf("record %+v, %v", one, err)
	}
	at := 0
	for _, key := range []string{"slug", "claim", "figure", "arms", "role", "mean", "stderr", "values", "trainable", "peak_bytes", "weights", "gradients", "optimizer", "activations", "scratch", "seconds", "verdict", "rule", "commit"} {
		next := strings.Index(out[at:], `"`+key+`":`)
		if next < 0 {
			t.Fatalf("no key %q after %d in\n%s", key, at, out)
		}
		at += next
	}
	if _, err := os.Stat(filepath.Join(state, "own.html")); err != nil {
		t.Error(err)
	}
	out, _ = run(true, reproduce{Seeds: 1}, toy("paca"), toy("bone"))
	var two []lab.Record
	if err := json.Unmarshal([]byte(out), &two); err != nil || len(two) != 2 || two[1].Slug != "bone" {
		t.Errorf("%d records, %v", len(two), err)
	}

	// The newest run is what the catalog tells.
	var page2 bytes.Buffer
	if code := runIn(t, []string{"papers", "bone", "--json"}, &page2); code != exitDone || !strings.Contains(page2.String(), `"verdict": "mixed"`) {
		t.Errorf("code %d:\n%s", code, page2.String())
	}
}

func runIn(t *testing.T, args []string, out *bytes.Buffer) int {
	var errOut bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(""), out, &errOut)
	if code != exitDone {
		t.Log(errOut.String())
	}
	return code
}

func TestReproduceInterrupted(t *testing.T) {
	t.Setenv("TARE_STATE", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	x := toy("paca")
	inner := x.Arms[1].Run
	x.Arms[1].Run = func(c context.Context, e lab.Env, seed uint64) (lab.Measurement, error) {
		if seed == 2 {
			cancel()
			return lab.Measurement{}, c.Err()
		}
		return inner(c, e, seed)
	}
	var out, errOut bytes.Buffer
	err := (&reproduce{}).run(&app{ctx: ctx, out: &out, errOut: &errOut}, []lab.Experiment{x})
	if codeOf(err) != exitInterrupted || !strings.Contains(err.Error(), "3 of 6 cells") || out.Len() != 0 {
		t.Fatalf("%v with output %q", err, out.String())
	}
	ran := 0
	x = toy("paca")
	for i := range x.Arms {
		inner := x.Arms[i].Run
		x.Arms[i].Run = func(c context.Context, e lab.Env, seed uint64) (lab.Measurement, error) {
			ran++
			return inner(c, e, seed)
		}
	}
	if err := (&reproduce{Resume: true}).run(&app{ctx: t.Context(), out: &out, errOut: &errOut}, []lab.Experiment{x}); err != nil || ran != 3 {
		t.Errorf("resumed: %v after %d more cells, want 3", err, ran)
	}
}
