package adapt

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// The folder as PEFT lays it out, read without this package.
func TestSavedFolderIsPEFTs(t *testing.T) {
	m := newTiny(t)
	a, err := Attach(m, named(t, "lora"), &LoRA{Rank: 2, Alpha: 4}, []string{"v_proj", "q_proj"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := a.Save(dir, "org/base"); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "adapter_config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(data, &config); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "org/base", "inference_mode": true, "bias": "none",
		"target_modules": []any{"q_proj", "v_proj"}, "r": 2.0, "lora_alpha": 4.0,
	} {
		if !reflect.DeepEqual(config[key], want) {
			t.Errorf("%s is %v, want %v", key, config[key], want)
		}
	}
	f, err := checkpoint.Open(filepath.Join(dir, "adapter_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, shape := range map[string][]int{
		"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": {2, 16},
		"base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight": {8, 2},
	} {
		if info, ok := f.Info(name); !ok || !reflect.DeepEqual(info.Shape, shape) || info.DType != tensor.F32 {
			t.Errorf("%s: %+v, want F32 %v", name, info, shape)
		}
	}
	if len(f.Names()) != 8 {
		t.Errorf("%d tensors, want 2 of each of 4 layers", len(f.Names()))
	}
}

func TestSavedTargets(t *testing.T) {
	for _, c := range []struct {
		targets []string
		want    any
	}{
		{[]string{`.*layers\.1\.mlp\.(up|down)_proj`}, `.*layers\.1\.mlp\.(up|down)_proj`},
		{nil, []string{"down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"}},
		{[]string{AllLinear}, []string{"down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"}},
		{[]string{"layers.1.mlp.up_proj", "q_proj", "q_proj"}, []string{"layers.1.mlp.up_proj", "q_proj"}},
	} {
		m := newTiny(t)
		a, err := Attach(m, named(t, "lora"), &LoRA{Rank: 2, Alpha: 4}, c.targets, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.savedTargets(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v is saved as %v, want %v", c.targets, got, c.want)
		}
		dir := filepath.Join(t.TempDir(), "a")
		if err := a.Save(dir, ""); err != nil {
			t.Fatal(err)
		}
		b, err := Load(dir, newTiny(t))
		if err != nil {
			t.Fatal(err)
		}
		if len(a.Layers) != len(b.Layers) {
			t.Errorf("%v: %d layers saved, %d loaded", c.targets, len(a.Layers), len(b.Layers))
		}
	}
}

// saved writes an adapter of v_proj by hand.
func saved(t *testing.T, config map[string]any, tensors map[string]*tensor.Tensor) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "adapter")
	all := map[string]any{"peft_type": "LORA", "r": 2.0, "lora_alpha": 2.0, "target_modules": []string{"v_proj"}}
	for k, v := range config {
		all[k] = v
	}
	var list []checkpoint.NamedTensor
	for name, x := range tensors {
		list = append(list, checkpoint.NamedTensor{Name: name, Tensor: x})
	}
	if err := checkpoint.SaveAdapter(dir, all, list); err != nil {
		t.Fatal(err)
	}
	return dir
}

// loraTensors returns the tensors of LoRA of rank 2 on both v_proj [8, 16].
func loraTensors() map[string]*tensor.Tensor {
	return map[string]*tensor.Tensor{
		"base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight": tensor.New(2, 16),
		"base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight": tensor.New(8, 2),
		"base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight": tensor.New(2, 16),
		"base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight": tensor.New(8, 2),
	}
}

func TestForeignAdaptersAreRefused(t *testing.T) {
	const layer0 = "base_model.model.model.layers.0.self_attn.v_proj."
	with := func(name string, x *tensor.Tensor) map[string]*tensor.Tensor {
		all := loraTensors()
		if x == nil {
			delete(all, name)
		} else {
			all[name] = x
		}
		return all
	}
	nan := tensor.New(2, 16)
	nan.F32()[3] = float32(math.NaN())
	for name, c := range map[string]struct {
		config  map[string]any
		tensors map[string]*tensor.Tensor
		says    string
	}{
		"unknown kind":          {map[string]any{"peft_type": "IA3"}, loraTensors(), `"IA3" is not known (known: `},
		"no kind":               {map[string]any{"peft_type": nil}, loraTensors(), "peft_type"},
		"saved modules":         {map[string]any{"modules_to_save": []string{"lm_head"}}, loraTensors(), "modules_to_save"},
		"layers to transform":   {map[string]any{"layers_to_transform": []int{0}}, loraTensors(), "layers_to_transform"},
		"biases":                {map[string]any{"bias": "all"}, loraTensors(), "bias"},
		"DoRA without lengths":  {map[string]any{"use_dora": true}, loraTensors(), "lora_magnitude_vector"},
		"changed base":          {map[string]any{"init_lora_weights": "pissa_niter_4"}, loraTensors(), "pissa_niter_4"},
		"DoRA on changed base":  {map[string]any{"init_lora_weights": "olora", "use_dora": true}, loraTensors(), "olora"},
		"no targets":            {map[string]any{"target_modules": nil}, loraTensors(), "target_modules"},
		"targets of numbers":    {map[string]any{"target_modules": []int{1}}, loraTensors(), "target_modules"},
		"targets of no layer":   {map[string]any{"target_modules": []string{"c_attn"}}, loraTensors(), "c_attn"},
		"lookahead":             {map[string]any{"target_modules": "(?!x)y"}, loraTensors(), "target modules"},
		"rank of nothing":       {map[string]any{"r": -1}, loraTensors(), "rank -1"},
		"two ranks of a layer":  {map[string]any{"rank_pattern": map[string]int{"v_proj": 2, "layers.0.self_attn.v_proj": 3}}, loraTensors(), "leave one of them out"},
		"rank of no number":     {map[string]any{"rank_pattern": map[string]any{"v_proj": "two"}}, loraTensors(), "rank_pattern"},
		"pattern of no pattern": {map[string]any{"alpha_pattern": map[string]any{"v_proj(": 2}}, loraTensors(), "alpha_pattern"},
		"other rank by pattern": {map[string]any{"rank_pattern": map[string]any{"v_proj": 3}}, loraTensors(), "[2 16]"},
		"missing tensor":        {nil, with(layer0+"lora_B.weight", nil), "lora_B.weight"},
		"tensor of other layer": {nil, with("base_model.model.model.layers.9.self_attn.v_proj.lora_A.weight", tensor.New(2, 16)), "layers.9"},
		"tensor without prefix": {nil, with("model.layers.0.self_attn.v_proj.lora_A.weight", tensor.New(2, 16)), `"model.layers.0`},
		"tensor of a variant":   {nil, with(layer0+"lora_magnitude_vector", tensor.New(8)), "lora_magnitude_vector"},
		"other rank":            {nil, with(layer0+"lora_A.weight", tensor.New(3, 16)), "[3 16]"},
		"transposed":            {nil, with(layer0+"lora_A.weight", tensor.New(16, 2)), "[16 2]"},
		"NaN":                   {nil, with(layer0+"lora_A.weight", nan), "entry 3"},
		"nothing at all":        {nil, nil, "layers.0.self_attn.v_proj"},
		"Bone of no form":       {map[string]any{"peft_type": "BONE", "init_weights": "mini"}, loraTensors(), "mini"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newTiny(t)
			want := logits(m)
			_, err := Load(saved(t, c.config, c.tensors), m)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %s", err, c.says)
			}
			if d := distance(logits(m), want); d > 0 {
				t.Errorf("the model moved by %g", d)
			}
			for _, l := range m.Linears() {
				if _, ok := l.Weight.(nn.Dense); !ok {
					t.Errorf("%s is left as %T", l.Name, l.Weight)
				}
			}
		})
	}
	if _, err := Load(t.TempDir(), newTiny(t)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
}

