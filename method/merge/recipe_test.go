package merge

import (
	"errors"
	"math"
	"strings"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/tensor"
)

const gradientRecipe = `
merge_method: linear
models:
  - model: first
    parameters:
      weight:
        - filter: self_attn
          value: [0, 0.5, 1]   # by depth
        - filter: mlp
          value: 0.25
        - value: 2
  - model: ../second
    parameters:
      weight: [1, 3]
  - model: third
parameters:
  weight:
    - filter: lm_head
      value: 7
  normalize: false
dtype: bfloat16
out_dtype: float32
tokenizer_source: third
`

func TestParseRecipe(t *testing.T) {
	r, err := ParseRecipe([]byte(gradientRecipe))
	if err != nil {
		t.Fatal(err)
	}
	if r.Method.Name != "linear" || len(r.Slices) != 1 || len(r.Slices[0].Sources) != 3 || r.Slices[0].Sources[1].Model != "../second" ||
		r.DType != "BF16" || r.OutDType != "F32" || r.Tokenizer.Source != "third" || r.Base != "" || r.Text != gradientRecipe {
		t.Errorf("read as %+v", r)
	}
	r.Dir = "/a/b"
	if got := r.resolve("../second"); got != "/a/second" {
		t.Errorf("../second lies at %s", got)
	}
}

// By hand: a gradient of n values at depth t lies at t(n−1) between its neighbours;
// the first rule that matches counts; what the model does not say the common
// parameters do, and else the standard weight 1 holds. Tensors outside the layers lie
// at depth 0, as in mergekit.
func TestParametersByTensor(t *testing.T) {
	r, err := ParseRecipe([]byte(gradientRecipe))
	if err != nil {
		t.Fatal(err)
	}
	s := &r.Slices[0]
	var sources []*Source
	for i := range s.Sources {
		sources = append(sources, &s.Sources[i])
	}
	for _, c := range []struct {
		name    string
		depth   float64
		weights [3]float64
	}{
		{"model.embed_tokens.weight", 0, [3]float64{2, 1, 1}},
		{"model.layers.0.self_attn.q_proj.weight", 0, [3]float64{0, 1, 1}},
		{"model.layers.1.self_attn.q_proj.weight", 0.25, [3]float64{0.25, 1.5, 1}},
		{"model.layers.3.self_attn.q_proj.weight", 0.75, [3]float64{0.75, 2.5, 1}},
		{"model.layers.4.self_attn.q_proj.weight", 1, [3]float64{1, 3, 1}},
		{"model.layers.2.mlp.up_proj.weight", 0.5, [3]float64{0.25, 2, 1}},
		{"model.norm.weight", 0, [3]float64{2, 1, 1}},
		{"lm_head.weight", 0, [3]float64{2, 1, 7}},
	} {
		models, global, err := r.params(s, c.name, sources, []string{c.name, c.name, c.name}, c.depth)
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := global["normalize"]; !ok || v != 0 {
			t.Errorf("%s: normalize is %g, %v", c.name, v, ok)
		}
		for i, want := range c.weights {
			if got := models[i]["weight"]; math.Abs(got-want) > 1e-15 {
				t.Errorf("%s, model %d: weight %g, want %g", c.name, i, got, want)
			}
		}
	}
}

func TestDepths(t *testing.T) {
	dir := t.TempDir()
	want := map[string]float64{"transformer.wte.weight": 0, "transformer.h.0.attn.weight": 0, "transformer.h.2.attn.weight": 1, "transformer.h.1.attn.weight": 0.5,
		"transformer.ln_f.weight": 0, "vision.blocks.0.weight": 1 /* a lone layer */, "1234567890123.weight": 0}
	var tensors []checkpoint.NamedTensor
	for name := range want {
		tensors = append(tensors, named(name, tensor.F32, []float32{1}, 1))
	}
	put(t, dir, "a", tensors...)
	m := &merger{recipe: *recipe(t, dir, "merge_method: linear\nmodels: [{model: a}]")}
	defer m.close()
	if err := m.open(); err != nil {
		t.Fatal(err)
	}
	planned, err := m.tensors()
	if err != nil || len(planned) != len(want) {
		t.Fatalf("%d tensors, %v", len(planned), err)
	}
	for _, p := range planned {
		if p.depth != want[p.name] {
			t.Errorf("%s lies at %g, want %g", p.name, p.depth, want[p.name])
		}
	}
}

