package jinja

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The values of a template: nil (none), bool, int64, float64, string, *list, *Dict,
// *namespace, callable and undefined.
type (
	list struct {
		items []any
		tuple bool
	}
	namespace struct{ vars map[string]any }
	callable  func(r *renderer, args []any, named map[string]any) (any, error)
	undefined struct{ name string }
)

// Dict is a mapping that keeps the order of its keys.
type Dict struct {
	keys   []string
	values map[string]any
}

// NewDict returns an empty mapping.
func NewDict() *Dict { return &Dict{values: map[string]any{}} }

// Set adds a key or changes its value, which is as for Template.Render.
func (d *Dict) Set(key string, value any) {
	if _, ok := d.values[key]; !ok {
		d.keys = append(d.keys, key)
	}
	d.values[key] = fromGo(value)
}

// fromGo turns a Go value into one of a template.
func fromGo(v any) any {
	switch v := v.(type) {
	case int:
		return int64(v)
	case []any:
		l := &list{items: make([]any, len(v))}
		for i, x := range v {
			l.items[i] = fromGo(x)
		}
		return l
	case map[string]any:
		d := NewDict()
		for k := range v {
			d.keys = append(d.keys, k)
			d.values[k] = fromGo(v[k])
		}
		slices.Sort(d.keys)
		return d
	case nil, bool, int64, float64, string, *list, *Dict, *namespace, callable, undefined:
		return v
	}
	return fmt.Sprint(v)
}

func truth(v any) bool {
	switch v := v.(type) {
	case nil, undefined:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case *list:
		return len(v.items) > 0
	case *Dict:
		return len(v.keys) > 0
	}
	return true
}

// kindName names a value's kind in errors.
func kindName(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case undefined:
		return strconv.Quote(v.name) + ", which is undefined,"
	case bool:
		return "a boolean"
	case int64, float64:
		return "a number"
	case string:
		return "a string"
	case *list:
		return "a list"
	case *Dict:
		return "a mapping"
	case *namespace:
		return "a namespace"
	}
	return "a function"
}

// text is what printing a value gives.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case undefined:
		return ""
	}
	var b strings.Builder
	repr(&b, v, 0)
	return b.String()
}

// repr writes a value as Python does.
func repr(b *strings.Builder, v any, depth int) {
	if depth > maxDepth || b.Len() > maxOutput {
		b.WriteString("...")
		return
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if v {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		b.WriteString(floatText(v))
	case string:
		reprString(b, v)
	case *list:
		open, end := "[", "]"
		if v.tuple {
			open, end = "(", ")"
			if len(v.items) == 1 {
				end = ",)"
			}
		}
		b.WriteString(open)
		for i, x := range v.items {
			if i > 0 {
				b.WriteString(", ")
			}
			repr(b, x, depth+1)
		}
		b.WriteString(end)
	case *Dict:
		b.WriteByte('{')
		for i, k := range v.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			reprString(b, k)
			b.WriteString(": ")
			repr(b, v.values[k], depth+1)
		}
		b.WriteByte('}')
	case undefined:
		b.WriteString("Undefined")
	default:
		b.WriteString("<" + strings.TrimPrefix(kindName(v), "a ") + ">")
	}
}