// Bone's block is found under either of PEFT's names, whichever the config says.
func TestBoneFilesOfBothNames(t *testing.T) {
	block := tensor.New(2, 8)
	for i := range block.F32() {
		block.F32()[i] = float32(i)
	}
	for _, kind := range []string{"BONE", "MISS"} {
		for _, name := range []string{"bone_block", "miss_block"} {
			m := newTiny(t)
			a, err := Load(saved(t, map[string]any{"peft_type": kind, "init_weights": true}, map[string]*tensor.Tensor{
				"base_model.model.model.layers.0.self_attn.v_proj." + name: block,
				"base_model.model.model.layers.1.self_attn.v_proj." + name: block,
			}), m)
			if err != nil {
				t.Errorf("%s %s: %v", kind, name, err)
				continue
			}
			if !reflect.DeepEqual(a.Params()[1].Value.F32(), block.F32()) {
				t.Errorf("%s %s: %v", kind, name, a.Params()[1].Value.F32())
			}
		}
	}
}

// The authors' files: columns in the order they were drawn, scaled by r/alpha.
func TestPaCAFileOfTheAuthors(t *testing.T) {
	index := tensor.NewOf(tensor.I64, 2)
	copy(index.I64(), []int64{9, 4})
	w := tensor.New(8, 2)
	for i := range w.F32() {
		w.F32()[i] = float32(i + 1)
	}
	tensors := map[string]*tensor.Tensor{}
	for _, layer := range []string{"0", "1"} {
		at := "base_model.model.model.layers." + layer + ".self_attn.v_proj."
		tensors[at+"paca_w"], tensors[at+"paca_indices"] = w, index
	}
	m := newTiny(t)
	v := m.Layers[1].V
	before, err := nn.Materialize(v.Weight)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(saved(t, map[string]any{"peft_type": "PACA", "paca_alpha": 6}, tensors), m); err != nil {
		t.Fatal(err)
	}
	after, err := nn.Materialize(v.Weight)
	if err != nil {
		t.Fatal(err)
	}
	for row := range 8 {
		for col := range 16 {
			want := before.F32()[row*16+col]
			switch col { // W[:, C] = alpha/r · paca_w
			case 9:
				want = 3 * float32(2*row+1)
			case 4:
				want = 3 * float32(2*row+2)
			}
			if got := after.F32()[row*16+col]; got != want {
				t.Errorf("W[%d, %d] = %g, want %g", row, col, got, want)
			}
		}
	}
	index.I64()[0] = 16
	if _, err := Load(saved(t, map[string]any{"peft_type": "PACA"}, tensors), newTiny(t)); err == nil || !strings.Contains(err.Error(), "16") {
		t.Errorf("an index past the columns: %v", err)
	}
}
