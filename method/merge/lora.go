package merge

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"tare/engine/checkpoint"
	"tare/engine/tensor"
)

// adapter is a LoRA adapter that is laid over a model while its tensors are read.
type adapter struct {
	*checkpoint.Adapter
	dir      string
	pairs    map[string]pair   // by the model's tensor
	replaced map[string]string // tensors that the adapter holds whole
}

// pair names the factors of one tensor's change.
type pair struct {
	a, b      string
	embedding bool
	scale     float32
}

// openAdapter opens a PEFT folder and finds which of the model's tensors it changes.
func openAdapter(dir string, model *checkpoint.Folder) (*adapter, error) {
	opened, err := checkpoint.OpenAdapter(dir)
	if err != nil {
		return nil, err
	}
	a := &adapter{opened, dir, map[string]pair{}, map[string]string{}}
	if err := a.read(model); err != nil {
		opened.Close()
		return nil, fmt.Errorf("adapter %s: %w", dir, err)
	}
	return a, nil
}

// errAdapter marks adapters that cannot be laid over a model.
var errAdapter = fmt.Errorf("%w: the adapter cannot be laid over the model", ErrMismatch)

func (a *adapter) read(model *checkpoint.Folder) error {
	if kind, _ := a.Config["peft_type"].(string); kind != "LORA" {
		return fmt.Errorf("%w: peft_type is %v, only LORA is; merge it into its base first", errAdapter, a.Config["peft_type"])
	}
	if dora, _ := a.Config["use_dora"].(bool); dora {
		return fmt.Errorf("%w: it scales magnitudes (use_dora); merge it into its base first", errAdapter)
	}
	for _, name := range a.Names() {
		module, factor, ok := cutFactor(strings.TrimPrefix(name, "base_model.model."))
		target, err := targetOf(module, ok, model)
		if err != nil {
			return err
		}
		switch factor {
		case "":
			a.replaced[target] = name
		case "lora_A.weight", "lora_embedding_A":
			scale, err := a.scale(module)
			if err != nil {
				return err
			}
			embedding := factor == "lora_embedding_A"
			p := pair{a: name, b: strings.Replace(strings.Replace(name, "lora_A", "lora_B", 1), "embedding_A", "embedding_B", 1), embedding: embedding, scale: scale}
			if _, ok := a.Info(p.b); !ok {
				return fmt.Errorf("%w: %s has no %s beside it", errAdapter, name, p.b)
			}
			a.pairs[target] = p
		}
	}
	return a.check(model)
}

// check refuses factors that do not fit the model's tensors or hold NaN or Inf.
func (a *adapter) check(model *checkpoint.Folder) error {
	for _, target := range slices.Sorted(maps.Keys(a.pairs)) {
		p := a.pairs[target]
		left, _ := a.Info(p.b)
		right, _ := a.Info(p.a)
		want, _ := model.Info(target)
		shape := slices.Clone(want.Shape)
		if a.across(p) {
			slices.Reverse(shape)
		}
		if len(shape) != 2 || len(left.Shape) != 2 || len(right.Shape) != 2 || left.Shape[0] != shape[0] || right.Shape[1] != shape[1] || left.Shape[1] != right.Shape[0] {
			return fmt.Errorf("%w: %s %v and %s %v do not fit tensor %q %v", errAdapter, p.b, left.Shape, p.a, right.Shape, target, want.Shape)
		}
		for _, name := range []string{p.a, p.b} {
			t, err := a.Tensor(name)
			if err != nil {
				return err
			}
			if i := t.FirstNonFinite(); i >= 0 {
				return fmt.Errorf("%w: tensor %q holds NaN or Inf at index %d", checkpoint.ErrNonFinite, name, i)
			}
		}
	}
	for _, target := range slices.Sorted(maps.Keys(a.replaced)) {
		own, _ := a.Info(a.replaced[target])
		if want, _ := model.Info(target); !slices.Equal(own.Shape, want.Shape) {
			return fmt.Errorf("%w: tensor %q is %v, %v in the model", errAdapter, a.replaced[target], own.Shape, want.Shape)
		}
	}
	return nil
}

