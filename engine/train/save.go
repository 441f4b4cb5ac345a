package train

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"tare/engine/checkpoint"
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
)

// Save writes everything that Restore needs to go on to the same bits: the trained
// parts, the optimizer's state, the position in the data and the hooks' state. The
// file replaces an older one in one step.
func (l *Loop) Save(path string) error {
	var tensors []checkpoint.NamedTensor
	for _, p := range l.Params {
		if p.Trains() {
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
	return checkpoint.WriteFile(path, tensors, map[string]string{
		stepKey: strconv.Itoa(l.Step), stepsKey: strconv.Itoa(l.Options.Steps),
		taskKey: base64.StdEncoding.EncodeToString(task), hooksKey: string(hooksJSON),
	})
}

// Restore loads what Save wrote into a loop set up the same way.
func (l *Loop) Restore(path string) error {
	f, err := checkpoint.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	meta := f.Metadata()
	step, err := strconv.Atoi(meta[stepKey])
	if err != nil {
		return fmt.Errorf("train: %s is no saved run: %w", path, checkpoint.ErrFormat)
	}
	if meta[stepsKey] != strconv.Itoa(l.Options.Steps) {
		return fmt.Errorf("train: %s was saved from a run of %s steps, this one has %d; resume with the same settings", path, meta[stepsKey], l.Options.Steps)
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
	for _, p := range l.Params {
		if !p.Trains() {
			continue
		}
		t, err := f.Tensor(paramPrefix + p.Name)
		if err != nil {
			return fmt.Errorf("train: resume: %w; it was saved from a run that trained something else", err)
		}
		if t.DType() != tensor.F32 || t.Len() != p.PartLen() {
			return fmt.Errorf("train: resume: %s: saved part %v, want %v", p.Name, t.Shape(), p.PartShape())
		}
		p.Scatter(t.F32())
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
