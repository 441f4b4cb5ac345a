package jinja

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// known lists the names of a table.
func known[T any](table map[string]T) string {
	return strings.Join(slices.Sorted(maps.Keys(table)), ", ")
}

// argument returns the argument at a place, or of a name, or what stands for it.
func argument(args []any, i int, named map[string]any, name string, otherwise any) any {
	if i < len(args) {
		return args[i]
	}
	if v, ok := named[name]; ok {
		return v
	}
	return otherwise
}

// function is a filter: its first argument is what it is applied to.
type function func(r *renderer, args []any, named map[string]any) (any, error)

// ofString makes a filter of a method.
func ofString(m func(s string, args []any, named map[string]any) (any, error)) function {
	return func(_ *renderer, args []any, named map[string]any) (any, error) {
		return m(text(args[0]), args[1:], named)
	}
}

// ofList makes a filter of a function of a list.
func ofList(f func(items []any, args []any, named map[string]any) (any, error)) function {
	return func(_ *renderer, args []any, named map[string]any) (any, error) {
		items, ok := elements(args[0])
		if !ok {
			return nil, fmt.Errorf("%s is no list", kindName(args[0]))
		}
		return f(items, args[1:], named)
	}
}

// filters by name. It is filled in init because filters use the table.
var filters map[string]function

