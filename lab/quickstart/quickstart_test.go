package quickstart

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"testing"
	"time"

	"tare/engine/checkpoint"
	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/model"
	"tare/engine/text"
	"tare/lab/bundle"
	"tare/method/adapt"
)

// tiny is the job in seconds.
func tiny() settings {
	return settings{
		steps: 6, batch: 4, seqLen: 64, mathSteps: 3, mathBatch: 4, mathProblems: 40, questions: 3, opticksBytes: 3000, sourceBytes: 3000,
	}
}

// small skips where the job can't run or would take too long.
func small(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the whole job")
	}
	if !bundle.Has() {
		t.Skip("this build carries no checkpoint")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
}

// The whole job on the bundled checkpoint: every model of the table is there and is what
// its name says.
func TestJob(t *testing.T) {
	small(t)
	began := time.Now()
	dir, set := filepath.Join(t.TempDir(), "out"), tiny()
	heard := map[string]int{}
	res, err := run(t.Context(), dir, 1, func(what string, step, steps int) {
		if heard[what] = step; step > steps {
			t.Errorf("%s: step %d of %d", what, step, steps)
		}
	}, set)
	if err != nil {
		t.Fatal(err)
	}
	rows := checkTable(t, res, set)
	for _, what := range []string{"tune full", "tune lora", "tune bone", "tune bat", "tune paca"} {
		if heard[what] != set.steps {
			t.Errorf("%s was last heard of at step %d of %d", what, heard[what], set.steps)
		}
	}
	checkMerged(t, rows, dir)
	checkLoadedAdapter(t, rows["lora"], set)
	if s := res.Seconds; s <= 0 || s > time.Since(began).Seconds() {
		t.Errorf("the job took %g s by its own account", s)
	}
}

// checkTable compares the rows with what the configuration of the bundled model implies:
// 6 layers of width 192 with an inner width of 512 and keys and values of 96, over 2048
// tied embeddings.
func checkTable(t *testing.T, res *Result, set settings) map[string]Row {
	t.Helper()
	const (
		layers, d, inner, kv, vocab = 6, 192, 512, 96, 2048
		outs                        = d + 2*kv + d + 2*inner + d // of all linear layers of a block
		ins                         = 4*d + 2*d + inner
		whole                       = vocab*d + layers*(d*d+2*kv*d+d*d+3*inner*d+2*d) + d
	)
	want := []struct {
		name, group, task string
		trainable         int64
	}{
		{"base", Base, "", 0},
		{"full", Tuned, OnOpticks, whole},
		{"lora", Tuned, OnOpticks, 8 * layers * (ins + outs)}, // A [r, in] and B [out, r]
		{"bone", Tuned, OnOpticks, 16 * layers * outs},        // a block [r, out]
		{"bat", Tuned, OnOpticks, 16 * layers * outs},
		{"paca", Tuned, OnOpticks, 16 * layers * outs}, // r columns of [out, in]
		{"full on arithmetic", Tuned, OnArithmetic, whole},
		{"base in 4 bits", Compressed, "", 0},
		{"full in 4 bits", Compressed, "", 0},
		{"opticks + arithmetic", Merged, "", 0},
	}
	if len(res.Rows) != len(want) {
		t.Fatalf("%d rows, want %d", len(res.Rows), len(want))
	}
	rows := map[string]Row{}
	for i, r := range res.Rows {
		w := want[i]
		rows[r.Name] = r
		if r.Name != w.name || r.Group != w.group || r.Task != w.task || r.Trainable != w.trainable {
			t.Errorf("row %d: %q in %s on %q trains %d, want %+v", i, r.Name, r.Group, r.Task, r.Trainable, w)
		}
		for what, loss := range map[string]float64{"opticks": r.Opticks, "source": r.Source} {
			if !(loss > 0 && loss < math.Log(vocab)) {
				t.Errorf("%s: loss on %s %g, that of guessing is %g", r.Name, what, loss, math.Log(vocab))
			}
		}
		if r.Arithmetic < 0 || r.Arithmetic > 1 || r.Bytes <= 0 || (r.Path == "") != (r.Group == Base) {
			t.Errorf("%s: %+v", r.Name, r)
		}
		if r.Group != Tuned {
			continue
		}
		steps := set.steps
		if r.Task == OnArithmetic {
			steps = set.mathSteps
		}
		if len(r.Curve) != steps || r.Seconds <= 0 || r.Peak.Total <= 0 {
			t.Errorf("%s: a curve of %d steps, %g s, peak %+v", r.Name, len(r.Curve), r.Seconds, r.Peak)
		}
		if r.Task == OnOpticks && r.Opticks >= rows["base"].Opticks {
			t.Errorf("%s: loss on opticks %g, the base has %g", r.Name, r.Opticks, rows["base"].Opticks)
		}
		// Two f32 moments of every entry that trains.
		if r.Peak.Optimizer != 8*r.Trainable {
			t.Errorf("%s: %d bytes of optimizer state for %d entries", r.Name, r.Peak.Optimizer, r.Trainable)
		}
	}
	if n := rows["base"].Bytes; n != 2*whole { // bf16
		t.Errorf("the base has %d bytes, want %d", n, 2*whole)
	}
	for _, few := range []string{"paca", "lora"} { // no gradients and moments of what is frozen
		if rows[few].Peak.Total >= rows["full"].Peak.Total {
			t.Errorf("%s takes as much memory as full fine-tuning", few)
		}
	}
	if a, b := rows["full in 4 bits"].Opticks, rows["base"].Opticks; a >= b {
		t.Errorf("the rounded tune has the loss %g, the base %g", a, b)
	}
	return rows
}

