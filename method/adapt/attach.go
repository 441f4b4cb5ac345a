package adapt

import (
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"slices"
	"sort"
	"strings"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/nn"
)

// Model is what a method needs of a network.
type Model interface {
	Linears() []*nn.Linear
	Params() []*grad.Param
}

// Adapter is a method attached to the target layers of a model.
type Adapter struct {
	Method  Method
	Options Options
	Targets []string // as asked for
	Layers  []*nn.Linear
	Holds   []Attached // one for each of Layers
	// Beside are the parameters that train whole beside the layers: a classifier's head,
	// and what the method names. Files hold them under their own names.
	Beside []*grad.Param

	bases  []nn.Weight
	images bool // the model reads images
}

// ErrNoTarget marks target modules that match no layer.
var ErrNoTarget = errors.New("no such target module")

// ErrFit marks settings that do not fit a layer: a rank that it has no room for, a block
// size that does not divide it, a weight that cannot train in place.
var ErrFit = errors.New("method does not fit the layer")

// unfit marks an error with ErrFit and leaves its words alone.
type unfit struct{ error }

func (u unfit) Is(target error) bool { return target == ErrFit }
func (u unfit) Unwrap() error        { return u.error }

// AllLinear as a target means every linear layer but the output head.
const AllLinear = "all-linear"

// headModule is the name of a classifier's head, which is a layer or several.
const headModule = "classifier"

func ofHead(name string) bool { return name == headModule || strings.HasPrefix(name, headModule+".") }

// Attach freezes every parameter of m and puts the method on the target layers. A
// target is the last part of a layer's name ("q_proj"), its whole name, a suffix of
// it, or AllLinear; a single target with regexp characters must match the whole
// name, as in PEFT. A classifier's head, which mostly begins untrained, trains whole
// beside them unless its whole name is a target. On an error the model is left as it was.
func Attach(m Model, method Method, o Options, targets []string, seed uint64) (*Adapter, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if t, ok := o.(Targeter); ok && len(targets) == 0 {
		targets = t.DefaultTargets(m)
	}
	layers, err := Select(m.Linears(), targets)
	if err != nil {
		return nil, err
	}
	was := map[*grad.Param]grad.Part{}
	for _, p := range m.Params() {
		was[p] = p.Part
		p.Part = grad.Part{}
	}
	a := &Adapter{Method: method, Options: o, Targets: targets, images: readsImages(m)}
	if err := a.attach(m, layers, seed); err != nil {
		a.Detach()
		for p, part := range was {
			p.Part = part
		}
		return nil, unfit{err}
	}
	return a, nil
}

// attach puts the method on the layers and lets what stands beside them train.
func (a *Adapter) attach(m Model, layers []*nn.Linear, seed uint64) error {
	attach := a.Options.Attach
	if c, ok := a.Options.(Coupler); ok {
		var err error
		if attach, err = c.Couple(m, layers, seed); err != nil {
			return err
		}
	}
	for _, l := range layers {
		base := l.Weight
		hold, err := attach(l, seedFor(seed, l.Name))
		if err != nil {
			return err
		}
		if hold != nil {
			a.Layers, a.Holds, a.bases = append(a.Layers, l), append(a.Holds, hold), append(a.bases, base)
		}
	}
	beside := headOf(m, layers)
	if c, ok := a.Options.(Companion); ok {
		more, err := c.Beside(m)
		if err != nil {
			return err
		}
		beside = append(beside, more...)
	}
	for _, p := range beside {
		if err := makeTrainable(p); err != nil {
			return err
		}
		p.Part = grad.Whole
		a.Beside = append(a.Beside, p)
	}
	return nil
}

func readsImages(m Model) bool {
	net, ok := m.(interface{ Info() *model.Config })
	return ok && net.Info().Image != nil
}

// headOf returns the parameters of a classifier's head but those of target layers.
func headOf(m Model, targets []*nn.Linear) []*grad.Param {
	var ps []*grad.Param
	for _, l := range m.Linears() {
		if ofHead(l.Name) && !slices.Contains(targets, l) {
			ps = append(ps, l.Params()...)
		}
	}
	return ps
}

// Targeter is an Options with targets of its own where none are named.
type Targeter interface {
	DefaultTargets(m Model) []string
}

// Coupler is an Options that must see the layers together, because what it does to one
// depends on others. Couple returns what attaches it to each of them.
type Coupler interface {
	Couple(m Model, layers []*nn.Linear, seed uint64) (attach func(l *nn.Linear, seed uint64) (Attached, error), err error)
}

// Settler is an Attached that keeps things in another order while it trains. Settle puts
// them back; it is called before the method is merged or detached.
type Settler interface {
	Settle()
}

func (a *Adapter) settle() {
	for _, h := range a.Holds {
		if s, ok := h.(Settler); ok {
			s.Settle()
		}
	}
}

// Select returns the layers that the targets name.
func Select(layers []*nn.Linear, targets []string) ([]*nn.Linear, error) {
	if len(targets) == 0 {
		targets = []string{AllLinear}
	}
	var pattern *regexp.Regexp
	if len(targets) == 1 && isPattern(targets[0]) {
		var err error
		if pattern, err = regexp.Compile("^(?:" + targets[0] + ")$"); err != nil {
			return nil, fmt.Errorf("adapt: target modules: %w", err)
		}
	}
	var found []*nn.Linear
	matched := make([]bool, len(targets))
	for _, l := range layers {
		hit := false
		for i, t := range targets {
			fits := pattern != nil && pattern.MatchString(l.Name) || t == AllLinear && l.Name != "lm_head" || strings.HasSuffix(l.Name, "."+t)
			if fits && !ofHead(l.Name) || l.Name == t {
				hit, matched[i] = true, true
			}
		}
		if hit {
			found = append(found, l)
		}
	}
	for i, ok := range matched {
		if !ok {
			return nil, fmt.Errorf("adapt: target module %q matches no layer (the model has: %s): %w", targets[i], strings.Join(kinds(layers), ", "), ErrNoTarget)
		}
	}
	return found, nil
}

// isPattern reports whether a target is a regular expression and no name.
func isPattern(target string) bool { return strings.ContainsAny(target, `\*+?()[]|^$`) }

// kinds returns the distinct last parts of the layers' names.
func kinds(layers []*nn.Linear) []string {
	seen := map[string]bool{}
	var names []string
	for _, l := range layers {
		name := l.Name[strings.LastIndexByte(l.Name, '.')+1:]
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// seedFor mixes the layer's name in, so that layers draw different numbers and the
// same layer the same ones whatever else is targeted.
func seedFor(seed uint64, name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64() ^ seed*0x9e3779b97f4a7c15
}

// Params returns what trains.
func (a *Adapter) Params() []*grad.Param {
	var ps []*grad.Param
	for _, h := range a.Holds {
		for _, p := range h.Params() {
			if p.Trains() {
				ps = append(ps, p)
			}
		}
	}
	return append(ps, a.Beside...)
}

// Detach takes the method off again: every layer holds the weight it had. What was
// trained in place stays trained.
func (a *Adapter) Detach() {
	a.settle()
	for i, l := range a.Layers {
		l.Weight = a.bases[i]
	}
	for _, p := range a.Params() {
		p.Part = grad.Part{}
	}
}

// Merge folds the method into dense f32 weights and ends it.
func (a *Adapter) Merge() error {
	a.settle()
	for _, l := range a.Layers {
		t, err := nn.Materialize(l.Weight)
		if err != nil {
			return fmt.Errorf("adapt: merge %s: %w", l.Name, err)
		}
		l.Weight = nn.NewDense(l.Name+".weight", t)
	}
	return nil
}
