package jinja

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
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

// globals are the functions that a template has without asking.
func (r *renderer) globals() map[string]any {
	return map[string]any{
		"namespace": callable(func(_ *renderer, args []any, named map[string]any) (any, error) {
			ns := &namespace{maps.Clone(named)}
			for _, a := range args {
				if d, ok := a.(*Dict); ok {
					maps.Copy(ns.vars, d.values)
				}
			}
			return ns, nil
		}),
		"dict": callable(func(_ *renderer, _ []any, named map[string]any) (any, error) {
			d := NewDict()
			for _, k := range slices.Sorted(maps.Keys(named)) {
				d.Set(k, named[k])
			}
			return d, nil
		}),
		"range": callable(rangeOf),
		"raise_exception": callable(func(_ *renderer, args []any, _ map[string]any) (any, error) {
			return nil, errors.New(text(argument(args, 0, nil, "", "raise_exception")))
		}),
		"strftime_now": callable(func(r *renderer, args []any, _ map[string]any) (any, error) {
			return strftime(r.now, text(argument(args, 0, nil, "", ""))), nil
		}),
	}
}

func rangeOf(r *renderer, args []any, _ map[string]any) (any, error) {
	n := make([]int64, len(args))
	for i, a := range args {
		var ok bool
		if n[i], ok = integer(a); !ok {
			return nil, fmt.Errorf("range of %s", kindName(a))
		}
	}
	from, to, step := int64(0), int64(0), int64(1)
	switch len(n) {
	case 1:
		to = n[0]
	case 2:
		from, to = n[0], n[1]
	case 3:
		from, to, step = n[0], n[1], n[2]
	default:
		return nil, errors.New("range takes one to three numbers")
	}
	if step == 0 {
		return nil, errors.New("a range of step 0")
	}
	l := &list{}
	for i := from; step > 0 && i < to || step < 0 && i > to; i += step {
		if len(l.items) >= 100_000 {
			return nil, errors.New("a range of more than 100000 numbers")
		}
		l.items = append(l.items, i)
	}
	return l, nil
}

// dates are the directives of strftime that templates use, as Go lays them out.
var dates = map[byte]string{'d': "02", 'b': "Jan", 'B': "January", 'Y': "2006", 'y': "06", 'm': "01", 'H': "15", 'M': "04", 'S': "05", 'A': "Monday", 'a': "Mon", 'I': "03", 'p': "PM", 'j': "002"}

func strftime(t time.Time, format string) string {
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		switch layout, ok := dates[format[i]]; {
		case ok:
			b.WriteString(t.Format(layout))
		case format[i] == '%':
			b.WriteByte('%')
		default:
			b.WriteString(format[i-1 : i+1])
		}
	}
	return b.String()
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

// tests by name; the first argument is what is tested.
var tests = map[string]func(args []any) (bool, error){
	"boolean":   func(a []any) (bool, error) { _, ok := a[0].(bool); return ok, nil },
	"callable":  func(a []any) (bool, error) { _, ok := a[0].(callable); return ok, nil },
	"defined":   func(a []any) (bool, error) { _, missing := a[0].(undefined); return !missing, nil },
	"undefined": func(a []any) (bool, error) { _, missing := a[0].(undefined); return missing, nil },
	"divisibleby": func(a []any) (bool, error) {
		x, y, err := twoIntegers(a)
		return err == nil && x%y == 0, err
	},
	"even":  func(a []any) (bool, error) { x, _, err := twoIntegers([]any{a[0], int64(1)}); return x%2 == 0, err },
	"odd":   func(a []any) (bool, error) { x, _, err := twoIntegers([]any{a[0], int64(1)}); return x%2 != 0, err },
	"false": func(a []any) (bool, error) { b, ok := a[0].(bool); return ok && !b, nil },
	"true":  func(a []any) (bool, error) { b, ok := a[0].(bool); return ok && b, nil },
	"float": func(a []any) (bool, error) { _, ok := a[0].(float64); return ok, nil },
	"integer": func(a []any) (bool, error) {
		_, ok := a[0].(int64)
		return ok, nil
	},
	"iterable": func(a []any) (bool, error) { _, ok := elements(a[0]); return ok, nil },
	"lower": func(a []any) (bool, error) {
		s := text(a[0])
		return s == strings.ToLower(s) && s != strings.ToUpper(s), nil
	},
	"upper": func(a []any) (bool, error) {
		s := text(a[0])
		return s == strings.ToUpper(s) && s != strings.ToLower(s), nil
	},
	"mapping":  func(a []any) (bool, error) { _, ok := a[0].(*Dict); return ok, nil },
	"none":     func(a []any) (bool, error) { return a[0] == nil, nil },
	"number":   func(a []any) (bool, error) { _, ok := number(a[0]); return ok, nil },
	"sequence": func(a []any) (bool, error) { _, ok := length(a[0]); return ok, nil },
	"string":   func(a []any) (bool, error) { _, ok := a[0].(string); return ok, nil },
	"in":       relation("in"),
	"eq":       relation("=="), "equalto": relation("=="), "ne": relation("!="),
	"lt": relation("<"), "lessthan": relation("<"), "le": relation("<="),
	"gt": relation(">"), "greaterthan": relation(">"), "ge": relation(">="),
}

