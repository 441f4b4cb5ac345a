package merge

import (
	"errors"
	"math"
	"strings"
	"testing"
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
	if r.Method.Name != "linear" || len(r.Models) != 3 || r.Models[1].Model != "../second" || r.DType != "BF16" ||
		r.OutDType != "F32" || r.Tokenizer != "third" || r.Base != "" || r.Text != gradientRecipe {
		t.Errorf("read as %+v", r)
	}
	r.Dir = "/a/b"
	if got := r.resolve("../second"); got != "/a/second" {
		t.Errorf("../second lies at %s", got)
	}
}

// By hand: a gradient of n values at depth t lies at t(n−1) between its neighbours;
// the first rule that matches counts; what the model does not say the common
// parameters do.
func TestParametersByTensor(t *testing.T) {
	r, err := ParseRecipe([]byte(gradientRecipe))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
	for _, layer := range []string{"0", "1", "2", "3", "4"} {
		names = append(names, "model.layers."+layer+".self_attn.q_proj.weight", "model.layers."+layer+".mlp.up_proj.weight")
	}
	depth := depths(names)
	none := math.NaN()
	for _, c := range []struct {
		name    string
		depth   float64
		weights [3]float64
	}{
		{"model.embed_tokens.weight", 0, [3]float64{2, 1, none}},
		{"model.layers.0.self_attn.q_proj.weight", 0, [3]float64{0, 1, none}},
		{"model.layers.1.self_attn.q_proj.weight", 0.25, [3]float64{0.25, 1.5, none}},
		{"model.layers.3.self_attn.q_proj.weight", 0.75, [3]float64{0.75, 2.5, none}},
		{"model.layers.4.self_attn.q_proj.weight", 1, [3]float64{1, 3, none}},
		{"model.layers.2.mlp.up_proj.weight", 0.5, [3]float64{0.25, 2, none}},
		{"model.norm.weight", 1, [3]float64{2, 3, none}},
		{"lm_head.weight", 1, [3]float64{2, 3, 7}},
	} {
		if depth[c.name] != c.depth {
			t.Errorf("%s lies at %g, want %g", c.name, depth[c.name], c.depth)
		}
		models, global := r.params(c.name, depth[c.name])
		if v, ok := global["normalize"]; !ok || v != 0 {
			t.Errorf("%s: normalize is %g, %v", c.name, v, ok)
		}
		for i, want := range c.weights {
			got, ok := models[i]["weight"]
			if ok == math.IsNaN(want) || ok && math.Abs(got-want) > 1e-15 {
				t.Errorf("%s, model %d: weight %g (set: %v), want %g", c.name, i, got, ok, want)
			}
		}
	}
}

func TestDepthOfOtherNames(t *testing.T) {
	got := depths([]string{"transformer.wte.weight", "transformer.h.0.attn.weight", "transformer.h.2.attn.weight", "transformer.ln_f.weight",
		"vision.blocks.0.weight", "1234567890123.weight"})
	for name, want := range map[string]float64{"transformer.wte.weight": 0, "transformer.h.0.attn.weight": 0, "transformer.h.2.attn.weight": 1,
		"transformer.ln_f.weight": 1, "vision.blocks.0.weight": 1 /* a lone layer */, "1234567890123.weight": 1} {
		if got[name] != want {
			t.Errorf("%s lies at %g, want %g", name, got[name], want)
		}
	}
}

func TestRecipeErrors(t *testing.T) {
	const models = "models: [{model: a}]\n"
	for _, c := range []struct{ name, text, want string }{
		{"key", models + "merge_metod: linear", `line 2: merge_metod: unknown key, did you mean "merge_method"?`},
		{"method", "merge_method: task_aritmetic\n" + models, `line 1: merge_method: unknown method "task_aritmetic", did you mean "task_arithmetic"?`},
		{"strange method", "merge_method: zzzzzzzzz\n" + models, "known: linear, task_arithmetic"},
		{"no method", models, "merge_method is missing"},
		{"empty method", "merge_method:\n" + models, "merge_method: is empty"},
		{"no models", "merge_method: linear", "models is missing"},
		{"models that are none", "merge_method: linear\nmodels: []", "line 2: models: want a list"},
		{"no base", "merge_method: task_arithmetic\n" + models, "task_arithmetic needs a base_model"},
		{"parameter", "merge_method: linear\nmodels:\n- model: a\n  parameters:\n    wieght: 1", `line 5: models[0].parameters.wieght: unknown parameter of linear, did you mean "weight"?`},
		{"misplaced", "merge_method: linear\nnormalize: true\n" + models, "line 2: normalize: unknown key; it belongs under parameters"},
		{"global one in a model", "merge_method: linear\nmodels:\n- model: a\n  parameters: {normalize: 1}", "normalize: is set for the whole merge"},
		{"model key", "merge_method: linear\nmodels:\n- modle: a", `models[0].modle: unknown key, did you mean "model"?`},
		{"slices", "merge_method: linear\nslices: []", "line 2: slices: stacking slices of models is not supported"},
		{"union", "merge_method: linear\ntokenizer_source: union\n" + models, "a union of vocabularies is not supported"},
		{"tokenizer of a stranger", "merge_method: linear\ntokenizer_source: b\n" + models, `"b" is neither base nor the path of a model`},
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
		for _, depth := range []float64{0, 0.3, 1} {
			models, global := r.params("model.layers.3.mlp", depth)
			for _, p := range append(models, global) {
				for name, v := range p {
					if math.IsNaN(v) {
						t.Fatalf("%s is %g at depth %g", name, v, depth)
					}
				}
			}
		}
	})
}
