package adapt_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/tensor"
	"tare/method/adapt"
)

// exports lists the adapters that parity/check_export.py opens, in forms whose files
// differ. Of all other methods it opens what merging leaves.
var exports = []struct {
	name    string
	options adapt.Options
	targets []string
}{
	{"lora", &adapt.LoRA{Rank: 4, Alpha: 8}, []string{"q_proj", "v_proj"}},
	{"lora-rslora", &adapt.LoRA{Rank: 4, Alpha: 8, RSLoRA: true}, []string{adapt.AllLinear}},
	{"lora-pattern", &adapt.LoRA{Rank: 2, Alpha: 3, Dropout: 0.1}, []string{`.*layers\.1\.mlp\.(up|down)_proj`}},
	{"dora", &adapt.DoRA{Rank: 4, Alpha: 8}, []string{adapt.AllLinear}},
	{"dora-rslora", &adapt.DoRA{Rank: 4, Alpha: 8, RSLoRA: true}, []string{"o_proj", "down_proj"}},
	{"pissa", &adapt.PiSSA{Rank: 4}, []string{adapt.AllLinear}},
	{"pissa-scaled", &adapt.PiSSA{Rank: 3, Alpha: 12}, []string{"q_proj", "gate_proj"}},
	{"lora-ranks", &adapt.LoRA{Rank: 4, Alpha: 8, RankPattern: map[string]int{`layers\.0\..*`: 2}, AlphaPattern: map[string]float64{"v_proj": 3}}, []string{"q_proj", "v_proj"}},
	{"eva", &adapt.EVA{LoRA: adapt.LoRA{Rank: 4, Alpha: 8, RankPattern: map[string]int{"model.layers.0.self_attn.q_proj": 6}}, Rho: 2, Tau: 0.9, Batches: 1}, []string{"q_proj", "v_proj"}},
	{"adalora", &adapt.AdaLoRA{Rank: 3, Init: 4, Alpha: 8, Gamma: 0.5, Every: 1, Beta1: 0.85, Beta2: 0.85}, []string{adapt.AllLinear}},
	{"adalora-pruned", prunedAdaLoRA(), []string{"q_proj", "v_proj"}},
	{"bone", &adapt.Bone{Rank: 8}, []string{adapt.AllLinear}},
	{"bone-padded", &adapt.Bone{Rank: 5}, []string{"k_proj", "down_proj"}},
	{"bone-miss", &adapt.Bone{Rank: 8, MiSS: true}, []string{"q_proj", "gate_proj"}},
	{"bat", &adapt.Bat{Rank: 8}, []string{adapt.AllLinear}},
	{"randlora", &adapt.RandLoRA{Rank: 8, Alpha: 8, Entries: "uniform", Projections: adapt.Projections{Save: true}}, []string{adapt.AllLinear}},
	{"randlora-sparse", &adapt.RandLoRA{Rank: 5, Alpha: 5, Entries: "sparse", Projections: adapt.Projections{Save: true, Key: 4}}, []string{"k_proj", "down_proj"}},
	{"vera", &adapt.VeRA{Rank: 40, Initial: 0.1, Projections: adapt.Projections{Save: true}}, []string{adapt.AllLinear}},
	{"lora-xs", &adapt.LoRAXS{Rank: 6, Alpha: 9}, []string{adapt.AllLinear}},
	{"lora-sb", &adapt.LoRASB{Rank: 6, First: "adamw"}, []string{"q_proj", "down_proj"}},
	{"paca", &adapt.PaCA{Rank: 6, Choice: "random"}, []string{adapt.AllLinear}},
	{"ist", &adapt.IST{Over: "bone", Inner: &adapt.Bone{Rank: 4}, To: 0.25, Sets: 3, Every: 10, Rate: 10}, []string{adapt.AllLinear}},
}

// prunedAdaLoRA is left with other ranks in every layer, one of them 0.
func prunedAdaLoRA() *adapt.AdaLoRA {
	o := adapt.NewAdaLoRA()
	t, f := any(true), any(false)
	if err := o.SetConfig(map[string]any{"init_r": 3, "target_r": 2, "lora_alpha": 8, "tinit": 1, "tfinal": 2, "total_step": 9, "rank_pattern": map[string]any{
		"model.layers.0.self_attn.q_proj.lora_E": []any{t, t, f}, "model.layers.0.self_attn.v_proj.lora_E": []any{f, f, f},
		"model.layers.1.self_attn.q_proj.lora_E": []any{f, f, t}, "model.layers.1.self_attn.v_proj.lora_E": []any{t, t, t},
	}}); err != nil {
		panic(err)
	}
	return o
}

// TestExportForParity writes checkpoints and adapters, each with Tare's own logits, for
// parity/check_export.py to open in transformers and PEFT. It checks nothing itself.
func TestExportForParity(t *testing.T) {
	dir := os.Getenv("TARE_EXPORT")
	if dir == "" {
		t.Skip("TARE_EXPORT names no folder to write to")
	}
	base := filepath.Join(dir, "base")
	exportModel(t, base, freshModel(t), tensor.F32, checkpoint.FolderOptions{Overwrite: true})
	exported := map[string]bool{}
	for i, e := range exports {
		m := openModel(t, base)
		a, err := adapt.Attach(m, methodOf(t, e.options), e.options, e.targets, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		exported[a.Method.Name] = true
		moveParams(a.Params(), uint64(i))
		folder := filepath.Join(dir, "adapters", e.name)
		if err := a.Save(folder, "base"); err != nil {
			t.Fatal(err)
		}
		writeLogits(t, folder, m)
		if err := a.Merge(); err != nil {
			t.Fatal(err)
		}
		shards := checkpoint.FolderOptions{Overwrite: true, ShardBytes: 40_000}
		exportModel(t, filepath.Join(dir, "merged", e.name), m, tensor.F32, shards)
		if i == 0 {
			exportModel(t, filepath.Join(dir, "merged", e.name+"-bf16"), m, tensor.BF16, shards)
		}
	}
	exportModel(t, filepath.Join(dir, "shrunk"), shrunkModel(t, base), tensor.F32, checkpoint.FolderOptions{Overwrite: true})
	for i, method := range adapt.Methods() {
		if exported[method.Name] {
			continue
		}
		m, o := openModel(t, base), method.New()
		if b, ok := o.(*adapt.BitFit); ok {
			b.Norms = true // the base has no biases
		}
		a, err := adapt.Attach(m, method, o, nil, uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		moveParams(a.Params(), uint64(i))
		if err := a.Merge(); err != nil {
			t.Fatal(err)
		}
		exportModel(t, filepath.Join(dir, "merged", method.Name), m, tensor.F32, checkpoint.FolderOptions{Overwrite: true})
	}
}

// freshModel returns a model with weights wide enough that all of them show in the
// logits.
func freshModel(t *testing.T) *model.Llama {
	c := &model.Config{
		ModelType: "llama", Architectures: []string{"LlamaForCausalLM"},
		VocabSize: 96, HiddenSize: 32, IntermediateSize: 48, Layers: 2, Heads: 4, KVHeads: 2, HeadDim: 8,
		MaxPositions: 256, NormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu", TorchDType: "float32",
	}
	m, err := model.NewLlama(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		p.Part = grad.Whole
	}
	moveParams(m.Params(), 77)
	return m
}

// shrunkModel returns the base with one of two groups of heads and a third of the
// channels taken out of each layer, others in every layer.
func shrunkModel(t *testing.T, base string) *model.Llama {
	m := openModel(t, base)
	keep := make([]model.Keep, len(m.Layers))
	for i := range keep {
		keep[i].Heads = []bool{i%2 == 0, i%2 == 1}
		for c := range m.Config.IntermediateSize {
			keep[i].Channels = append(keep[i].Channels, c%3 != i)
		}
	}
	if err := m.Shrink(keep); err != nil {
		t.Fatal(err)
	}
	return m
}

// moveParams adds noise to what trains, as if it had been trained.
func moveParams(params []*grad.Param, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, p := range params {
		w := make([]float32, p.PartLen())
		p.Gather(w)
		for i := range w {
			w[i] += float32(0.15 * rng.NormFloat64())
		}
		p.Scatter(w)
	}
}

func methodOf(t *testing.T, o adapt.Options) adapt.Method {
	for _, m := range adapt.Methods() {
		if fmt.Sprintf("%T", m.New()) == fmt.Sprintf("%T", o) {
			return m
		}
	}
	t.Fatalf("no method has options %T", o)
	return adapt.Method{}
}

// exportModel writes a checkpoint folder and the logits of what it holds.
func exportModel(t *testing.T, dir string, m *model.Llama, dtype tensor.DType, o checkpoint.FolderOptions) {
	t.Helper()
	entries := m.Export(dtype)
	var specs []checkpoint.Spec
	for _, e := range entries {
		specs = append(specs, checkpoint.Spec{Name: e.Name, DType: e.DType, Shape: e.Shape})
	}
	w, err := checkpoint.CreateFolder(dir, specs, o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, e := range entries {
		x, err := e.Read()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(x); err != nil {
			t.Fatal(err)
		}
	}
	config, err := m.Config.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.File("config.json", config); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	writeLogits(t, dir, openModel(t, dir))
}

// writeLogits stores ids.i (I64) and logits.i (F32 [tokens, vocab]) of two sequences.
func writeLogits(t *testing.T, dir string, m *model.Llama) {
	t.Helper()
	rng := rand.New(rand.NewPCG(5, 5))
	var out []checkpoint.NamedTensor
	for i, n := range []int{40, 53} {
		ids, tokens := tensor.NewOf(tensor.I64, n), make([]int32, n)
		for j := range tokens {
			tokens[j] = rng.Int32N(int32(m.Config.VocabSize))
			ids.I64()[j] = int64(tokens[j])
		}
		out = append(out,
			checkpoint.NamedTensor{Name: fmt.Sprintf("ids.%d", i), Tensor: ids},
			checkpoint.NamedTensor{Name: fmt.Sprintf("logits.%d", i), Tensor: tensor.FromF32(logitsOf(m, tokens), n, m.Config.VocabSize)})
	}
	if err := checkpoint.WriteFile(filepath.Join(dir, "logits.safetensors"), out, nil); err != nil {
		t.Fatal(err)
	}
}
