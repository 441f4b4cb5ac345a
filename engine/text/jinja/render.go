package jinja

import (
	"fmt"
	"strings"
	"time"
)

// jump is how a block ends.
type jump uint8

const (
	jumpNone jump = iota
	jumpBreak
	jumpContinue
)

// scope is the variables of a block; names that it lacks are looked for outside.
type scope struct {
	vars  map[string]any
	outer *scope
}

func (s *scope) get(name string) (any, bool) {
	for ; s != nil; s = s.outer {
		if v, ok := s.vars[name]; ok {
			return v, true
		}
	}
	return nil, false
}

// inner returns a scope inside s.
func (s *scope) inner() *scope { return &scope{vars: map[string]any{}, outer: s} }

// renderer is one rendering.
type renderer struct {
	out   *strings.Builder
	steps int
	depth int
	now   time.Time
	body  string // what the body of a set block rendered
}

// step counts, so that rendering ends.
func (r *renderer) step(line int) error {
	if r.steps--; r.steps < 0 {
		return at(line, ErrRender, "the template takes more than %d steps", maxSteps)
	}
	return nil
}

// enter counts what is inside each other.
func (r *renderer) enter(line int) error {
	if r.depth++; r.depth > 20*maxDepth {
		return at(line, ErrRender, "more than %d calls and expressions inside each other", 20*maxDepth)
	}
	return r.step(line)
}

func (r *renderer) write(line int, s string) error {
	if r.out.Len()+len(s) > maxOutput {
		return at(line, ErrRender, "the text is longer than %d bytes", maxOutput)
	}
	r.out.WriteString(s)
	return nil
}

func (r *renderer) run(body []node, s *scope) (jump, error) {
	for _, n := range body {
		if err := r.enter(n.where()); err != nil {
			return jumpNone, err
		}
		j, err := r.statement(n, s)
		r.depth--
		if err != nil || j != jumpNone {
			return j, err
		}
	}
	return jumpNone, nil
}

func (r *renderer) statement(n node, s *scope) (jump, error) {
	switch n := n.(type) {
	case textNode:
		return jumpNone, r.write(n.where(), n.text)
	case printNode:
		v, err := r.eval(n.value, s)
		if err != nil {
			return jumpNone, err
		}
		return jumpNone, r.write(n.where(), text(v))
	case doNode:
		_, err := r.eval(n.value, s)
		return jumpNone, err
	case jumpNode:
		return n.jump, nil
	case ifNode:
		for _, b := range n.branches {
			if b.when != nil {
				v, err := r.eval(b.when, s)
				if err != nil {
					return jumpNone, err
				}
				if !truth(v) {
					continue
				}
			}
			return r.run(b.body, s)
		}
	case forNode:
		return r.loop(n, s)
	case setNode:
		return jumpNone, r.set(n, s)
	case macroNode:
		s.vars[n.name] = r.macro(n, s)
	}
	return jumpNone, nil
}

// captured returns what a block writes.
func (r *renderer) captured(body []node, s *scope) (string, error) {
	before := r.out
	r.out = &strings.Builder{}
	_, err := r.run(body, s)
	written := r.out.String()
	r.out = before
	return written, err
}

func (r *renderer) set(n setNode, s *scope) error {
	var v any
	var err error
	if n.value != nil {
		v, err = r.eval(n.value, s)
	} else if r.body, err = r.captured(n.body, s.inner()); err == nil {
		v, err = r.eval(n.filtered, s)
	}
	if err != nil {
		return err
	}
	if len(n.targets) == 1 {
		return r.assign(n.where(), n.targets[0], v, s)
	}
	parts, err := unpack(n.where(), v, len(n.targets))
	if err != nil {
		return err
	}
	for i, t := range n.targets {
		if err := r.assign(n.where(), t, parts[i], s); err != nil {
			return err
		}
	}
	return nil
}

func (r *renderer) assign(line int, t target, v any, s *scope) error {
	if t.attribute == "" {
		s.vars[t.name] = v
		return nil
	}
	of, _ := s.get(t.name)
	ns, ok := of.(*namespace)
	if !ok {
		return at(line, ErrRender, "%s.%s cannot be set: only a namespace's can", t.name, t.attribute)
	}
	ns.vars[t.attribute] = v
	return nil
}

func unpack(line int, v any, n int) ([]any, error) {
	items, ok := elements(v)
	if !ok || len(items) != n {
		return nil, at(line, ErrRender, "%s cannot be taken apart into %d", kindName(v), n)
	}
	return items, nil
}

func (r *renderer) loop(n forNode, s *scope) (jump, error) {
	over, err := r.eval(n.over, s)
	if err != nil {
		return jumpNone, err
	}
	items, ok := elements(over)
	if !ok {
		return jumpNone, at(n.where(), ErrRender, "%s cannot be looped over", kindName(over))
	}
	bind := func(item any) (*scope, error) {
		in := s.inner()
		if len(n.targets) == 1 {
			in.vars[n.targets[0]] = item
			return in, nil
		}
		parts, err := unpack(n.where(), item, len(n.targets))
		for i := range parts {
			in.vars[n.targets[i]] = parts[i]
		}
		return in, err
	}
	if n.when != nil {
		var kept []any
		for _, item := range items {
			in, err := bind(item)
			if err != nil {
				return jumpNone, err
			}
			v, err := r.eval(n.when, in)
			if err != nil {
				return jumpNone, err
			}
			if truth(v) {
				kept = append(kept, item)
			}
		}
		items = kept
	}
	for i := range items {
		if err := r.step(n.where()); err != nil {
			return jumpNone, err
		}
		in, err := bind(items[i])
		if err != nil {
			return jumpNone, err
		}
		in.vars["loop"] = loopOf(items, i)
		j, err := r.run(n.body, in)
		if err != nil {
			return jumpNone, err
		}
		if j == jumpBreak {
			break
		}
	}
	if len(items) == 0 {
		return r.run(n.orElse, s.inner())
	}
	return jumpNone, nil
}

// loopOf is what loop says in a loop's body.
func loopOf(items []any, i int) *namespace {
	n := int64(len(items))
	vars := map[string]any{
		"index": int64(i) + 1, "index0": int64(i), "revindex": n - int64(i), "revindex0": n - int64(i) - 1,
		"first": i == 0, "last": int64(i) == n-1, "length": n,
		"previtem": undefined{"loop.previtem"}, "nextitem": undefined{"loop.nextitem"},
	}
	if i > 0 {
		vars["previtem"] = items[i-1]
	}
	if i+1 < len(items) {
		vars["nextitem"] = items[i+1]
	}
	vars["cycle"] = callable(func(_ *renderer, args []any, _ map[string]any) (any, error) {
		if len(args) == 0 {
			return nil, fmt.Errorf("loop.cycle needs values")
		}
		return args[i%len(args)], nil
	})
	return &namespace{vars}
}

// macro is a function whose value is what its body writes.
func (r *renderer) macro(n macroNode, defined *scope) callable {
	return func(r *renderer, args []any, named map[string]any) (any, error) {
		s := defined.inner()
		if len(args) > len(n.params) {
			return nil, fmt.Errorf("%s takes %d values, has %d", n.name, len(n.params), len(args))
		}
		for i, p := range n.params {
			v, ok := named[p.name]
			switch {
			case i < len(args):
				v = args[i]
			case ok:
			case p.value != nil:
				var err error
				if v, err = r.eval(p.value, s); err != nil {
					return nil, err
				}
			default:
				v = undefined{p.name}
			}
			s.vars[p.name] = v
		}
		return r.captured(n.body, s)
	}
}