func relation(op string) func(args []any) (bool, error) {
	return func(args []any) (bool, error) {
		if len(args) != 2 {
			return false, errors.New("the test needs a value to compare with")
		}
		return holds(op, args[0], args[1])
	}
}

func twoIntegers(a []any) (x, y int64, err error) {
	if len(a) != 2 {
		return 0, 1, errors.New("the test needs a number")
	}
	x, okX := integer(a[0])
	y, okY := integer(a[1])
	if !okX || !okY || y == 0 {
		return 0, 1, fmt.Errorf("a test of whole numbers on %s and %s", kindName(a[0]), kindName(a[1]))
	}
	return x, y, nil
}

// pairs returns the keys with their values.
func (d *Dict) pairs(keys []string) *list {
	l := &list{items: make([]any, len(keys))}
	for i, k := range keys {
		l.items[i] = &list{items: []any{k, d.values[k]}, tuple: true}
	}
	return l
}

// dictMethods are the methods of a mapping.
var dictMethods = map[string]func(d *Dict, args []any, named map[string]any) (any, error){
	"get": func(d *Dict, args []any, named map[string]any) (any, error) {
		if len(args) == 0 {
			return nil, errors.New("get needs a key")
		}
		if k, ok := args[0].(string); ok {
			if v, ok := d.values[k]; ok {
				return v, nil
			}
		}
		return argument(args, 1, named, "default", nil), nil
	},
	"items": func(d *Dict, _ []any, _ map[string]any) (any, error) { return d.pairs(d.keys), nil },
	"keys": func(d *Dict, _ []any, _ map[string]any) (any, error) {
		keys, _ := elements(d)
		return &list{items: keys}, nil
	},
	"values": func(d *Dict, _ []any, _ map[string]any) (any, error) {
		l := &list{}
		for _, k := range d.keys {
			l.items = append(l.items, d.values[k])
		}
		return l, nil
	},
}

// stringMethods are the methods of a string.
var stringMethods = map[string]func(s string, args []any, named map[string]any) (any, error){
	"capitalize": func(s string, _ []any, _ map[string]any) (any, error) {
		_, n := utf8.DecodeRuneInString(s)
		return strings.ToUpper(s[:n]) + strings.ToLower(s[n:]), nil
	},
	"endswith":   ends(strings.HasSuffix),
	"startswith": ends(strings.HasPrefix),
	"find": func(s string, args []any, _ map[string]any) (any, error) {
		i := strings.Index(s, text(argument(args, 0, nil, "", "")))
		if i > 0 {
			i = utf8.RuneCountInString(s[:i])
		}
		return int64(i), nil
	},
	"count": func(s string, args []any, _ map[string]any) (any, error) {
		return int64(strings.Count(s, text(argument(args, 0, nil, "", "")))), nil
	},
	"join": func(s string, args []any, _ map[string]any) (any, error) {
		items, ok := elements(argument(args, 0, nil, "", nil))
		if !ok {
			return nil, errors.New("join needs a list")
		}
		return joinAll(items, s)
	},
	"lower":  func(s string, _ []any, _ map[string]any) (any, error) { return strings.ToLower(s), nil },
	"upper":  func(s string, _ []any, _ map[string]any) (any, error) { return strings.ToUpper(s), nil },
	"strip":  strip(strings.Trim, strings.TrimFunc),
	"lstrip": strip(strings.TrimLeft, strings.TrimLeftFunc),
	"rstrip": strip(strings.TrimRight, strings.TrimRightFunc),
	"replace": func(s string, args []any, named map[string]any) (any, error) {
		from, to := argument(args, 0, named, "old", nil), argument(args, 1, named, "new", nil)
		if from == nil || to == nil {
			return nil, errors.New("replace needs what to replace and by what")
		}
		times := int64(-1)
		if n, ok := integer(argument(args, 2, named, "count", nil)); ok {
			times = n
		}
		old, by := text(from), text(to)
		if strings.Count(s, old)*len(by) > maxOutput {
			return nil, errors.New("a string that is too long")
		}
		return strings.Replace(s, old, by, int(times)), nil
	},
	"split":  split(strings.SplitN, splitFieldsLeft),
	"rsplit": split(splitRight, splitFieldsRight),
	"splitlines": func(s string, _ []any, _ map[string]any) (any, error) {
		l := &list{}
		for line := range strings.Lines(strings.ReplaceAll(s, "\r\n", "\n")) {
			l.items = append(l.items, strings.TrimSuffix(line, "\n"))
		}
		return l, nil
	},
	"title": func(s string, _ []any, _ map[string]any) (any, error) {
		word := false
		return strings.Map(func(r rune) rune {
			was := word
			word = unicode.IsLetter(r) || was && r == '\''
			if was {
				return unicode.ToLower(r)
			}
			return unicode.ToTitle(r)
		}, s), nil
	},
	"isdigit": all(unicode.IsDigit), "isalpha": all(unicode.IsLetter), "isspace": all(unicode.IsSpace),
	"removeprefix": func(s string, args []any, _ map[string]any) (any, error) {
		return strings.TrimPrefix(s, text(argument(args, 0, nil, "", ""))), nil
	},
	"removesuffix": func(s string, args []any, _ map[string]any) (any, error) {
		return strings.TrimSuffix(s, text(argument(args, 0, nil, "", ""))), nil
	},
}

