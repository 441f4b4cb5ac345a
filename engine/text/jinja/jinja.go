// Package jinja renders the Jinja templates that come with chat models: the part of
// the language that these use, with the settings that transformers gives it
// (trim_blocks and lstrip_blocks on, loop controls, raise_exception, tojson without
// escapes). Templates read nothing but their variables; rendering ends with an error
// when it takes too many steps or writes too much, so a template that somebody else
// wrote may be run.
package jinja

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

var (
	// ErrSyntax marks a template that is malformed or uses what is not supported.
	ErrSyntax = errors.New("not a template that can be used")
	// ErrRender marks a template that failed on its variables, by raise_exception too.
	ErrRender = errors.New("the template failed")
)

// The bounds of one rendering.
const (
	maxSteps  = 2_000_000 // statements and expressions evaluated
	maxOutput = 16 << 20  // bytes of a text
	maxDepth  = 100       // expressions or statements inside each other, macro calls
	maxSource = 4 << 20   // bytes of a template
)

// Template is a parsed template. It does not change and may be shared.
type Template struct{ body []node }

// Parse reads a template. Errors name its line.
func Parse(source string) (*Template, error) {
	if len(source) > maxSource {
		return nil, fmt.Errorf("jinja: the template has %d bytes, at most %d are read: %w", len(source), maxSource, ErrSyntax)
	}
	tokens, err := lex(source)
	if err != nil {
		return nil, fmt.Errorf("jinja: %w", err)
	}
	p := &parser{tokens: tokens}
	body, err := p.template()
	if err != nil {
		return nil, fmt.Errorf("jinja: %w", err)
	}
	return &Template{body}, nil
}

// Render renders the template with variables: nil, bool, int, int64, float64,
// string, []any and map[string]any (whose keys come in alphabetic order) and
// *Dict. now is what strftime_now tells.
func (t *Template) Render(variables map[string]any, now time.Time) (string, error) {
	r := &renderer{steps: maxSteps, now: now}
	global := &scope{vars: r.globals()}
	for name, v := range variables {
		global.vars[name] = fromGo(v)
	}
	var out strings.Builder
	r.out = &out
	if _, err := r.run(t.body, &scope{vars: map[string]any{}, outer: global}); err != nil {
		return "", fmt.Errorf("jinja: %w", err)
	}
	return out.String(), nil
}

// at puts the line before a fault.
func at(line int, kind error, format string, args ...any) error {
	return fmt.Errorf("line %d: %s: %w", line, fmt.Sprintf(format, args...), kind)
}