// checkMerged wants base + 1·(a − base) + 1·(b − base) to bf16's rounding in a matrix, by the
// weights that the job gives.
func checkMerged(t *testing.T, rows map[string]Row, dir string) {
	t.Helper()
	const name = "model.layers.3.mlp.down_proj.weight"
	read := func(path string) []float32 {
		f, err := checkpoint.OpenFolder(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		x, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		values := make([]float32, x.Len())
		if err := x.ReadF32(values, 0); err != nil {
			t.Fatal(err)
		}
		return values
	}
	base, err := bundle.Folder()
	if err != nil {
		t.Fatal(err)
	}
	w, a, b := read(base), read(rows["full"].Path), read(rows["full on arithmetic"].Path)
	moved := 0
	for i, got := range read(rows["opticks + arithmetic"].Path) {
		want := float64(a[i]) + float64(b[i]) - float64(w[i])
		if math.Abs(float64(got)-want) > math.Abs(want)/256+1e-6 {
			t.Fatalf("%s: entry %d is %g, want %g", name, i, got, want)
		}
		if a[i] != w[i] && b[i] != w[i] {
			moved++
		}
	}
	if moved < len(w)/10 {
		t.Errorf("both tunes moved %d of %d entries: that proves little", moved, len(w))
	}
}

// checkLoadedAdapter measures the saved adapter on a base of its own.
func checkLoadedAdapter(t *testing.T, row Row, set settings) {
	t.Helper()
	path, err := bundle.Folder()
	if err != nil {
		t.Fatal(err)
	}
	f, err := checkpoint.OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := model.Load(f.Config, f, model.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := adapt.Load(row.Path, m); err != nil {
		t.Fatal(err)
	}
	tok, err := text.Load(filepath.Join(path, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	batches, err := data.WindowBatches(tok.EncodeOrdinary(bundle.Opticks(bundle.Test)[:set.opticksBytes]), set.seqLen, 16)
	if err != nil {
		t.Fatal(err)
	}
	r, err := eval.Loss(t.Context(), m, batches, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(r.Loss-row.Opticks) > 1e-5 {
		t.Errorf("%s: loss %g after loading, was %g", row.Name, r.Loss, row.Opticks)
	}
}

// An interrupted job says so.
func TestInterruptedJob(t *testing.T) {
	small(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := run(ctx, t.TempDir(), 1, func(what string, _, _ int) {
		if what == "tune full" {
			cancel()
		}
	}, tiny())
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want to be cancelled", err)
	}
}
