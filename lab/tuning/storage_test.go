package tuning

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/model"
	"tare/engine/tensor"
)

func fullRecipe(storage string, steps int) Recipe {
	r := Default()
	r.Method, r.Storage, r.Steps, r.Batch, r.SeqLen, r.LR, r.Warmup, r.Precision = Full, storage, steps, 2, 16, 3e-3, 2, PrecisionF32
	return r
}

// Weights in bfloat16 with master copies give f32's loss curve but for rounding, whose
// relative size is at most 2⁻⁹. With 2 bytes a matrix entry for the weights, the masters
// are 4 more of the optimizer's, and stochastic rounding has none.
func TestMixedStorageFollowsF32(t *testing.T) {
	runs := map[string]*Run{}
	for _, storage := range []string{StorageF32, StorageMaster, StorageStochastic} {
		run := newRun(t, fullRecipe(storage, 60))
		if err := run.Train(t.Context(), Watch{}); err != nil {
			t.Fatal(err)
		}
		runs[storage] = run
	}
	plain := runs[StorageF32]
	for i, want := range plain.Curve {
		if got := runs[StorageMaster].Curve[i]; math.Abs(got-want) > 0.01*want {
			t.Errorf("step %d: loss %v with masters, %v in f32", i+1, got, want)
		}
	}
	// By chance-rounding each update is off by at most a neighbour's distance; the run
	// still goes where f32 goes.
	first, end := plain.Evals[0].Loss, plain.Final().Loss
	if got := runs[StorageStochastic].Final().Loss; math.Abs(got-end) > 0.2*(first-end) {
		t.Errorf("held-out loss %v by stochastic rounding, %v in f32, %v before", got, end, first)
	}
	var matrices, vectors int64
	for _, p := range plain.Model.Params() {
		if len(p.Value.Shape()) > 1 {
			matrices += int64(p.Value.Len())
		} else {
			vectors += int64(p.Value.Len())
		}
	}
	for storage, want := range map[string][2]int64{
		StorageF32:        {4*matrices + 4*vectors, 8 * (matrices + vectors)},
		StorageMaster:     {2*matrices + 4*vectors, 8*(matrices+vectors) + 4*matrices},
		StorageStochastic: {2*matrices + 4*vectors, 8 * (matrices + vectors)},
	} {
		peak := runs[storage].Ledger.Peak()
		if w, o := peak.Weights, peak.Optimizer; w != want[0] || o != want[1] {
			t.Errorf("%s: %d bytes of weights and %d of the optimizer, want %d", storage, w, o, want)
		}
	}
}

// The families that have tables of positions, scaled norms or biases train in bfloat16
// too, and are saved as they are.
func TestEveryFamilyStoresBF16(t *testing.T) {
	ids := make([]int32, 600)
	for i := range ids {
		ids[i] = int32(3 + i*i%7)
	}
	for _, family := range []string{"mistral-window", "phi", "gemma3", "gpt2-scaled-bf16", "opt-norm-after"} {
		src, err := checkpoint.OpenFolder(filepath.Join("../../engine/model/testdata/parity", family))
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		r := fullRecipe(StorageMaster, 12)
		r.Checkpoint, r.LR = true, 1e-2
		train, err := data.NewWindows(ids, r.SeqLen, r.Batch, 1)
		if err != nil {
			t.Fatal(err)
		}
		valid, err := data.WindowBatches(ids[:100], r.SeqLen, r.Batch)
		if err != nil {
			t.Fatal(err)
		}
		run, err := New(r, src, Data{Train: train, Valid: valid}, 7)
		if err != nil {
			t.Fatal(err)
		}
		if err := run.Train(t.Context(), Watch{}); err != nil {
			t.Fatalf("%s: %v", family, err)
		}
		if before, after := run.Evals[0].Loss, run.Final().Loss; !(after < before) {
			t.Errorf("%s: loss %g before, %g after", family, before, after)
		}
		dir := filepath.Join(t.TempDir(), "tuned")
		if err := SaveModel(dir, run.Model, tensor.F32, src, nil, false); err != nil {
			t.Fatal(err)
		}
		if got := lossOf(t, dir, valid); math.Abs(got-run.Final().Loss) > 1e-4*got {
			t.Errorf("%s: the saved model's loss is %g, the tuned one's %g", family, got, run.Final().Loss)
		}
	}
}

func lossOf(t *testing.T, dir string, batches []*data.Batch) float64 {
	t.Helper()
	f, err := checkpoint.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := model.LoadCausal(f.Config, f, model.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := eval.Loss(t.Context(), m, batches, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r.Loss
}

// With averaging the training is the same, the last evaluation and the model are of the
// averages, whose loss is not that of the weights.
func TestAveragedWeightsAreEvaluatedAndSaved(t *testing.T) {
	r := fullRecipe(StorageF32, 20)
	plain := newRun(t, r)
	if err := plain.Train(t.Context(), Watch{}); err != nil {
		t.Fatal(err)
	}
	r.EMA, r.EvalEvery = 0.9, 5
	run := newRun(t, r)
	if err := run.Train(t.Context(), Watch{}); err != nil {
		t.Fatal(err)
	}
	for i, want := range plain.Curve {
		if run.Curve[i] != want {
			t.Fatalf("step %d: loss %v with averaging, %v without", i+1, run.Curve[i], want)
		}
	}
	if len(run.Evals) != 5 || run.Final().Loss == plain.Final().Loss {
		t.Errorf("%d evaluations, the last is %v, without averaging %v", len(run.Evals), run.Final().Loss, plain.Final().Loss)
	}
	dir := filepath.Join(t.TempDir(), "tuned")
	if err := SaveModel(dir, run.Model, tensor.F32, nil, nil, false); err != nil {
		t.Fatal(err)
	}
	if got := lossOf(t, dir, run.Data.Valid); math.Abs(got-run.Final().Loss) > 1e-6*got {
		t.Errorf("the saved model's loss is %v, the averages' %v", got, run.Final().Loss)
	}
}

func TestPackedRecordsTrain(t *testing.T) {
	f, tok := folder(t)
	r := fullRecipe(StorageF32, 10)
	r.Pack, r.SeqLen = true, 32
	var records []data.Record
	for i := range 60 {
		records = append(records, data.Record{Text: verse[:20+i%7*8]})
	}
	d, err := RecordData(tok, records[5:], records[:5], r, -1, 7)
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Train.Next()
	if err != nil || len(b.Tokens) > r.Batch*r.SeqLen || len(b.Lengths) < 3 {
		t.Fatalf("a batch of %d documents, %d tokens, %v", len(b.Lengths), len(b.Tokens), err)
	}
	run, err := New(r, f, d, 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Train(t.Context(), Watch{}); err != nil {
		t.Fatal(err)
	}
	if !(run.Final().Loss < run.Evals[0].Loss) {
		t.Errorf("loss %v before, %v after", run.Evals[0].Loss, run.Final().Loss)
	}
}

func TestStorageIsChecked(t *testing.T) {
	r := Default()
	r.Storage, r.EMA = "bf16-master", 1
	err := r.Validate()
	if err == nil || !strings.Contains(err.Error(), "storage bf16-master is for full") || !strings.Contains(err.Error(), "ema is 1") {
		t.Errorf("error %v", err)
	}
	r.Storage = "f16"
	if err := r.Validate(); err == nil || !strings.Contains(err.Error(), `storage is "f16"`) {
		t.Errorf("error %v", err)
	}
}