func reprString(b *strings.Builder, s string) {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b.WriteByte(quote)
	for _, r := range s {
		switch {
		case r == rune(quote) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || 0x7f <= r && r < 0xa0:
			fmt.Fprintf(b, `\x%02x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte(quote)
}

func floatText(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case math.IsNaN(f):
		return "nan"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// equal is ==.
func equal(a, b any, depth int) bool {
	if x, y, ok := numbers(a, b); ok {
		return x == y
	}
	if depth > maxDepth {
		return false
	}
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		return ok && x == y
	case nil:
		return b == nil
	case undefined:
		_, ok := b.(undefined)
		return ok
	case *list:
		y, ok := b.(*list)
		return ok && x.tuple == y.tuple && slices.EqualFunc(x.items, y.items, func(p, q any) bool { return equal(p, q, depth+1) })
	case *Dict:
		y, ok := b.(*Dict)
		if !ok || len(x.keys) != len(y.keys) {
			return false
		}
		for _, k := range x.keys {
			v, ok := y.values[k]
			if !ok || !equal(x.values[k], v, depth+1) {
				return false
			}
		}
		return true
	case *namespace:
		return a == b
	}
	return false
}

// numbers returns two numbers as floating point; booleans are 0 and 1.
func numbers(a, b any) (x, y float64, ok bool) {
	x, okA := number(a)
	y, okB := number(b)
	return x, y, okA && okB
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// integer returns a value as a whole number.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case int64:
		return v, true
	}
	return 0, false
}

// elements returns what iterating over a value gives.
func elements(v any) ([]any, bool) {
	switch v := v.(type) {
	case *list:
		return v.items, true
	case *Dict:
		keys := make([]any, len(v.keys))
		for i, k := range v.keys {
			keys[i] = k
		}
		return keys, true
	case string:
		chars := make([]any, 0, len(v))
		for _, r := range v {
			chars = append(chars, string(r))
		}
		return chars, true
	case undefined:
		return nil, true
	}
	return nil, false
}

func length(v any) (int, bool) {
	switch v := v.(type) {
	case string:
		return utf8.RuneCountInString(v), true
	case *list:
		return len(v.items), true
	case *Dict:
		return len(v.keys), true
	case undefined:
		return 0, true
	}
	return 0, false
}

// toJSON writes a value as Python's json.dumps does without ASCII escapes.
func toJSON(b *strings.Builder, v any, indent string, depth int) error {
	if depth > maxDepth || b.Len() > maxOutput {
		return fmt.Errorf("tojson: the value is too deep or too large")
	}
	line := func() {
		if indent != "" {
			b.WriteString("\n" + strings.Repeat(indent, depth))
		}
	}
	sep := ", "
	if indent != "" {
		sep = ","
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int64, float64:
		b.WriteString(text(v))
	case string:
		jsonString(b, v)
	case *list:
		if len(v.items) == 0 {
			b.WriteString("[]")
			return nil
		}
		b.WriteByte('[')
		for i, x := range v.items {
			if i > 0 {
				b.WriteString(sep)
			}
			depth++
			line()
			if err := toJSON(b, x, indent, depth); err != nil {
				return err
			}
			depth--
		}
		line()
		b.WriteByte(']')
	case *Dict:
		if len(v.keys) == 0 {
			b.WriteString("{}")
			return nil
		}
		b.WriteByte('{')
		for i, k := range v.keys {
			if i > 0 {
				b.WriteString(sep)
			}
			depth++
			line()
			jsonString(b, k)
			b.WriteString(": ")
			if err := toJSON(b, v.values[k], indent, depth); err != nil {
				return err
			}
			depth--
		}
		line()
		b.WriteByte('}')
	default:
		return fmt.Errorf("tojson: %s has no JSON", kindName(v))
	}
	return nil
}

func jsonString(b *strings.Builder, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\b':
			b.WriteString(`\b`)
		case r == '\f':
			b.WriteString(`\f`)
		case r < 0x20:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}

// FromJSON reads a JSON document as a template's value; mappings keep their order.
func FromJSON(raw []byte) (any, error) {
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	return fromJSON(d, 0)
}

func fromJSON(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("jinja: JSON with more than %d levels: %w", maxDepth, ErrRender)
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '[' {
			l := &list{}
			for d.More() {
				v, err := fromJSON(d, depth+1)
				if err != nil {
					return nil, err
				}
				l.items = append(l.items, v)
			}
			_, err := d.Token()
			return l, err
		}
		m := NewDict()
		for d.More() {
			k, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := fromJSON(d, depth+1)
			if err != nil {
				return nil, err
			}
			m.Set(k.(string), v)
		}
		_, err := d.Token()
		return m, err
	case json.Number:
		if v, err := t.Int64(); err == nil {
			return v, nil
		}
		return t.Float64()
	}
	return t, nil
}
