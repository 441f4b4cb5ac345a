package jinja

import (
	"slices"
	"strconv"
)

// node is a statement.
type node interface{ where() int }

// line is where a node or expression begins.
type line int

func (l line) where() int { return int(l) }

type (
	textNode struct {
		line
		text string
	}
	printNode struct {
		line
		value expr
	}
	ifNode struct {
		line
		branches []branch // the last without a condition, if there is an else
	}
	branch struct {
		when expr // nil: always
		body []node
	}
	forNode struct {
		line
		targets []string
		over    expr
		when    expr // nil: always
		body    []node
		orElse  []node
	}
	setNode struct {
		line
		targets  []target
		value    expr   // nil: what body renders, as
		body     []node // filtered says
		filtered expr
	}
	target struct {
		name, attribute string // attribute of a namespace, or ""
	}
	macroNode struct {
		line
		name   string
		params []param
		body   []node
	}
	param struct {
		name  string
		value expr // nil: none
	}
	jumpNode struct {
		line
		jump jump
	}
	doNode struct {
		line
		value expr
	}
)

// parser reads tokens; the first fault ends it.
type parser struct {
	tokens []token
	pos    int
	depth  int
}

func (p *parser) peek() token { return p.tokens[p.pos] }

func (p *parser) next() token {
	t := p.tokens[p.pos]
	if t.kind != tokenEnd {
		p.pos++
	}
	return t
}

func (p *parser) fail(format string, args ...any) error {
	return at(p.peek().line, ErrSyntax, format, args...)
}

// is says whether the next token is this name or operator.
func (p *parser) is(k kind, text string) bool {
	t := p.peek()
	return t.kind == k && t.text == text
}

// take reads the next token if it is this name or operator.
func (p *parser) take(k kind, text string) bool {
	if p.is(k, text) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) expect(k kind, text string) error {
	if !p.take(k, text) {
		return p.fail("%s is not expected, %q is", p.peek(), text)
	}
	return nil
}

func (p *parser) name() (string, error) {
	t := p.peek()
	if t.kind != tokenName {
		return "", p.fail("%s is not expected, a name is", t)
	}
	p.pos++
	return t.text, nil
}

// enter counts what stands inside each other.
func (p *parser) enter() (leave func(), err error) {
	p.depth++
	if p.depth > maxDepth {
		return nil, p.fail("more than %d levels", maxDepth)
	}
	return func() { p.depth-- }, nil
}

func (p *parser) template() ([]node, error) {
	body, end, err := p.block(nil)
	if err == nil && end != "" {
		err = p.fail("%s is not expected", end)
	}
	return body, err
}

// block reads up to a tag of one of the names in ends, and its name; the tag's rest
// is left.
func (p *parser) block(ends []string) (body []node, end string, err error) {
	leave, err := p.enter()
	if err != nil {
		return nil, "", err
	}
	defer leave()
	for {
		t := p.next()
		switch t.kind {
		case tokenEnd:
			if ends != nil {
				return nil, "", p.fail("the template ends, %q is missing", ends[len(ends)-1])
			}
			return body, "", nil
		case tokenText:
			body = append(body, textNode{line(t.line), t.text})
		case tokenPrint:
			value, err := p.tuple()
			if err == nil {
				err = p.expect(tokenPrintClose, "}}")
			}
			if err != nil {
				return nil, "", err
			}
			body = append(body, printNode{line(t.line), value})
		default: // {%
			name, err := p.name()
			if err != nil {
				return nil, "", err
			}
			if slices.Contains(ends, name) {
				return body, name, nil
			}
			n, err := p.statement(name, line(t.line))
			if err != nil {
				return nil, "", err
			}
			body = append(body, n...)
		}
	}
}

// closed reads a block that one of ends closes with nothing behind it.
func (p *parser) closed(ends ...string) (body []node, end string, err error) {
	body, end, err = p.block(ends)
	if err == nil {
		err = p.expect(tokenClose, "%}")
	}
	return body, end, err
}

var statementNames = "for, if, set, macro, break, continue, do, generation, raw"

