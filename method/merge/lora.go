package merge

import (
	"errors"
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
	a := &adapter{opened, map[string]pair{}, map[string]string{}}
	if err := a.read(model); err != nil {
		opened.Close()
		return nil, fmt.Errorf("adapter %s: %w", dir, err)
	}
	return a, nil
}

// errAdapter marks adapters that cannot be laid over a model.
var errAdapter = errors.New("the adapter cannot be merged")

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
	for _, p := range a.pairs {
		if err := a.finite(p); err != nil {
			return err
		}
	}
	return nil
}

// finite refuses factors with NaN or Inf.
func (a *adapter) finite(p pair) error {
	for _, name := range []string{p.a, p.b} {
		t, err := a.Tensor(name)
		if err != nil {
			return err
		}
		if i := t.FirstNonFinite(); i >= 0 {
			return fmt.Errorf("%w: tensor %q holds NaN or Inf at index %d", checkpoint.ErrNonFinite, name, i)
		}
	}
	return nil
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
		own, err := a.Tensor(whole)
		if err != nil {
			return nil, err
		}
		if size(own.Shape()) != t.Len() {
			return nil, fmt.Errorf("merge: %w: tensor %q is %v, %v in the model", errAdapter, whole, own.Shape(), t.Shape())
		}
		return own, nil
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
	// The weights of an embedding and of a layer that is stored by inputs lie across:
	// their change is (B A)ᵀ = Aᵀ Bᵀ.
	if across, _ := a.Config["fan_in_fan_out"].(bool); across || p.embedding {
		left, right = right.transposed(), left.transposed()
	}
	shape := t.Shape()
	if len(shape) != 2 || left.rows != shape[0] || right.columns != shape[1] || left.columns != right.rows {
		return nil, fmt.Errorf("merge: %w: %s [%d, %d] and %s [%d, %d] do not fit tensor %q %v", errAdapter,
			p.b, left.rows, left.columns, p.a, right.rows, right.columns, name, shape)
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
	if len(t.Shape()) != 2 {
		return matrix{}, fmt.Errorf("merge: %w: tensor %q is %v, want a matrix", errAdapter, name, t.Shape())
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