// across reports whether a tensor lies across, as those of an embedding and of a layer
// that is stored by inputs do: its change is (B A)ᵀ = Aᵀ Bᵀ.
func (a *adapter) across(p pair) bool {
	byInputs, _ := a.Config["fan_in_fan_out"].(bool)
	return byInputs || p.embedding
}

// cutFactor cuts the name of a factor off that of its module; ok is false for a tensor
// that is held whole.
func cutFactor(name string) (module, factor string, ok bool) {
	for _, f := range []string{"lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B"} {
		if module, ok := strings.CutSuffix(name, "."+f); ok {
			return module, f, true
		}
	}
	return name, "", false
}

// targetOf finds the model's tensor: the module's weight, or for a tensor held whole the
// tensor itself. A model saved without its outermost module is met by what it has of the
// name.
func targetOf(name string, module bool, model *checkpoint.Folder) (string, error) {
	if module {
		name += ".weight"
	}
	for rest, more := name, true; more; _, rest, more = strings.Cut(rest, ".") {
		if _, ok := model.Info(rest); ok {
			return rest, nil
		}
	}
	return "", fmt.Errorf("%w: the model has no tensor %q", errAdapter, name)
}

// scale returns α/r of a module, or α/√r where the adapter is rank-stabilised.
func (a *adapter) scale(module string) (float32, error) {
	r, err := a.number("r", "rank_pattern", module)
	if err != nil {
		return 0, err
	}
	alpha, err := a.number("lora_alpha", "alpha_pattern", module)
	if err != nil {
		return 0, err
	}
	if r <= 0 {
		return 0, fmt.Errorf("%w: r is %g", errAdapter, r)
	}
	if stable, _ := a.Config["use_rslora"].(bool); stable {
		return float32(alpha / math.Sqrt(r)), nil
	}
	return float32(alpha / r), nil
}

// number returns a setting of a module: that of the first pattern that its name ends
// in, as PEFT matches, else the common one.
func (a *adapter) number(key, patterns, module string) (float64, error) {
	if special, _ := a.Config[patterns].(map[string]any); special != nil {
		for _, pattern := range slices.Sorted(maps.Keys(special)) {
			n, isNumber := special[pattern].(float64)
			re, err := regexp.Compile(`(?:^|.*\.)(?:` + pattern + `)$`)
			if err != nil {
				return 0, fmt.Errorf("%w: %s: %w", errAdapter, patterns, err)
			}
			if isNumber && re.MatchString(module) {
				return n, nil
			}
		}
	}
	n, ok := a.Config[key].(float64)
	if !ok {
		return 0, fmt.Errorf("%w: adapter_config.json has no %s", errAdapter, key)
	}
	return n, nil
}

// over lays the adapter over a tensor of the model.
func (a *adapter) over(name string, t *tensor.Tensor) (view, error) {
	if whole, ok := a.replaced[name]; ok {
		return a.Tensor(whole)
	}
	p, ok := a.pairs[name]
	if !ok {
		return t, nil
	}
	left, err := a.matrix(p.b)
	if err != nil {
		return nil, err
	}
	right, err := a.matrix(p.a)
	if err != nil {
		return nil, err
	}
	if a.across(p) {
		left, right = right.transposed(), left.transposed()
	}
	return &lowRank{t, left.v, right.v, left.columns, right.columns, p.scale}, nil
}

// matrix is a factor in f32.
type matrix struct {
	v             []float32
	rows, columns int
}

func (a *adapter) matrix(name string) (matrix, error) {
	t, err := a.Tensor(name)
	if err != nil {
		return matrix{}, err
	}
	v, err := t.Float32s()
	return matrix{v, t.Dim(0), t.Dim(1)}, err
}

func (x matrix) transposed() matrix {
	y := matrix{make([]float32, len(x.v)), x.columns, x.rows}
	for i, v := range x.v {
		y.v[i%x.columns*x.rows+i/x.columns] = v
	}
	return y
}
