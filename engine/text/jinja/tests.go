package jinja

import (
	"errors"
	"fmt"
	"strings"
)

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