func all(is func(rune) bool) func(s string, args []any, named map[string]any) (any, error) {
	return func(s string, _ []any, _ map[string]any) (any, error) {
		return s != "" && strings.IndexFunc(s, func(r rune) bool { return !is(r) }) < 0, nil
	}
}

func ends(has func(s, end string) bool) func(s string, args []any, named map[string]any) (any, error) {
	return func(s string, args []any, _ map[string]any) (any, error) {
		switch end := argument(args, 0, nil, "", nil).(type) {
		case string:
			return has(s, end), nil
		case *list:
			return slices.ContainsFunc(end.items, func(x any) bool { e, ok := x.(string); return ok && has(s, e) }), nil
		}
		return nil, errors.New("the start or end must be a string")
	}
}

func strip(chars func(s, set string) string, space func(s string, is func(rune) bool) string) func(s string, args []any, named map[string]any) (any, error) {
	return func(s string, args []any, named map[string]any) (any, error) {
		if set := argument(args, 0, named, "chars", nil); set != nil {
			return chars(s, text(set)), nil
		}
		return space(s, unicode.IsSpace), nil
	}
}

// split cuts at a separator, or at white space, n−1 times at most; n < 0 is no bound.
func split(at func(s, sep string, n int) []string, fields func(s string, n int) []string) func(s string, args []any, named map[string]any) (any, error) {
	return func(s string, args []any, named map[string]any) (any, error) {
		n := -1
		if most, ok := integer(argument(args, 1, named, "maxsplit", nil)); ok && most >= 0 {
			n = int(min(most, math.MaxInt32)) + 1
		}
		var parts []string
		if sep := argument(args, 0, named, "sep", nil); sep == nil {
			parts = fields(s, n)
		} else if text(sep) == "" {
			return nil, errors.New("a split at an empty separator")
		} else {
			parts = at(s, text(sep), n)
		}
		l := &list{items: make([]any, len(parts))}
		for i, p := range parts {
			l.items[i] = p
		}
		return l, nil
	}
}

func splitRight(s, sep string, n int) []string {
	parts := strings.Split(s, sep)
	if n > 0 && len(parts) > n {
		k := len(parts) - n + 1
		parts = append([]string{strings.Join(parts[:k], sep)}, parts[k:]...)
	}
	return parts
}

func splitFieldsLeft(s string, n int) []string {
	var parts []string
	for s = strings.TrimLeftFunc(s, unicode.IsSpace); s != ""; s = strings.TrimLeftFunc(s, unicode.IsSpace) {
		end := strings.IndexFunc(s, unicode.IsSpace)
		if end < 0 || len(parts)+1 == n {
			end = len(s)
		}
		parts = append(parts, s[:end])
		s = s[end:]
	}
	return parts
}

func splitFieldsRight(s string, n int) []string {
	var parts []string
	for s = strings.TrimRightFunc(s, unicode.IsSpace); s != ""; s = strings.TrimRightFunc(s, unicode.IsSpace) {
		start := 0
		if i := strings.LastIndexFunc(s, unicode.IsSpace); i >= 0 && len(parts)+1 != n {
			_, size := utf8.DecodeRuneInString(s[i:])
			start = i + size
		}
		parts = append(parts, s[start:])
		s = s[:start]
	}
	slices.Reverse(parts)
	return parts
}