func TestRecipeErrors(t *testing.T) {
	const models = "models: [{model: a}]\n"
	for _, c := range []struct{ name, text, want string }{
		{"key", models + "merge_metod: linear", `line 2: merge_metod: unknown key, did you mean "merge_method"?`},
		{"method", "merge_method: task_aritmetic\n" + models, `line 1: merge_method: unknown method "task_aritmetic", did you mean "task_arithmetic"?`},
		{"strange method", "merge_method: zzzzzzzzz\n" + models, "known: linear, passthrough, slerp"},
		{"no method", models, "merge_method is missing"},
		{"empty method", "merge_method:\n" + models, "merge_method: is empty"},
		{"no models", "merge_method: linear", "models is missing"},
		{"models that are none", "merge_method: linear\nmodels: []", "line 2: models: want a list"},
		{"no base", "merge_method: task_arithmetic\n" + models, "task_arithmetic needs a base_model"},
		{"parameter", "merge_method: linear\nmodels:\n- model: a\n  parameters:\n    wieght: 1", `line 5: models[0].parameters.wieght: unknown parameter of linear, did you mean "weight"?`},
		{"misplaced", "merge_method: linear\nnormalize: true\n" + models, "line 2: normalize: unknown key; it belongs under parameters"},
		{"global one in a model", "merge_method: linear\nmodels:\n- model: a\n  parameters: {normalize: 1}", "normalize: is set for the whole merge"},
		{"model key", "merge_method: linear\nmodels:\n- modle: a", `models[0].modle: unknown key, did you mean "model"?`},
		{"no slices", "merge_method: linear\nslices: []", "line 2: slices: want a list"},
		{"modules", "merge_method: linear\nmodules: {}\n" + models, "merging by module is not supported"},
		{"models and slices", "merge_method: linear\nslices: [{sources: [{model: a, layer_range: [0, 1]}]}]\n" + models, "stands beside models"},
		{"no layers", "merge_method: linear\nslices: [{sources: [{model: a}]}]", "needs a layer_range"},
		{"layers turned round", "merge_method: linear\nslices: [{sources: [{model: a, layer_range: [4, 2]}]}]", "want two numbers of layers"},
		{"uneven layers", "merge_method: linear\nslices: [{sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [0, 3]}]}]", "have 2 and 3 layers"},
		{"base beside slices", "merge_method: slerp\nbase_model: c\nparameters: {t: 1}\nslices: [{sources: [{model: a, layer_range: [0, 2]}]}]", "the base_model c is not among the sources"},
		{"tokenizer of a stranger", "merge_method: linear\ntokenizer_source: b\n" + models, `"b" is neither base, union nor a model`},
		{"two tokenizers", "merge_method: linear\ntokenizer_source: a\ntokenizer: {source: a}\n" + models, "stands beside tokenizer_source"},
		{"tokenizer key", "merge_method: linear\ntokenizer: {sauce: a}\n" + models, `did you mean "source"?`},
		{"token without source", "merge_method: linear\ntokenizer: {tokens: {x: {force: true}}}\n" + models, "tokenizer.tokens.x: needs a source"},
		{"token of two sources", "merge_method: linear\ntokenizer: {tokens: {x: {source: {kind: zero, model: a}}}}\n" + models, "want kind: zero, or kind: model_token"},
		{"too many", "merge_method: slerp\nbase_model: b\nmodels: [{model: a}, {model: b}, {model: c}]\nparameters: {t: 0}", "slerp takes at most 1 beside the base, 2 listed"},
		{"too few", "merge_method: model_stock\nbase_model: b\nmodels: [{model: a}, {model: b}]", "model_stock needs at least 2 beside the base, 1 listed"},
		{"twice one model", "merge_method: ties\nbase_model: b\nmodels: [{model: a}, {model: ./a}]", "ties merges different models, and ./a is listed twice"},
		{"base of linear", "merge_method: linear\nbase_model: b\n" + models, "linear has no base and merges b as one more model"},
		{"dtype", "merge_method: linear\ndtype: int8\n" + models, `line 2: dtype: "int8" is no type to store a merge in`},
		{"text for a number", "merge_method: linear\nmodels:\n- model: a\n  parameters: {weight: much}", `weight: "much" is no finite number`},
		{"nan", "merge_method: linear\nmodels:\n- model: a\n  parameters: {weight: .nan}", "is no finite number"},
		{"empty gradient", "merge_method: linear\nmodels:\n- model: a\n  parameters: {weight: []}", "an empty list"},
		{"condition without value", "merge_method: linear\nmodels:\n- model: a\n  parameters: {weight: [{filter: x}]}", "weight[0]: a condition needs a value"},
		{"condition's key", "merge_method: linear\nmodels:\n- model: a\n  parameters: {weight: [{filtre: x, value: 1}]}", `did you mean "filter"?`},
		{"mixed list", "merge_method: linear\nmodels:\n- model: a\n  parameters: {weight: [{value: 1}, 2]}", `weight[1]: "2" where keys and values`},
		{"alias", "merge_method: linear\nmodels:\n- model: a\n  parameters: {weight: &x 1}", "an anchor or alias"},
		{"syntax", "merge_method: [linear\n", "line 1"},
		{"twice", "merge_method: linear\nmerge_method: linear\n" + models, "line 2"},
		{"two documents", "merge_method: linear\n---\nmerge_method: linear", "2 YAML documents"},
		{"nothing", "", "0 YAML documents"},
		{"a list", "- a", "a list where keys and values"},
		{"deep", strings.Repeat("[", 1000), "more than 64 brackets"},
		{"long", strings.Repeat("x", maxRecipe+1), "at most"},
	} {
		r, err := ParseRecipe([]byte(c.text))
		if !errors.Is(err, ErrRecipe) || !strings.Contains(err.Error(), c.want) || r != nil {
			t.Errorf("%s: %v, want it to say %q", c.name, err, c.want)
		}
	}
}

