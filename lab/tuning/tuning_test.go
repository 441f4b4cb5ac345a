package tuning

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/tensor"
	"tare/engine/text"
)

const verse = "the wind was on the water and the water was on the stone and the stone was in the wind "

// folder writes a tiny random model with a tokenizer and opens it.
func folder(t *testing.T) (*checkpoint.Folder, *text.Tokenizer) {
	t.Helper()
	raw, err := text.Train([]string{verse}, text.TrainOptions{Vocab: 280})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := text.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.NewLlama(&model.Config{ModelType: "llama", VocabSize: tok.VocabSize(), HiddenSize: 32, IntermediateSize: 48, Layers: 2,
		Heads: 4, KVHeads: 2, HeadDim: 8, MaxPositions: 64, NormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu", TieEmbeddings: true}, 3)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "model")
	if err := SaveModel(dir, m, tensor.F32, nil, map[string][]byte{"tokenizer.json": raw}, false); err != nil {
		t.Fatal(err)
	}
	f, err := checkpoint.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, tok
}

func recipes() map[string]Recipe {
	out := map[string]Recipe{}
	for method, options := range map[string]map[string]string{
		Full: nil, "lora": {"rank": "4", "dropout": "0.2"}, "bone": {"rank": "4"}, "bat": {"rank": "8"}, "paca": {"rank": "4"},
		"eva": {"rank": "3", "rho": "2"}, "sorsa": {"rank": "3", "gamma": "0.01"}, "soka": {"rank": "3"}, "flora": {"rank": "3", "scale": "1", "dropout": "0.1"}, "transformed": {"rank": "2"}, "adalora": {"rank": "2", "init_rank": "4", "every": "2", "finish": "0.3"},
		"lift": {"density": "0.1", "update_interval": "2"}, "sparse": {"rank": "2", "choice": "random"}, "s2ft": {"ratio": "0.3", "choice": "gradient"},
		"ist": {"rank": "4", "score_every": "2"}, "bitfit": {"norms": "true"}, "randlora": {"rank": "6"}, "vera": {"rank": "40", "dropout": "0.1"},
		"dsee": {"rank": "3", "entries": "9", "lambda": "0.01"}, "magnitude": {"rounds": "3"},
		"atp": {"rank": "3", "keep": "0.7", "batches": "3"}, "twostage": {"rank": "3", "choice": "taylor", "scope": "model"},
		"lora-xs": {"rank": "8"}, "lora-sb": {"rank": "8", "batches": "2"},
	} {
		r := Default()
		r.Method, r.Options, r.Steps, r.Batch, r.SeqLen, r.LR, r.Warmup = method, options, 12, 2, 16, 5e-3, 2
		out[method] = r
	}
	r := out["lora"]
	r.Base, r.Accumulate, r.Clip = BaseQ4, 2, 0.5
	out["lora over q4, clipped"] = r
	r = out["lift"]
	r.Accumulate, r.Clip, r.Optimizer, r.Momentum, r.LR = 2, 0.5, "sgd", 0.9, 0.05
	out["lift by sgd, clipped"] = r
	r = out["s2ft"]
	r.Base, r.Checkpoint, r.Options = BaseQ4, true, map[string]string{"ratio": "0.3", "choice": "product", "end": "small"}
	out["s2ft over q4, checkpointed"] = r
	r = out["s2ft"]
	r.Base, r.Options = BaseStored, map[string]string{"ratio": "0.3"}
	out["s2ft over a mapped file"] = r
	r = out["transformed"]
	r.Base, r.Checkpoint, r.Options = BaseQ4, true, map[string]string{"transform": "orthogonal", "block": "8", "residual": "ring"}
	out["transformed over q4, checkpointed"] = r
	r = out["dsee"]
	r.Clip, r.Options = 0.5, map[string]string{"rank": "3", "prune": "groups", "prune_at": "0.3", "lambda": "0.01"}
	out["dsee of groups, clipped"] = r
	r = out["dsee"]
	r.Options = map[string]string{"rank": "3", "prune_at": "0.3", "support": "random"}
	out["dsee, pruned early"] = r
	r = out["atp"]
	r.Base, r.Checkpoint, r.Clip, r.Accumulate = BaseQ4, true, 0.5, 2
	out["atp over q4, checkpointed, clipped"] = r
	r = out["atp"]
	r.Options = map[string]string{"rank": "3", "keep": "0.7", "freeze": "0.2", "scope": "layer", "batches": "3"}
	out["atp, decided early"] = r
	r = out["twostage"]
	r.Options = map[string]string{"rank": "3", "keep": "0.6"}
	out["twostage by magnitude"] = r
	r = out["paca"]
	r.Base, r.Checkpoint = BaseQ4, true
	out["paca over q4, checkpointed"] = r
	r = out["paca"]
	r.Base, r.Options = BaseQ4, map[string]string{"rank": "4", "choice": "gradient"}
	out["paca by gradient over q4"] = r
	r = out["paca"]
	r.Base = BaseStored
	out["paca over a mapped file"] = r
	r = out["ist"]
	r.Base, r.Accumulate, r.Clip, r.Options = BaseQ4, 2, 0.5, map[string]string{"over": "paca", "rank": "4", "score_every": "2"}
	out["ist over paca over q4, clipped"] = r
	r = out["ist"]
	r.EMA, r.Options = 0.7, map[string]string{"over": "eva", "rank": "3", "uniform": "true"}
	out["ist over eva, averaged"] = r
	r = out[Full]
	r.Precision = PrecisionBF16
	out["full in bf16 products"] = r
	r = out[Full]
	r.Optimizer, r.Momentum, r.LR = "sgd", 0.9, 0.05
	out["full by sgd"] = r
	r = out[Full]
	r.Storage, r.Accumulate, r.WeightDecay = StorageMaster, 2, 0.1
	out["full in bf16 with masters"] = r
	r = out[Full]
	r.Storage, r.Precision, r.EMA = StorageStochastic, PrecisionBF16, 0.8
	out["full in stochastic bf16, averaged"] = r
	r = out["lift"]
	r.EMA = 0.7
	out["lift, averaged"] = r
	return out
}

func newRun(t *testing.T, r Recipe) *Run {
	t.Helper()
	f, tok := folder(t)
	d, err := TextData(tok, strings.Repeat(verse, 40), strings.Repeat(verse, 3), r, 7)
	if err != nil {
		t.Fatal(err)
	}
	run, err := New(r, f, d, 7)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// A run that is interrupted, saved and resumed must end with the same bits as one
// that was left alone.
func TestResumeGivesTheSameBits(t *testing.T) {
	for name, r := range recipes() {
		t.Run(name, func(t *testing.T) {
			straight := newRun(t, r)
			if err := straight.Train(t.Context(), Watch{}); err != nil {
				t.Fatal(err)
			}
			first := newRun(t, r)
			ctx, cancel := context.WithCancel(t.Context())
			err := first.Train(ctx, Watch{Step: func(run *Run) {
				if run.Loop.Step == 5 {
					cancel()
				}
			}})
			if !errors.Is(err, context.Canceled) || first.Loop.Step != 5 {
				t.Fatalf("interrupted at step %d: %v", first.Loop.Step, err)
			}
			state := filepath.Join(t.TempDir(), "state.safetensors")
			if err := first.Loop.Save(state); err != nil {
				t.Fatal(err)
			}
			second := newRun(t, r)
			if err := second.Prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := second.Loop.Restore(state); err != nil {
				t.Fatal(err)
			}
			if err := second.Train(t.Context(), Watch{}); err != nil {
				t.Fatal(err)
			}
			want := straight.Model.Params()
			for i, p := range second.Model.Params() {
				if !p.Trains() {
					continue
				}
				if !bytes.Equal(p.Value.Bytes(), want[i].Value.Bytes()) {
					t.Fatalf("%s has other bits after resuming than without", p.Name)
				}
			}
			if got, want := second.Final().Loss, straight.Final().Loss; got != want {
				t.Errorf("held-out loss %g after resuming, %g without", got, want)
			}
		})
	}
}

func TestTuningLowersTheLoss(t *testing.T) {
	for name, r := range recipes() {
		run := newRun(t, r)
		if err := run.Train(t.Context(), Watch{}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if before, after := run.Evals[0].Loss, run.Final().Loss; !(after < before) {
			t.Errorf("%s: held-out loss %g before, %g after", name, before, after)
		}
		if run.Ledger.Now(grad.Activations) != 0 || run.Ledger.Now(grad.Gradients) != 0 && r.Clip == 0 && r.Accumulate == 1 {
			t.Errorf("%s: %d bytes of activations and %d of gradients are still held", name, run.Ledger.Now(grad.Activations), run.Ledger.Now(grad.Gradients))
		}
	}
}

func TestRecipeSaysAllThatIsWrong(t *testing.T) {
	r := Default()
	r.Steps, r.LR, r.Schedule, r.Method, r.Options = 0, -1, "cosin", "lora", map[string]string{"rnk": "4"}
	err := r.Validate()
	if !errors.Is(err, ErrRecipe) {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{"steps is 0", "lr is -1", `"cosin"`, `did you mean "rank"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
	r = Default()
	r.Options = map[string]string{"rank": "many"}
	if err := r.Validate(); err == nil || !strings.Contains(err.Error(), "Rank") {
		t.Errorf("a rank that is no number: %v", err)
	}
}
