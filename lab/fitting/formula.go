package fitting

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrFormula marks a choice of columns that cannot be read.
var ErrFormula = errors.New("wrong formula")

// Factor is a column of the table, or a function of it.
type Factor struct {
	Column   string `json:"column"`
	Function string `json:"function,omitempty"` // log, sqrt, square
}

// String writes the factor as a formula does.
func (f Factor) String() string {
	if f.Function == "" {
		return f.Column
	}
	return f.Function + "(" + f.Column + ")"
}

// Term is a product of factors: mostly of one.
type Term []Factor

// String writes the term as a formula does.
func (t Term) String() string {
	parts := make([]string, len(t))
	for i, f := range t {
		parts[i] = f.String()
	}
	return strings.Join(parts, ":")
}

// functions that a formula knows.
var functions = []string{"log", "sqrt", "square"}

// ParseFormula reads a choice of columns,
//
//	[response ~] term + term − term …
//
// where a term is a column, "." for all but the response, log(column), sqrt(column),
// square(column), or a product a:b; a*b means a + b + a:b. "- term" leaves one out. Names
// that hold such signs stand in backquotes, and commas do for plus signs. all are the
// table's columns.
func ParseFormula(text, response string, all []string) (names string, terms []Term, err error) {
	if left, right, two := cutOutside(text, '~'); two {
		names, text = strings.Trim(strings.TrimSpace(left), "`"), right
		if response != "" && names != "" && names != response {
			return "", nil, fmt.Errorf("fitting: %w: the formula's response is %q, --response says %q", ErrFormula, names, response)
		}
	}
	if names == "" {
		names = response
	}
	if strings.TrimSpace(text) == "" {
		text = "."
	}
	plus, minus, dot, err := splitTerms(text)
	if err != nil {
		return "", nil, err
	}
	if len(plus) == 0 {
		dot = true
	}
	for _, t := range plus {
		terms = addTerm(terms, t)
	}
	if dot {
		named := terms
		terms = nil
		for _, name := range all {
			if name != names {
				terms = append(terms, Term{{Column: name}})
			}
		}
		for _, t := range named {
			terms = addTerm(terms, t)
		}
	}
	for _, t := range minus {
		before := len(terms)
		terms = slices.DeleteFunc(terms, func(u Term) bool { return slices.Equal(t, u) })
		if len(terms) == before {
			return "", nil, fmt.Errorf("fitting: %w: %q is left out but was not there", ErrFormula, t)
		}
	}
	return names, terms, nil
}

// splitTerms cuts a formula's right side at its signs.
func splitTerms(text string) (plus, minus []Term, dot bool, err error) {
	for text = strings.TrimSpace(text); text != ""; {
		sign := byte('+')
		if text[0] == '-' || text[0] == '+' || text[0] == ',' {
			sign, text = text[0], strings.TrimSpace(text[1:])
		}
		end := indexOutside(text, "+-,")
		if end < 0 {
			end = len(text)
		}
		word := strings.TrimSpace(text[:end])
		text = strings.TrimSpace(text[end:])
		if word == "" {
			return nil, nil, false, fmt.Errorf("fitting: %w: a sign without a term", ErrFormula)
		}
		if word == "." {
			if sign == '-' {
				return nil, nil, false, fmt.Errorf("fitting: %w: \"-.\" leaves nothing", ErrFormula)
			}
			dot = true
			continue
		}
		terms, err := parseTerm(word)
		if err != nil {
			return nil, nil, false, err
		}
		if sign == '-' {
			minus = append(minus, terms...)
		} else {
			plus = append(plus, terms...)
		}
	}
	return plus, minus, dot, nil
}

// parseTerm reads a factor, a:b or a*b.
func parseTerm(word string) ([]Term, error) {
	if left, right, ok := cutOutside(word, '*'); ok {
		a, err := parseTerm(left)
		if err != nil {
			return nil, err
		}
		b, err := parseTerm(right)
		if err != nil {
			return nil, err
		}
		all := slices.Concat(a, b)
		for _, x := range a {
			for _, y := range b {
				all = append(all, slices.Concat(x, y))
			}
		}
		return all, nil
	}
	var t Term
	for rest, more := word, true; more; {
		var part string
		part, rest, more = cutOutside(rest, ':')
		f, err := parseFactor(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		t = append(t, f)
	}
	return []Term{t}, nil
}

func parseFactor(word string) (Factor, error) {
	if name, ok := quoted(word); ok {
		return Factor{Column: name}, nil
	}
	for _, fn := range functions {
		inside, ok := strings.CutPrefix(word, fn+"(")
		if !ok || !strings.HasSuffix(inside, ")") {
			continue
		}
		f, err := parseFactor(strings.TrimSpace(inside[:len(inside)-1]))
		if err != nil || f.Function != "" {
			return Factor{}, fmt.Errorf("fitting: %w: %q: a function takes one column", ErrFormula, word)
		}
		f.Function = fn
		return f, nil
	}
	if open := strings.IndexByte(word, '('); open > 0 {
		return Factor{}, fmt.Errorf("fitting: %w: function %q is not known (known: %s); a column of that name stands in backquotes", ErrFormula, word[:open], strings.Join(functions, ", "))
	}
	if word == "" || strings.ContainsAny(word, "`()~") {
		return Factor{}, fmt.Errorf("fitting: %w: %q is no column's name; put unusual names in backquotes", ErrFormula, word)
	}
	if _, err := strconv.ParseFloat(word, 64); err == nil {
		return Factor{}, fmt.Errorf("fitting: %w: %q is a number; models have their own intercepts", ErrFormula, word)
	}
	return Factor{Column: word}, nil
}

func quoted(word string) (string, bool) {
	if len(word) > 2 && word[0] == '`' && strings.IndexByte(word[1:], '`') == len(word)-2 {
		return word[1 : len(word)-1], true
	}
	return "", false
}

// indexOutside is the first of some signs outside backquotes and parentheses, or −1.
func indexOutside(text, signs string) int {
	quote, depth := false, 0
	for i := range len(text) {
		switch c := text[i]; {
		case c == '`':
			quote = !quote
		case quote:
		case c == '(':
			depth++
		case c == ')':
			depth--
		case depth == 0 && strings.IndexByte(signs, c) >= 0:
			return i
		}
	}
	return -1
}

func cutOutside(text string, sign byte) (left, right string, ok bool) {
	if i := indexOutside(text, string(sign)); i >= 0 {
		return text[:i], text[i+1:], true
	}
	return text, "", false
}

func addTerm(terms []Term, t Term) []Term {
	if slices.ContainsFunc(terms, func(u Term) bool { return slices.Equal(t, u) }) {
		return terms
	}
	return append(terms, t)
}