func TestRecipeErrorsAllAtOnce(t *testing.T) {
	_, err := ParseRecipe([]byte("merge_method: linear\ndtype: x\nfoo: 1\nmodels:\n- {}\n"))
	for _, want := range []string{"dtype", "foo", "models[0]"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func TestInertParameters(t *testing.T) {
	r, err := ParseRecipe([]byte("merge_method: linear\nparameters: {int8_mask: true, normalize: true}\nmodels: [{model: a}]"))
	if err != nil || len(r.Parameters) != 1 {
		t.Errorf("%v, %v", r, err)
	}
}

func FuzzParseRecipe(f *testing.F) {
	f.Add([]byte(gradientRecipe))
	f.Add([]byte("merge_method: task_arithmetic\nbase_model: b\nmodels: [{model: a, parameters: {weight: [1, true]}}]"))
	f.Add([]byte("merge_method: passthrough\nslices:\n- sources: [{model: a, layer_range: [0, 2], parameters: {scale: [{filter: x, value: 0}, {value: 1}]}}]\n  parameters: {scale: 2}"))
	f.Add([]byte("merge_method: linear\nmodels: [{model: a}]\ntokenizer: {source: union, pad_to_multiple_of: 8, tokens: {x: {source: {kind: model_token, model: a, token_id: 3}, force: true}}}"))
	f.Add([]byte("a: &x [*x]\n? b\n: !!float |\n  1"))
	f.Add([]byte("- - - {"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseRecipe(text)
		if (r == nil) != (err != nil) || err != nil && !errors.Is(err, ErrRecipe) {
			t.Fatalf("%v, %v", r, err)
		}
		if r == nil {
			return
		}
		for i := range r.Slices {
			s := &r.Slices[i]
			name := "model.layers.3.mlp"
			for _, depth := range []float64{0, 0.3, 1} {
				models, global, err := r.params(s, name, []*Source{&s.Sources[0]}, []string{name}, depth)
				if err != nil {
					continue
				}
				for _, p := range append(models, global) {
					for key, v := range p {
						if math.IsNaN(v) {
							t.Fatalf("%s is %g at depth %g", key, v, depth)
						}
					}
				}
			}
		}
	})
}
