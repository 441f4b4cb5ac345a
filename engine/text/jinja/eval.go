package jinja

import (
	"errors"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

func (r *renderer) eval(e expr, s *scope) (any, error) {
	if err := r.enter(e.where()); err != nil {
		return nil, err
	}
	v, err := r.value(e, s)
	r.depth--
	switch e.(type) {
	case binaryExpr, callExpr, filterExpr, sliceExpr: // made something, which costs by its size
		switch v := v.(type) {
		case string:
			r.steps -= len(v) / 64
		case *list:
			r.steps -= len(v.items) / 4
		}
	}
	if err != nil && !errors.Is(err, ErrRender) {
		err = at(e.where(), ErrRender, "%v", err)
	}
	return v, err
}

func (r *renderer) value(e expr, s *scope) (any, error) {
	switch e := e.(type) {
	case literal:
		return e.value, nil
	case nameExpr:
		if v, ok := s.get(e.name); ok {
			return v, nil
		}
		return undefined{e.name}, nil
	case bodyExpr:
		return r.body, nil
	case listExpr:
		items, err := r.all(e.items, s)
		return &list{items, e.tuple}, err
	case dictExpr:
		return r.dict(e, s)
	case attrExpr:
		of, err := r.eval(e.of, s)
		if err != nil {
			return nil, err
		}
		return attribute(e.where(), of, e.name)
	case indexExpr:
		return r.index(e, s)
	case sliceExpr:
		return r.slice(e, s)
	case callExpr:
		return r.call(e, s)
	case filterExpr:
		of, args, named, err := r.applied(e.of, e.args, s)
		if err != nil {
			return nil, err
		}
		return filters[e.name](r, append([]any{of}, args...), named)
	case testExpr:
		of, args, _, err := r.applied(e.of, e.args, s)
		if err != nil {
			return nil, err
		}
		ok, err := tests[e.name](append([]any{of}, args...))
		return ok != e.not, err
	case unaryExpr:
		return r.unary(e, s)
	case binaryExpr:
		a, err := r.eval(e.a, s)
		if err != nil {
			return nil, err
		}
		b, err := r.eval(e.b, s)
		if err != nil {
			return nil, err
		}
		return binary(e.where(), e.op, a, b)
	case logicExpr:
		a, err := r.eval(e.a, s)
		if err != nil || truth(a) == e.or {
			return a, err
		}
		return r.eval(e.b, s)
	case compareExpr:
		return r.compare(e, s)
	case condExpr:
		when, err := r.eval(e.when, s)
		switch {
		case err != nil:
			return nil, err
		case truth(when):
			return r.eval(e.then, s)
		case e.orElse != nil:
			return r.eval(e.orElse, s)
		}
		return undefined{"the inline if without else"}, nil
	}
	return nil, at(e.where(), ErrRender, "%T has no value", e)
}

func (r *renderer) all(es []expr, s *scope) ([]any, error) {
	items := make([]any, len(es))
	for i, e := range es {
		var err error
		if items[i], err = r.eval(e, s); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// applied evaluates what a filter or test is applied to, and its arguments.
func (r *renderer) applied(of expr, a arguments, s *scope) (v any, args []any, named map[string]any, err error) {
	if v, err = r.eval(of, s); err != nil {
		return nil, nil, nil, err
	}
	args, named, err = r.arguments(a, s)
	return v, args, named, err
}

func (r *renderer) arguments(a arguments, s *scope) (args []any, named map[string]any, err error) {
	if args, err = r.all(a.positional, s); err != nil {
		return nil, nil, err
	}
	named = make(map[string]any, len(a.names))
	for i, name := range a.names {
		if named[name], err = r.eval(a.named[i], s); err != nil {
			return nil, nil, err
		}
	}
	return args, named, nil
}

func (r *renderer) dict(e dictExpr, s *scope) (any, error) {
	d := NewDict()
	for i := range e.keys {
		k, err := r.eval(e.keys[i], s)
		if err != nil {
			return nil, err
		}
		v, err := r.eval(e.values[i], s)
		if err != nil {
			return nil, err
		}
		d.Set(text(k), v)
	}
	return d, nil
}

// attribute is of.name: a method, or what of holds under the name.
func attribute(line int, of any, name string) (any, error) {
	switch of := of.(type) {
	case undefined:
		return nil, at(line, ErrRender, "%q is undefined, so it has no %q", of.name, name)
	case *namespace:
		if v, ok := of.vars[name]; ok {
			return v, nil
		}
	case *Dict:
		if m := dictMethods[name]; m != nil {
			return bound(of, m), nil
		}
		if v, ok := of.values[name]; ok {
			return v, nil
		}
	case string:
		if m := stringMethods[name]; m != nil {
			return bound(of, m), nil
		}
	}
	return undefined{name}, nil
}

// bound is a method of a value as a function.
func bound[T any](of T, m func(of T, args []any, named map[string]any) (any, error)) callable {
	return func(_ *renderer, args []any, named map[string]any) (any, error) { return m(of, args, named) }
}

func (r *renderer) index(e indexExpr, s *scope) (any, error) {
	of, err := r.eval(e.of, s)
	if err != nil {
		return nil, err
	}
	index, err := r.eval(e.index, s)
	if err != nil {
		return nil, err
	}
	if name, ok := index.(string); ok {
		if d, ok := of.(*Dict); ok {
			if v, ok := d.values[name]; ok {
				return v, nil
			}
		}
		return attribute(e.where(), of, name)
	}
	i, ok := integer(index)
	if u, undef := of.(undefined); undef {
		return nil, at(e.where(), ErrRender, "%q is undefined, so it has no elements", u.name)
	}
	if ok {
		var n int
		switch v := of.(type) {
		case string:
			n = utf8.RuneCountInString(v)
		case *list:
			n = len(v.items)
		default:
			return undefined{text(index)}, nil
		}
		if i < 0 {
			i += int64(n)
		}
		if i >= 0 && i < int64(n) {
			if l, ok := of.(*list); ok {
				return l.items[i], nil
			}
			return string([]rune(of.(string))[i]), nil
		}
	}
	return undefined{"element " + text(index)}, nil
}

func (r *renderer) slice(e sliceExpr, s *scope) (any, error) {
	of, err := r.eval(e.of, s)
	if err != nil {
		return nil, err
	}
	var bounds [3]*int64
	for i, part := range []expr{e.from, e.to, e.step} {
		if part == nil {
			continue
		}
		v, err := r.eval(part, s)
		if err != nil {
			return nil, err
		}
		n, ok := integer(v)
		switch {
		case v == nil:
		case ok:
			bounds[i] = &n
		default:
			return nil, at(e.where(), ErrRender, "a slice with %s in it", kindName(v))
		}
	}
	switch v := of.(type) {
	case string:
		runes, err := cut([]rune(v), bounds)
		return string(runes), err
	case *list:
		items, err := cut(v.items, bounds)
		return &list{items, v.tuple}, err
	}
	return nil, at(e.where(), ErrRender, "%s has no slices", kindName(of))
}

// cut is items[from:to:step] of Python.
func cut[T any](items []T, bounds [3]*int64) ([]T, error) {
	n, step := int64(len(items)), int64(1)
	if bounds[2] != nil {
		step = *bounds[2]
	}
	if step == 0 {
		return nil, errors.New("a slice of step 0")
	}
	lo, hi := int64(0), n // where a bound may stand
	from, to := lo, hi
	if step < 0 {
		lo, hi = -1, n-1
		from, to = hi, lo
	}
	place := func(bound *int64, otherwise int64) int64 {
		if bound == nil {
			return otherwise
		}
		b := *bound
		if b < 0 {
			b += n
		}
		return min(max(b, lo), hi)
	}
	from, to = place(bounds[0], from), place(bounds[1], to)
	var out []T
	for i := from; step > 0 && i < to || step < 0 && i > to; i += step {
		out = append(out, items[i])
		if step > n || step < -n { // the next is outside; adding may overflow
			break
		}
	}
	return out, nil
}

func (r *renderer) call(e callExpr, s *scope) (any, error) {
	callee, err := r.eval(e.callee, s)
	if err != nil {
		return nil, err
	}
	f, ok := callee.(callable)
	if !ok {
		return nil, at(e.where(), ErrRender, "%s cannot be called", kindName(callee))
	}
	args, named, err := r.arguments(e.args, s)
	if err != nil {
		return nil, err
	}
	return f(r, args, named)
}

func (r *renderer) unary(e unaryExpr, s *scope) (any, error) {
	v, err := r.eval(e.of, s)
	if err != nil {
		return nil, err
	}
	if e.op == "not" {
		return !truth(v), nil
	}
	if i, ok := integer(v); ok {
		if e.op == "-" {
			i = -i
		}
		return i, nil
	}
	if f, ok := v.(float64); ok {
		if e.op == "-" {
			f = -f
		}
		return f, nil
	}
	return nil, at(e.where(), ErrRender, "%s%s", e.op, kindName(v))
}

func binary(line int, op string, a, b any) (any, error) {
	if op == "~" {
		return joined(text(a), text(b))
	}
	if x, ok := integer(a); ok {
		if y, ok := integer(b); ok {
			if v, done, err := whole(op, x, y); done {
				return v, err
			}
		}
	}
	if x, y, ok := numbers(a, b); ok {
		switch op {
		case "+":
			return x + y, nil
		case "-":
			return x - y, nil
		case "*":
			return x * y, nil
		case "**":
			return math.Pow(x, y), nil
		}
		if y == 0 {
			return nil, errors.New("a division by zero")
		}
		switch op {
		case "/":
			return x / y, nil
		case "//":
			return math.Floor(x / y), nil
		case "%":
			return x - y*math.Floor(x/y), nil
		}
	}
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok && op == "+" {
			return joined(x, y)
		}
		if n, ok := integer(b); ok && op == "*" {
			return repeated(x, n)
		}
	case *list:
		if y, ok := b.(*list); ok && op == "+" {
			return &list{slices.Concat(x.items, y.items), x.tuple}, nil
		}
	case int64:
		if y, ok := b.(string); ok && op == "*" {
			return repeated(y, x)
		}
	}
	return nil, at(line, ErrRender, "%s %s %s", kindName(a), op, kindName(b))
}

// whole computes with whole numbers, if the result is one.
func whole(op string, x, y int64) (v any, done bool, err error) {
	switch op {
	case "+":
		return x + y, true, nil
	case "-":
		return x - y, true, nil
	case "*":
		return x * y, true, nil
	case "//", "%":
		if y == 0 {
			return nil, true, errors.New("a division by zero")
		}
		if y == -1 { // the smallest number has no opposite
			if op == "%" {
				return int64(0), true, nil
			}
			return -x, true, nil
		}
		q, m := x/y, x%y
		if m != 0 && (m < 0) != (y < 0) {
			q, m = q-1, m+y
		}
		if op == "%" {
			return m, true, nil
		}
		return q, true, nil
	case "**":
		p := math.Pow(float64(x), float64(y))
		if y >= 0 && math.Abs(p) < 1<<53 {
			return int64(p), true, nil
		}
	}
	return nil, false, nil
}

func joined(a, b string) (any, error) {
	if len(a)+len(b) > maxOutput {
		return nil, errors.New("a string that is too long")
	}
	return a + b, nil
}

func repeated(s string, n int64) (any, error) {
	n = max(n, 0)
	if len(s) > 0 && n > int64(maxOutput/len(s)) {
		return nil, errors.New("a string that is too long")
	}
	return strings.Repeat(s, int(n)), nil
}

func (r *renderer) compare(e compareExpr, s *scope) (any, error) {
	a, err := r.eval(e.first, s)
	if err != nil {
		return nil, err
	}
	for i, op := range e.ops {
		b, err := r.eval(e.rest[i], s)
		if err != nil {
			return nil, err
		}
		ok, err := holds(op, a, b)
		if err != nil {
			return nil, at(e.where(), ErrRender, "%v", err)
		}
		if !ok {
			return false, nil
		}
		a = b
	}
	return true, nil
}

// holds says whether a op b.
func holds(op string, a, b any) (bool, error) {
	switch op {
	case "==":
		return equal(a, b, 0), nil
	case "!=":
		return !equal(a, b, 0), nil
	case "in", "not in":
		in, err := contains(b, a)
		return in == (op == "in"), err
	}
	c, err := order(a, b)
	if err != nil {
		return false, err
	}
	switch op {
	case "<":
		return c < 0, nil
	case "<=":
		return c <= 0, nil
	case ">":
		return c > 0, nil
	}
	return c >= 0, nil
}

func contains(in, v any) (bool, error) {
	switch in := in.(type) {
	case string:
		s, ok := v.(string)
		if !ok {
			return false, errors.New(kindName(v) + " in a string")
		}
		return strings.Contains(in, s), nil
	case *Dict:
		s, ok := v.(string)
		_, has := in.values[s]
		return ok && has, nil
	case *list:
		return slices.ContainsFunc(in.items, func(x any) bool { return equal(x, v, 0) }), nil
	case undefined:
		return false, nil
	}
	return false, errors.New("nothing is in " + kindName(in))
}

// order compares numbers with numbers and strings with strings.
func order(a, b any) (int, error) {
	if x, y, ok := numbers(a, b); ok {
		switch {
		case x < y:
			return -1, nil
		case x > y:
			return 1, nil
		}
		return 0, nil
	}
	x, okA := a.(string)
	y, okB := b.(string)
	if !okA || !okB {
		return 0, errors.New(kindName(a) + " and " + kindName(b) + " have no order")
	}
	return strings.Compare(x, y), nil
}
