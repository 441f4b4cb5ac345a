package jinja

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

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
