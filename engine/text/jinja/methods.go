package jinja

import (
	"errors"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

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