func init() {
	filters = map[string]function{
		"abs": func(_ *renderer, args []any, _ map[string]any) (any, error) {
			if i, ok := integer(args[0]); ok {
				return max(i, -i), nil
			}
			f, ok := args[0].(float64)
			if !ok {
				return nil, fmt.Errorf("abs of %s", kindName(args[0]))
			}
			return math.Abs(f), nil
		},
		"capitalize": ofString(stringMethods["capitalize"]),
		"count":      lengthFilter,
		"d":          defaultFilter,
		"default":    defaultFilter,
		"dictsort": func(_ *renderer, args []any, _ map[string]any) (any, error) {
			d, ok := args[0].(*Dict)
			if !ok {
				return nil, fmt.Errorf("dictsort of %s", kindName(args[0]))
			}
			keys := slices.Clone(d.keys)
			slices.SortStableFunc(keys, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
			return d.pairs(keys), nil
		},
		"escape": ofString(escapeHTML),
		"e":      ofString(escapeHTML),
		"first": ofList(func(items, _ []any, _ map[string]any) (any, error) {
			if len(items) == 0 {
				return undefined{"the first of nothing"}, nil
			}
			return items[0], nil
		}),
		"float": func(_ *renderer, args []any, named map[string]any) (any, error) {
			if f, ok := number(args[0]); ok {
				return f, nil
			}
			if f, err := strconv.ParseFloat(strings.TrimSpace(text(args[0])), 64); err == nil {
				return f, nil
			}
			return argument(args, 1, named, "default", 0.0), nil
		},
		"indent": ofString(indent),
		"int": func(_ *renderer, args []any, named map[string]any) (any, error) {
			if i, ok := integer(args[0]); ok {
				return i, nil
			}
			if f, ok := args[0].(float64); ok && math.Abs(f) < 1<<62 {
				return int64(f), nil
			}
			s := strings.TrimSpace(text(args[0]))
			if i, err := strconv.ParseInt(s, 10, 64); err == nil {
				return i, nil
			}
			if f, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(f) < 1<<62 {
				return int64(f), nil
			}
			return argument(args, 1, named, "default", int64(0)), nil
		},
		"items": func(_ *renderer, args []any, _ map[string]any) (any, error) {
			switch d := args[0].(type) {
			case *Dict:
				return d.pairs(d.keys), nil
			case undefined:
				return &list{}, nil
			}
			return nil, fmt.Errorf("items of %s", kindName(args[0]))
		},
		"join": ofList(func(items, args []any, named map[string]any) (any, error) {
			if name := argument(args, 1, named, "attribute", nil); name != nil {
				items = mapped(items, text(name))
			}
			return joinAll(items, text(argument(args, 0, named, "d", "")))
		}),
		"last": ofList(func(items, _ []any, _ map[string]any) (any, error) {
			if len(items) == 0 {
				return undefined{"the last of nothing"}, nil
			}
			return items[len(items)-1], nil
		}),
		"length": lengthFilter,
		"list": ofList(func(items, _ []any, _ map[string]any) (any, error) {
			return &list{items: items}, nil
		}),
		"lower":  ofString(stringMethods["lower"]),
		"map":    mapFilter,
		"max":    ofList(func(items, _ []any, _ map[string]any) (any, error) { return extreme(items, 1) }),
		"min":    ofList(func(items, _ []any, _ map[string]any) (any, error) { return extreme(items, -1) }),
		"reject": chooser(false, false), "rejectattr": chooser(true, false),
		"replace": ofString(stringMethods["replace"]),
		"reverse": func(r *renderer, args []any, _ map[string]any) (any, error) {
			items, ok := elements(args[0])
			if !ok {
				return nil, fmt.Errorf("reverse of %s", kindName(args[0]))
			}
			items = slices.Clone(items)
			slices.Reverse(items)
			if _, ok := args[0].(string); ok {
				return joinAll(items, "")
			}
			return &list{items: items}, nil
		},
		"round": func(_ *renderer, args []any, named map[string]any) (any, error) {
			f, ok := number(args[0])
			digits, whole := integer(argument(args, 1, named, "precision", int64(0)))
			if !ok || !whole {
				return nil, fmt.Errorf("round of %s", kindName(args[0]))
			}
			scale := math.Pow(10, float64(digits))
			return math.RoundToEven(f*scale) / scale, nil
		},
		"safe":   func(_ *renderer, args []any, _ map[string]any) (any, error) { return args[0], nil },
		"select": chooser(false, true), "selectattr": chooser(true, true),
		"sort":   ofList(sortItems),
		"string": func(_ *renderer, args []any, _ map[string]any) (any, error) { return text(args[0]), nil },
		"sum": ofList(func(items, args []any, named map[string]any) (any, error) {
			if name := argument(args, 0, named, "attribute", nil); name != nil {
				items = mapped(items, text(name))
			}
			var total any = int64(0)
			for _, x := range items {
				var err error
				if total, err = binary(0, "+", total, x); err != nil {
					return nil, errors.New("sum of what is no number")
				}
			}
			return total, nil
		}),
		"title": ofString(stringMethods["title"]),
		"tojson": func(_ *renderer, args []any, named map[string]any) (any, error) {
			space := ""
			if n, ok := integer(argument(args, 1, named, "indent", nil)); ok {
				space = strings.Repeat(" ", int(min(max(n, 0), 16)))
			}
			var b strings.Builder
			err := toJSON(&b, args[0], space, 0)
			return b.String(), err
		},
		"trim": ofString(stringMethods["strip"]),
		"unique": ofList(func(items, _ []any, _ map[string]any) (any, error) {
			l := &list{}
			seen := map[string]bool{}
			for _, x := range items {
				if key := strings.ToLower(text(x)); !seen[key] {
					seen[key] = true
					l.items = append(l.items, x)
				}
			}
			return l, nil
		}),
		"upper": ofString(stringMethods["upper"]),
	}
}

func lengthFilter(_ *renderer, args []any, _ map[string]any) (any, error) {
	n, ok := length(args[0])
	if !ok {
		return nil, fmt.Errorf("the length of %s", kindName(args[0]))
	}
	return int64(n), nil
}

func defaultFilter(_ *renderer, args []any, named map[string]any) (any, error) {
	_, missing := args[0].(undefined)
	if missing || truth(argument(args, 2, named, "boolean", false)) && !truth(args[0]) {
		return argument(args, 1, named, "default_value", ""), nil
	}
	return args[0], nil
}

func escapeHTML(s string, _ []any, _ map[string]any) (any, error) {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;").Replace(s), nil
}

func indent(s string, args []any, named map[string]any) (any, error) {
	width := argument(args, 0, named, "width", int64(4))
	space, ok := width.(string)
	if n, number := integer(width); number {
		space, ok = strings.Repeat(" ", int(min(max(n, 0), 1000))), true
	}
	lines := strings.Split(s, "\n")
	if !ok || len(lines)*len(space) > maxOutput {
		return nil, errors.New("an indent that is no number, or too wide")
	}
	for i := range lines {
		first := i > 0 || truth(argument(args, 1, named, "first", false))
		if first && (lines[i] != "" || truth(argument(args, 2, named, "blank", false))) {
			lines[i] = space + lines[i]
		}
	}
	return strings.Join(lines, "\n"), nil
}

func joinAll(items []any, sep string) (any, error) {
	parts := make([]string, len(items))
	size := 0
	for i, x := range items {
		parts[i] = text(x)
		if size += len(parts[i]) + len(sep); size > maxOutput {
			return nil, errors.New("a string that is too long")
		}
	}
	return strings.Join(parts, sep), nil
}

// mapped returns an attribute, perhaps of an attribute, of all items.
func mapped(items []any, path string) []any {
	out := make([]any, len(items))
	for i, x := range items {
		for name := range strings.SplitSeq(path, ".") {
			if d, ok := x.(*Dict); ok {
				x, ok = d.values[name]
				if ok {
					continue
				}
			}
			x = undefined{name}
		}
		out[i] = x
	}
	return out
}

func mapFilter(r *renderer, args []any, named map[string]any) (any, error) {
	items, ok := elements(args[0])
	if !ok {
		return nil, fmt.Errorf("map over %s", kindName(args[0]))
	}
	if name, ok := named["attribute"]; ok {
		out := mapped(items, text(name))
		if otherwise, ok := named["default"]; ok {
			for i, x := range out {
				if _, missing := x.(undefined); missing {
					out[i] = otherwise
				}
			}
		}
		return &list{items: out}, nil
	}
	if len(args) < 2 || filters[text(args[1])] == nil {
		return nil, errors.New("map needs the name of a filter or an attribute")
	}
	out := &list{items: make([]any, len(items))}
	for i, x := range items {
		if err := r.step(0); err != nil {
			return nil, err
		}
		var err error
		if out.items[i], err = filters[text(args[1])](r, append([]any{x}, args[2:]...), named); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// chooser is select and reject, by a test on the items or on an attribute of them.
func chooser(byAttribute, keep bool) function {
	return func(r *renderer, args []any, _ map[string]any) (any, error) {
		items, ok := elements(args[0])
		if !ok {
			return nil, fmt.Errorf("a choice from %s", kindName(args[0]))
		}
		subjects, rest := items, args[1:]
		if byAttribute {
			if len(rest) == 0 {
				return nil, errors.New("a choice by an attribute needs its name")
			}
			subjects, rest = mapped(items, text(rest[0])), rest[1:]
		}
		test := func(a []any) (bool, error) { return truth(a[0]), nil }
		if len(rest) > 0 {
			if test, rest = tests[text(rest[0])], rest[1:]; test == nil {
				return nil, fmt.Errorf("a choice by a test that is not supported (known: %s)", known(tests))
			}
		}
		out := &list{}
		for i, x := range subjects {
			yes, err := test(append([]any{x}, rest...))
			if err != nil {
				return nil, err
			}
			if yes == keep {
				out.items = append(out.items, items[i])
			}
		}
		return out, nil
	}
}

// byOrder compares as sort does: strings without their case.
func byOrder(failed *error) func(a, b any) int {
	return func(a, b any) int {
		x, okA := a.(string)
		y, okB := b.(string)
		if okA && okB {
			a, b = strings.ToLower(x), strings.ToLower(y)
		}
		c, err := order(a, b)
		if err != nil {
			*failed = err
		}
		return c
	}
}

func sortItems(items, args []any, named map[string]any) (any, error) {
	type keyed struct{ key, item any }
	keys := items
	if name := argument(args, 2, named, "attribute", nil); name != nil {
		keys = mapped(items, text(name))
	}
	pairs := make([]keyed, len(items))
	for i := range items {
		pairs[i] = keyed{keys[i], items[i]}
	}
	var failed error
	compare := byOrder(&failed)
	sign := 1
	if truth(argument(args, 0, named, "reverse", false)) {
		sign = -1
	}
	slices.SortStableFunc(pairs, func(a, b keyed) int { return sign * compare(a.key, b.key) })
	out := &list{}
	for _, p := range pairs {
		out.items = append(out.items, p.item)
	}
	return out, failed
}

func extreme(items []any, sign int) (any, error) {
	if len(items) == 0 {
		return undefined{"the extreme of nothing"}, nil
	}
	var failed error
	compare := byOrder(&failed)
	best := items[0]
	for _, x := range items[1:] {
		if sign*compare(x, best) > 0 {
			best = x
		}
	}
	return best, failed
}
