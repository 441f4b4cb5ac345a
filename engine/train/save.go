package train

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	"tare/engine/checkpoint"
	"tare/engine/grad"
	"tare/engine/tensor"
)

// The parts of a saved run, as prefixes of tensor names and keys of the metadata.
const (
	paramPrefix = "param."
	optimPrefix = "optimizer."
	stepKey     = "step"
	stepsKey    = "steps"
	taskKey     = "task"
	hooksKey    = "hooks"
	hookPrefix  = "hook."
	partsKey    = "parts"     // by parameter, of those that train in part
	methodKey   = "optimizer" // its Go type
)

// Save writes everything that Restore needs to go on to the same bits: the trained
// parts, the optimizer's state, the position in the data and the hooks' state. The
// file replaces an older one in one step.
func (l *Loop) Save(path string) error {
	var tensors []checkpoint.NamedTensor
	parts := map[string]string{}
	for _, p := range l.Params {
		if p.Trains() {
			if p.Part.Kind != grad.All {
				parts[p.Name] = mark(p.Part)
			}
			part := tensor.New(p.PartShape()...)
			p.Gather(part.F32())
			tensors = append(tensors, checkpoint.NamedTensor{Name: paramPrefix + p.Name, Tensor: part})
		}
	}
	for _, s := range l.Optimizer.State() {
		tensors = append(tensors, checkpoint.NamedTensor{Name: optimPrefix + s.Name, Tensor: s.Tensor})
	}
	for _, h := range l.Hooks {
		if k, ok := h.(Keeper); ok {
			for _, s := range k.HookTensors() {
				tensors = append(tensors, checkpoint.NamedTensor{Name: hookPrefix + k.HookName() + "." + s.Name, Tensor: s.Tensor})
			}
		}
	}
	task, err := l.Task.State()
	if err != nil {
		return fmt.Errorf("train: save: %w", err)
	}
	hooks := map[string][]byte{}
	for _, h := range l.Hooks {
		if s, ok := h.(Stateful); ok {
			if hooks[s.HookName()], err = s.HookState(); err != nil {
				return fmt.Errorf("train: save %s: %w", s.HookName(), err)
			}
		}
	}
	hooksJSON, err := json.Marshal(hooks)
	if err != nil {
		return fmt.Errorf("train: save: %w", err)
	}
	partsJSON, err := json.Marshal(parts)
	if err != nil {
		return fmt.Errorf("train: save: %w", err)
	}
	return checkpoint.WriteFile(path, tensors, map[string]string{
		partsKey: string(partsJSON), methodKey: fmt.Sprintf("%T", l.Optimizer),
		stepKey: strconv.Itoa(l.Step), stepsKey: strconv.Itoa(l.Options.Steps),
		taskKey: base64.StdEncoding.EncodeToString(task), hooksKey: string(hooksJSON),
	})
}

// mark tells parts of a parameter apart: the kind and a checksum of the positions.
func mark(p grad.Part) string {
	h := fnv.New64a()
	for _, at := range p.Index {
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(at)))
	}
	return fmt.Sprintf("%d.%x", p.Kind, h.Sum64())
}

// Restore loads what Save wrote into a loop set up the same way. What differs from that
// is refused; the loop is of no use then.
func (l *Loop) Restore(path string) error {
	f, err := checkpoint.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	meta := f.Metadata()
	step, err := strconv.Atoi(meta[stepKey])
	if err != nil || step < 0 {
		return fmt.Errorf("train: %s is no saved run: %w", path, checkpoint.ErrFormat)
	}
	if meta[stepsKey] != strconv.Itoa(l.Options.Steps) {
		return fmt.Errorf("train: %s was saved from a run of %s steps, this one has %d; resume with the same settings", path, meta[stepsKey], l.Options.Steps)
	}
	if was, now := meta[methodKey], fmt.Sprintf("%T", l.Optimizer); was != now {
		return fmt.Errorf("train: %s was saved from a run with the optimizer %s, this one has %s; resume with the same settings", path, was, now)
	}
	var parts map[string]string
	if err := json.Unmarshal([]byte(meta[partsKey]), &parts); err != nil {
		return fmt.Errorf("train: resume %s: parts: %w", path, err)
	}
	for _, h := range l.Hooks {
		if k, ok := h.(Keeper); ok {
			state, err := under(f, hookPrefix+k.HookName()+".")
			if err == nil {
				err = k.RestoreTensors(state)
			}
			if err != nil {
				return fmt.Errorf("train: resume %s: %s: %w", path, k.HookName(), err)
			}
		}
	}
	if err := l.restoreParams(f, parts); err != nil {
		return fmt.Errorf("train: resume %s: %w", path, err)
	}
	state, err := under(f, optimPrefix)
	if err != nil {
		return err
	}
	if err := l.Optimizer.Restore(state); err != nil {
		return err
	}
	return l.restoreMeta(path, meta, step)
}

// restoreParams loads the trained parts, which must be those that were saved.
func (l *Loop) restoreParams(f *checkpoint.File, parts map[string]string) error {
	saved, err := under(f, paramPrefix)
	if err != nil {
		return err
	}
	values := map[string]*tensor.Tensor{}
	for _, s := range saved {
		values[s.Name] = s.Tensor
	}
	for _, p := range l.Params {
		if !p.Trains() {
			continue
		}
		t := values[p.Name]
		delete(values, p.Name)
		switch {
		case t == nil:
			return fmt.Errorf("%s did not train in the saved run: %w; resume with the same settings", p.Name, checkpoint.ErrMissing)
		case t.DType() != tensor.F32 || t.Len() != p.PartLen():
			return fmt.Errorf("%s: the saved part is %s %v, want f32 %v; resume with the same settings", p.Name, t.DType(), t.Shape(), p.PartShape())
		case p.Part.Kind != grad.All && parts[p.Name] != mark(p.Part):
			return fmt.Errorf("%s: other rows, columns or entries trained in the saved run; resume with the same seed and settings", p.Name)
		}
		p.Scatter(t.F32())
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		return fmt.Errorf("%s trained in the saved run and does not in this one; resume with the same settings", name)
	}
	return nil
}

// under returns the file's tensors whose name begins so, without that beginning.
func under(f *checkpoint.File, prefix string) (State, error) {
	var state State
	for _, name := range f.Names() {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			t, err := f.Tensor(name)
			if err != nil {
				return nil, err
			}
			state = append(state, Named{rest, t})
		}
	}
	return state, nil
}

func (l *Loop) restoreMeta(path string, meta map[string]string, step int) error {
	task, err := base64.StdEncoding.DecodeString(meta[taskKey])
	if err == nil {
		err = l.Task.Restore(task)
	}
	if err != nil {
		return fmt.Errorf("train: resume %s: position in the data: %w", path, err)
	}
	var hooks map[string][]byte
	if err := json.Unmarshal([]byte(meta[hooksKey]), &hooks); err != nil {
		return fmt.Errorf("train: resume %s: hooks: %w", path, err)
	}
	for _, h := range l.Hooks {
		if s, ok := h.(Stateful); ok && hooks[s.HookName()] != nil {
			if err := s.RestoreHook(hooks[s.HookName()]); err != nil {
				return fmt.Errorf("train: resume %s: %s: %w", path, s.HookName(), err)
			}
		}
	}
	l.Step = step
	return nil
}
