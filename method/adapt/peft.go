package adapt

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"tare/engine/checkpoint"
	"tare/engine/tensor"
)

// peftPrefix stands before a layer's name in the tensors of a PEFT file.
const peftPrefix = "base_model.model."

// Save writes the adapter as a PEFT folder: adapter_config.json and
// adapter_model.safetensors. base is the name or path of the model it belongs to.
func (a *Adapter) Save(dir, base string) error {
	config := map[string]any{
		"task_type": "CAUSAL_LM", "base_model_name_or_path": base,
		"target_modules": a.savedTargets(), "inference_mode": true, "bias": "none",
	}
	if len(a.Method.PEFT) > 0 {
		config["peft_type"] = a.Method.PEFT[0]
	}
	for key, v := range a.Options.Config() {
		config[key] = v
	}
	var tensors []checkpoint.NamedTensor
	if s, ok := a.Options.(Sharer); ok {
		for _, n := range s.Shared() {
			tensors = append(tensors, checkpoint.NamedTensor{Name: sharedPrefix + n.Name, Tensor: n.Tensor})
		}
	}
	for i, l := range a.Layers {
		for _, s := range a.Holds[i].State() {
			name := peftPrefix + l.Name + "." + s.Name
			if at := s.Tensor.FirstNonFinite(); at >= 0 {
				return fmt.Errorf("adapt: save %s: entry %d is NaN or Inf: %w", name, at, checkpoint.ErrNonFinite)
			}
			tensors = append(tensors, checkpoint.NamedTensor{Name: name, Tensor: s.Tensor})
		}
	}
	for _, p := range a.Beside {
		if at := p.Value.FirstNonFinite(); at >= 0 {
			return fmt.Errorf("adapt: save %s: entry %d is NaN or Inf: %w", p.Name, at, checkpoint.ErrNonFinite)
		}
		tensors = append(tensors, checkpoint.NamedTensor{Name: peftPrefix + p.Name, Tensor: p.Value})
		if ofHead(p.Name) {
			config["task_type"], config["modules_to_save"] = "SEQ_CLS", []string{headModule}
		}
	}
	if a.images { // PEFT's classes for the other tasks hand a model tokens
		config["task_type"] = nil
	}
	return checkpoint.SaveAdapter(dir, config, tensors)
}

// savedTargets returns target_modules as PEFT reads it: a string is a regular
// expression, the entries of a list are suffixes of names.
func (a *Adapter) savedTargets() any {
	if len(a.Targets) == 1 && isPattern(a.Targets[0]) {
		return a.Targets[0]
	}
	if len(a.Layers) == 0 {
		return AllLinear
	}
	if len(a.Targets) == 0 || slices.Contains(a.Targets, AllLinear) {
		return kinds(a.Layers)
	}
	names := slices.Clone(a.Targets)
	sort.Strings(names)
	return slices.Compact(names)
}

// Load attaches the adapter of a PEFT folder to m and restores what was trained.
// Every tensor of the file must have its place, and every place its tensor.
func Load(dir string, m Model) (*Adapter, error) {
	file, err := checkpoint.OpenAdapter(dir)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	a, err := attachSaved(file.Config, m)
	if err != nil {
		return nil, fmt.Errorf("adapt: load %s: %w", dir, err)
	}
	if err := a.restore(file); err != nil {
		a.Detach()
		return nil, fmt.Errorf("adapt: load %s: %w", dir, err)
	}
	return a, nil
}

// attachSaved attaches the method that an adapter_config.json describes.
func attachSaved(config map[string]any, m Model) (*Adapter, error) {
	for _, key := range []string{
		"layers_to_transform", "layer_replication", "exclude_modules", "target_parameters",
		"trainable_token_indices", "alora_invocation_tokens", "arrow_config", "lora_bias", "use_qalora",
	} {
		if isSet(config[key]) {
			return nil, fmt.Errorf("adapter_config.json sets %s = %v, which is not supported", key, config[key])
		}
	}
	if bias, ok := config["bias"].(string); ok && bias != "none" {
		return nil, fmt.Errorf("adapter_config.json sets bias = %q, want none: biases are not adapted", bias)
	}
	if err := checkSavedModules(config["modules_to_save"]); err != nil {
		return nil, err
	}
	targets, err := targetsOf(config["target_modules"])
	if err != nil {
		return nil, err
	}
	method, o, err := methodOf(config)
	if err != nil {
		return nil, err
	}
	return Attach(m, method, o, targets, 0)
}

// checkSavedModules refuses a modules_to_save that names more than a classifier's head;
// PEFT lists the head under both of the names that models give it.
func checkSavedModules(v any) error {
	if !isSet(v) {
		return nil
	}
	names, _ := v.([]any)
	for _, name := range names {
		if name != headModule && name != "score" {
			return fmt.Errorf("adapter_config.json sets modules_to_save = %v; of modules that train whole only a head named %s is supported", v, headModule)
		}
	}
	return nil
}