func (p *parser) statement(name string, l line) ([]node, error) {
	one := func(n node, err error) ([]node, error) { return []node{n}, err }
	switch name {
	case "for":
		return one(p.forLoop(l))
	case "if":
		return one(p.ifElse(l))
	case "set":
		return one(p.set(l))
	case "macro":
		return one(p.macro(l))
	case "break":
		return one(jumpNode{l, jumpBreak}, p.expect(tokenClose, "%}"))
	case "continue":
		return one(jumpNode{l, jumpContinue}, p.expect(tokenClose, "%}"))
	case "do":
		value, err := p.tuple()
		if err == nil {
			err = p.expect(tokenClose, "%}")
		}
		return one(doNode{l, value}, err)
	case "generation": // marks what the model says; the text is the same
		if err := p.expect(tokenClose, "%}"); err != nil {
			return nil, err
		}
		body, _, err := p.closed("endgeneration")
		return body, err
	}
	return nil, at(int(l), ErrSyntax, "the statement %q is not supported (known: %s)", name, statementNames)
}

func (p *parser) forLoop(l line) (node, error) {
	n := forNode{line: l}
	var err error
	paren := p.take(tokenOperator, "(")
	for {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		n.targets = append(n.targets, name)
		if !p.take(tokenOperator, ",") {
			break
		}
	}
	if paren {
		if err := p.expect(tokenOperator, ")"); err != nil {
			return nil, err
		}
	}
	if err := p.expect(tokenName, "in"); err != nil {
		return nil, err
	}
	if n.over, err = p.or(); err != nil { // an "if" behind it is the loop's
		return nil, err
	}
	if p.take(tokenName, "if") {
		if n.when, err = p.expression(); err != nil {
			return nil, err
		}
	}
	if err := p.expect(tokenClose, "%}"); err != nil {
		return nil, err
	}
	end := ""
	if n.body, end, err = p.closed("else", "endfor"); err == nil && end == "else" {
		n.orElse, _, err = p.closed("endfor")
	}
	return n, err
}

func (p *parser) ifElse(l line) (node, error) {
	n := ifNode{line: l}
	for {
		when, err := p.tuple()
		if err != nil {
			return nil, err
		}
		if err := p.expect(tokenClose, "%}"); err != nil {
			return nil, err
		}
		body, end, err := p.block([]string{"elif", "else", "endif"})
		if err != nil {
			return nil, err
		}
		n.branches = append(n.branches, branch{when, body})
		if end == "elif" {
			continue
		}
		if err := p.expect(tokenClose, "%}"); err != nil {
			return nil, err
		}
		if end == "else" {
			body, _, err := p.closed("endif")
			if err != nil {
				return nil, err
			}
			n.branches = append(n.branches, branch{nil, body})
		}
		return n, nil
	}
}

func (p *parser) set(l line) (node, error) {
	n := setNode{line: l}
	for {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		t := target{name: name}
		if p.take(tokenOperator, ".") {
			if t.attribute, err = p.name(); err != nil {
				return nil, err
			}
		}
		n.targets = append(n.targets, t)
		if !p.take(tokenOperator, ",") {
			break
		}
	}
	var err error
	if p.take(tokenOperator, "=") {
		if n.value, err = p.tuple(); err != nil {
			return nil, err
		}
		return n, p.expect(tokenClose, "%}")
	}
	var filtered expr = bodyExpr{l}
	for p.take(tokenOperator, "|") {
		if filtered, err = p.filter(filtered); err != nil {
			return nil, err
		}
	}
	n.filtered = filtered
	if err := p.expect(tokenClose, "%}"); err != nil {
		return nil, err
	}
	n.body, _, err = p.closed("endset")
	return n, err
}

func (p *parser) macro(l line) (node, error) {
	n := macroNode{line: l}
	var err error
	if n.name, err = p.name(); err != nil {
		return nil, err
	}
	if err := p.expect(tokenOperator, "("); err != nil {
		return nil, err
	}
	for !p.take(tokenOperator, ")") {
		if len(n.params) > 0 {
			if err := p.expect(tokenOperator, ","); err != nil {
				return nil, err
			}
		}
		var q param
		if q.name, err = p.name(); err != nil {
			return nil, err
		}
		if p.take(tokenOperator, "=") {
			if q.value, err = p.expression(); err != nil {
				return nil, err
			}
		}
		n.params = append(n.params, q)
	}
	if err := p.expect(tokenClose, "%}"); err != nil {
		return nil, err
	}
	if n.body, _, err = p.block([]string{"endmacro"}); err != nil {
		return nil, err
	}
	if p.peek().kind == tokenName { // the macro's name again
		p.pos++
	}
	return n, p.expect(tokenClose, "%}")
}

func parseInt(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }
