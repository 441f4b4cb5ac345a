package quant

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// The intermediate size makes two groups of 128, a count that 96 makes too.
const config = `{"model_type":"llama","vocab_size":37,"hidden_size":64,"intermediate_size":192,"num_hidden_layers":2,"num_attention_heads":4,
"num_key_value_heads":2,"rms_norm_eps":1e-5,"tie_word_embeddings":false,"custom":12345678901234567890}`

// source writes a small checkpoint in bf16 and opens it; damage may change a tensor.
func source(t *testing.T, damage func(name string, x *tensor.Tensor)) *checkpoint.Folder {
	t.Helper()
	c, err := model.ParseConfig([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.NewLlama(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "base")
	entries := m.Export(tensor.BF16)
	var specs []checkpoint.Spec
	for _, e := range entries {
		specs = append(specs, checkpoint.Spec{Name: e.Name, DType: e.DType, Shape: e.Shape})
	}
	w, err := checkpoint.CreateFolder(dir, specs, checkpoint.FolderOptions{ShardBytes: 50_000})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		x, err := e.Read()
		if err != nil {
			t.Fatal(err)
		}
		if damage != nil {
			damage(e.Name, x)
		}
		if err := w.Write(x); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.File("config.json", []byte(config)), w.File("tokenizer.json", []byte("{}")), w.Close()); err != nil {
		t.Fatal(err)
	}
	src, err := checkpoint.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

func load(t *testing.T, src *checkpoint.Folder) *model.Llama {
	t.Helper()
	m, err := model.Load(src.Config, src, model.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func logits(m *model.Llama) []float32 {
	tp := grad.NewTape(nil)
	var out []float32
	tp.NoGrad(func() {
		out = slices.Clone(m.Logits(tp, m.Hidden(tp, []int32{1, 5, 9, 30, 2}, grad.Sequences{Lengths: []int{5}}, nil)).Data)
	})
	tp.Reset()
	return out
}

func TestCheckpointEqualsQuantizingInMemory(t *testing.T) {
	src := source(t, nil)
	for _, o := range []CheckpointOptions{
		{Options: Options{Bits: 4, Group: 32}},
		{Options: Options{Bits: 4, Group: 128}, Head: true},
		{Options: Options{Bits: 4, Group: 64, Symmetric: true}, ShardBytes: 10_000},
	} {
		method := &RTN{Group: o.Group, Symmetric: o.Symmetric}
		want := load(t, src)
		var relative []float64
		for _, l := range want.Linears() {
			if l.Name == "lm_head" && !o.Head {
				continue
			}
			w, err := nn.Materialize(l.Weight)
			if err != nil {
				t.Fatal(err)
			}
			if l.Weight, err = method.QuantizeLayer(l.Name, w, nil); err != nil {
				t.Fatal(err)
			}
			packed, err := nn.Materialize(l.Weight)
			if err != nil {
				t.Fatal(err)
			}
			var lost, all float64
			for i, v := range w.F32() {
				lost += math.Pow(float64(v-packed.F32()[i]), 2)
				all += math.Pow(float64(v), 2)
			}
			relative = append(relative, math.Sqrt(lost/all))
		}
		var seen []string
		last := int64(-1)
		o.Progress = func(name string, done, total int64) {
			if done < last || done >= total {
				t.Errorf("progress %d of %d after %d", done, total, last)
			}
			seen, last = append(seen, name), done
		}
		dir := filepath.Join(t.TempDir(), "q4")
		report, err := Checkpoint(t.Context(), src, dir, method, o)
		if err != nil {
			t.Fatal(err)
		}
		out, err := checkpoint.OpenFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		if got := logits(load(t, out)); !slices.Equal(got, logits(want)) {
			t.Errorf("group %d: logits differ from quantizing in memory", o.Group)
		}
		if !slices.Equal(seen, src.Names()) {
			t.Errorf("progress over %v", seen)
		}
		checkReport(t, report, src, out, relative)
		checkConfig(t, out.Config, o.Options)
		if _, err := out.Read("tokenizer.json"); err != nil {
			t.Error(err)
		}
		if _, err := Checkpoint(t.Context(), out, filepath.Join(t.TempDir(), "again"), method, CheckpointOptions{Options: o.Options}); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("quantizing twice: %v", err)
		}
	}
}

func checkReport(t *testing.T, r Report, src, out *checkpoint.Folder, relative []float64) {
	t.Helper()
	size := func(f *checkpoint.Folder) (n int64) {
		for _, name := range f.Names() {
			info, _ := f.Info(name)
			n += info.Bytes
		}
		return n
	}
	if r.Before != size(src) || r.After != size(out) || r.After >= r.Before {
		t.Errorf("%d bytes before and %d after, want %d and %d", r.Before, r.After, size(src), size(out))
	}
	if len(r.Layers) != len(relative) {
		t.Fatalf("%d layers reported, want %d", len(r.Layers), len(relative))
	}
	for i, l := range r.Layers {
		if math.Abs(l.Error-relative[i]) > 1e-6 || l.Error < 0.02 || l.Error > 0.2 {
			t.Errorf("%s: error %g, want %g", l.Name, l.Error, relative[i])
		}
	}
}

func checkConfig(t *testing.T, data []byte, o Options) {
	t.Helper()
	var c struct {
		Custom json.Number `json:"custom"`
		Q      struct {
			Method string `json:"quant_method"`
			Bits   int    `json:"bits"`
			Group  int    `json:"group_size"`
			Sym    bool   `json:"sym"`
		} `json:"quantization_config"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	if c.Custom != "12345678901234567890" || c.Q.Method != "tare" || c.Q.Bits != 4 || c.Q.Group != o.Group || c.Q.Sym != o.Symmetric {
		t.Errorf("config.json says %+v", c)
	}
}

// needy wants statistics that nobody gathers.
type needy struct{ RTN }

func (needy) Needs() Stats { return Stats{Gram: true} }

func TestRefusedCheckpointsLeaveNothing(t *testing.T) {
	const damaged = "model.layers.1.mlp.up_proj.weight"
	good := CheckpointOptions{Options: Options{Bits: 4, Group: 32}}
	for name, c := range map[string]struct {
		method LayerMethod
		o      CheckpointOptions
		damage func(name string, x *tensor.Tensor)
		config string
		says   string
		kind   error
	}{
		"NaN": {&RTN{Group: 32}, good, func(name string, x *tensor.Tensor) {
			if name == damaged {
				x.U16()[64*3+7] = 0x7fc0
			}
		}, config, `"` + damaged + `": entry [3 7]`, checkpoint.ErrNonFinite},
		"Inf in a norm": {&RTN{Group: 32}, good, func(name string, x *tensor.Tensor) {
			if name == "model.norm.weight" {
				x.U16()[5] = 0x7f80
			}
		}, config, "entry [5]", checkpoint.ErrNonFinite},
		"needs statistics": {&needy{RTN{Group: 32}}, good, nil, config, "statistics", nil},
		"other group":      {&RTN{Group: 64}, good, nil, config, "groups of 32", nil},
		"bad options":      {&RTN{Group: 32}, CheckpointOptions{}, nil, config, "bits 0", nil},
		"no config":        {&RTN{Group: 32}, good, nil, "", "config.json", checkpoint.ErrMissing},
		"other type":       {&RTN{Group: 32}, good, nil, `{"model_type":"gpt9"}`, "gpt9", model.ErrConfig},
		"more layers":      {&RTN{Group: 32}, good, nil, strings.Replace(config, `"num_hidden_layers":2`, `"num_hidden_layers":3`, 1), "model.layers.2", checkpoint.ErrMissing},
		"other width":      {&RTN{Group: 32}, good, nil, strings.Replace(config, `"intermediate_size":192`, `"intermediate_size":128`, 1), "[192 64], want [128 64]", model.ErrShape},
	} {
		t.Run(name, func(t *testing.T) {
			src := source(t, c.damage)
			src.Config = []byte(c.config)
			if c.config == "" {
				src.Config = nil
			}
			dir := t.TempDir()
			_, err := Checkpoint(t.Context(), src, filepath.Join(dir, "out"), c.method, c.o)
			if err == nil || !strings.Contains(err.Error(), c.says) || c.kind != nil && !errors.Is(err, c.kind) {
				t.Errorf("error %v, want %v and %s", err, c.kind, c.says)
			}
			empty(t, dir)
		})
	}
}

func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestCancelledCheckpointLeavesNothing(t *testing.T) {
	src, dir := source(t, nil), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	o := CheckpointOptions{Options: Options{Bits: 4, Group: 32}, Progress: func(name string, done, total int64) {
		if done > total/2 {
			cancel()
		}
	}}
	if _, err := Checkpoint(ctx, src, filepath.Join(dir, "out"), &RTN{Group: 32}, o); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want the context's", err)
	}
	empty(t, dir)
}

func TestCheckpointKeepsWhatStandsThere(t *testing.T) {
	src := source(t, nil)
	o := CheckpointOptions{Options: Options{Bits: 4, Group: 32}}
	if _, err := Checkpoint(t.Context(), src, src.Dir, &RTN{Group: 32}, o); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v, want fs.ErrExist", err)
	}
	o.Overwrite = true
	if _, err := Checkpoint(t.Context(), src, src.Dir, &RTN{Group: 32}, o); err != nil {
		t.Errorf("overwriting the source itself: %v", err)
	}
}