// isSet reports whether a value of a configuration says more than nothing.
func isSet(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

// targetsOf reads target_modules: a regular expression or a list of names.
func targetsOf(v any) ([]string, error) {
	switch v := v.(type) {
	case string:
		return []string{v}, nil
	case []any:
		var targets []string
		for _, x := range v {
			s, ok := x.(string)
			if !ok {
				return nil, fmt.Errorf("adapter_config.json: target_modules holds %v, want names", x)
			}
			targets = append(targets, s)
		}
		if len(targets) > 0 {
			return targets, nil
		}
	}
	return nil, fmt.Errorf("adapter_config.json: target_modules is %v, want a pattern or a list of names", v)
}

// methodOf returns the first method of that peft_type that takes the configuration,
// with its options set.
func methodOf(config map[string]any) (Method, Options, error) {
	kind, _ := config["peft_type"].(string)
	var known []string
	var refusals []error
	for _, m := range Methods() {
		known = append(known, m.PEFT...)
		if !slices.Contains(m.PEFT, kind) {
			continue
		}
		o := m.New()
		err := o.SetConfig(config)
		if err == nil {
			return m, o, nil
		}
		refusals = append(refusals, err)
	}
	if refusals != nil {
		return Method{}, nil, errors.Join(refusals...)
	}
	sort.Strings(known)
	return Method{}, nil, fmt.Errorf("adapter_config.json: peft_type %q is not known (known: %s)", kind, strings.Join(slices.Compact(known), ", "))
}

// restore gives every layer its tensors of the file. All names are checked before
// anything is changed.
func (a *Adapter) restore(file *checkpoint.Adapter) error {
	states, left, err := a.sortByLayer(file)
	if err != nil {
		return err
	}
	if err := a.restoreShared(states, left); err != nil {
		return err
	}
	beside := map[string]*tensor.Tensor{}
	for _, p := range a.Beside {
		name := peftPrefix + p.Name
		if left[name] == nil {
			return fmt.Errorf("the file has no %s: %w", name, checkpoint.ErrMissing)
		}
		beside[name] = left[name]
		delete(left, name)
	}
	if len(left) > 0 {
		return unplaced("", left)
	}
	for i, l := range a.Layers {
		own := a.Holds[i].State()
		if len(states[i]) == 0 {
			return fmt.Errorf("the file has nothing for layer %s, which target_modules names: %w", l.Name, checkpoint.ErrMissing)
		}
		if len(states[i]) <= len(own) {
			continue // as many as it takes; under which names is its own affair
		}
		for _, s := range own {
			delete(states[i], s.Name)
		}
		return unplaced(peftPrefix+l.Name+".", states[i])
	}
	for i, l := range a.Layers {
		if err := a.Holds[i].Restore(states[i]); err != nil {
			return fmt.Errorf("layer %s: %w", l.Name, err)
		}
	}
	for _, p := range a.Beside {
		if err := restore(p.Value, beside, peftPrefix+p.Name); err != nil {
			return err
		}
	}
	return nil
}

// sortByLayer returns the file's tensors for each of a.Layers, by their name after
// the layer's, and those of no layer.
func (a *Adapter) sortByLayer(file *checkpoint.Adapter) ([]map[string]*tensor.Tensor, map[string]*tensor.Tensor, error) {
	states := make([]map[string]*tensor.Tensor, len(a.Layers))
	index := map[string]int{}
	for i, l := range a.Layers {
		states[i], index[peftPrefix+l.Name] = map[string]*tensor.Tensor{}, i
	}
	rest := map[string]*tensor.Tensor{}
	for _, name := range file.Names() {
		t, err := file.Tensor(name)
		if err != nil {
			return nil, nil, err
		}
		if at := t.FirstNonFinite(); at >= 0 {
			return nil, nil, fmt.Errorf("tensor %q: entry %d is NaN or Inf: %w", name, at, checkpoint.ErrNonFinite)
		}
		if i, own, ok := layerOf(name, index); ok {
			states[i][own] = t
		} else {
			rest[name] = t
		}
	}
	return states, rest, nil
}

// layerOf splits a tensor's name after the name of a layer.
func layerOf(name string, index map[string]int) (i int, rest string, ok bool) {
	for at := len(name) - 1; at > 0; at-- {
		if name[at] == '.' {
			if i, ok := index[name[:at]]; ok {
				return i, name[at+1:], true
			}
		}
	}
	return 0, "", false
}

// unplaced names tensors of a file that have no place.
func unplaced(prefix string, left map[string]*tensor.Tensor) error {
	var names []string
	for name := range left {
		names = append(names, prefix+name)
	}
	sort.Strings(names)
	return fmt.Errorf("%d tensors of the file have no place in the targeted layers, the first %q; the adapter was made for another model or by a variant of the method: %w", len(names), names[0], checkpoint.ErrFormat)
}

// The values of an adapter_config.json as encoding/json decodes them.

func integer(c map[string]any, key string, standard int) int {
	return int(number(c, key, float64(standard)))
}

func number(c map[string]any, key string, standard float64) float64 {
	switch v := c[key].(type) {
	case float64:
		if !math.IsNaN(v) {
			return v
		}
	case int:
		return float64(v)
	}
	return standard
}

func truth(c map[string]any, key string) bool { v, _ := c[key].(bool); return v }
