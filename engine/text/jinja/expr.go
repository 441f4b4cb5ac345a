package jinja

import (
	"slices"
	"strconv"
)

// expr is an expression.
type expr interface{ where() int }

type (
	literal struct {
		line
		value any
	}
	nameExpr struct {
		line
		name string
	}
	listExpr struct {
		line
		items []expr
		tuple bool
	}
	dictExpr struct {
		line
		keys, values []expr
	}
	attrExpr struct {
		line
		of   expr
		name string
	}
	indexExpr struct {
		line
		of, index expr
	}
	sliceExpr struct {
		line
		of             expr
		from, to, step expr // nil: none
	}
	callExpr struct {
		line
		callee expr
		args   arguments
	}
	filterExpr struct {
		line
		of   expr
		name string
		args arguments
	}
	testExpr struct {
		line
		of   expr
		name string
		not  bool
		args arguments
	}
	unaryExpr struct {
		line
		op string
		of expr
	}
	binaryExpr struct {
		line
		op   string
		a, b expr
	}
	logicExpr struct { // and, or
		line
		or   bool
		a, b expr
	}
	compareExpr struct { // a < b < c
		line
		first expr
		ops   []string
		rest  []expr
	}
	condExpr struct {
		line
		when, then, orElse expr // orElse nil: undefined
	}
	bodyExpr struct{ line } // the body of a set block
)

// arguments of a call.
type arguments struct {
	positional []expr
	names      []string
	named      []expr
}

func (p *parser) line() line { return line(p.peek().line) }

// tuple reads an expression, or several with commas.
func (p *parser) tuple() (expr, error) {
	l := p.line()
	first, err := p.expression()
	if err != nil || !p.is(tokenOperator, ",") {
		return first, err
	}
	t := listExpr{line: l, items: []expr{first}, tuple: true}
	for p.take(tokenOperator, ",") {
		if k := p.peek().kind; k == tokenClose || k == tokenPrintClose || p.is(tokenOperator, ")") {
			break
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		t.items = append(t.items, e)
	}
	return t, nil
}

// expression reads: a if b else c.
func (p *parser) expression() (expr, error) {
	leave, err := p.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	l := p.line()
	e, err := p.or()
	for err == nil && p.take(tokenName, "if") {
		c := condExpr{line: l, then: e}
		if c.when, err = p.or(); err != nil {
			return nil, err
		}
		if p.take(tokenName, "else") {
			c.orElse, err = p.expression()
		}
		e = c
	}
	return e, err
}

func (p *parser) or() (expr, error) {
	l := p.line()
	a, err := p.and()
	for err == nil && p.take(tokenName, "or") {
		var b expr
		b, err = p.and()
		a = logicExpr{l, true, a, b}
	}
	return a, err
}

func (p *parser) and() (expr, error) {
	l := p.line()
	a, err := p.not()
	for err == nil && p.take(tokenName, "and") {
		var b expr
		b, err = p.not()
		a = logicExpr{l, false, a, b}
	}
	return a, err
}

func (p *parser) not() (expr, error) {
	l := p.line()
	if !p.take(tokenName, "not") {
		return p.compare()
	}
	leave, err := p.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	of, err := p.not()
	return unaryExpr{l, "not", of}, err
}

func (p *parser) compare() (expr, error) {
	c := compareExpr{line: p.line()}
	var err error
	if c.first, err = p.sum(); err != nil {
		return nil, err
	}
	for {
		op := p.peek().text
		switch {
		case p.peek().kind == tokenOperator && slices.Contains([]string{"==", "!=", "<", "<=", ">", ">="}, op), p.is(tokenName, "in"):
			p.pos++
		case p.is(tokenName, "not") && p.tokens[p.pos+1].kind == tokenName && p.tokens[p.pos+1].text == "in":
			p.pos += 2
			op = "not in"
		default:
			if c.ops == nil {
				return c.first, nil
			}
			return c, nil
		}
		e, err := p.sum()
		if err != nil {
			return nil, err
		}
		c.ops, c.rest = append(c.ops, op), append(c.rest, e)
	}
}

// left reads operands with operators of one level between them.
func (p *parser) left(operand func() (expr, error), ops ...string) (expr, error) {
	l := p.line()
	a, err := operand()
	for err == nil && p.peek().kind == tokenOperator && slices.Contains(ops, p.peek().text) {
		op := p.next().text
		var b expr
		b, err = operand()
		a = binaryExpr{l, op, a, b}
	}
	return a, err
}

func (p *parser) sum() (expr, error) { return p.left(p.concat, "+", "-") }

func (p *parser) concat() (expr, error) { return p.left(p.product, "~") }

func (p *parser) product() (expr, error) { return p.left(p.power, "*", "/", "//", "%") }

func (p *parser) power() (expr, error) {
	return p.left(func() (expr, error) { return p.unary(true) }, "**")
}

func (p *parser) unary(filters bool) (expr, error) {
	leave, err := p.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	l := p.line()
	var e expr
	switch {
	case p.is(tokenOperator, "-"), p.is(tokenOperator, "+"):
		op := p.next().text
		of, err := p.unary(false)
		if err != nil {
			return nil, err
		}
		e = unaryExpr{l, op, of}
	default:
		if e, err = p.primary(); err != nil {
			return nil, err
		}
		if e, err = p.postfix(e); err != nil {
			return nil, err
		}
	}
	if !filters {
		return e, nil
	}
	for {
		switch {
		case p.take(tokenOperator, "|"):
			e, err = p.filter(e)
		case p.take(tokenName, "is"):
			e, err = p.test(e)
		case p.is(tokenOperator, "("):
			e, err = p.call(e)
		default:
			return e, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// constants are the names with a fixed value.
var constants = map[string]any{"true": true, "True": true, "false": false, "False": false, "none": nil, "None": nil}

func (p *parser) primary() (expr, error) {
	t := p.peek()
	l := line(t.line)
	switch t.kind {
	case tokenName:
		p.pos++
		if v, ok := constants[t.text]; ok {
			return literal{l, v}, nil
		}
		return nameExpr{l, t.text}, nil
	case tokenString:
		text := ""
		for p.peek().kind == tokenString { // neighbours are one
			text += p.next().text
		}
		return literal{l, text}, nil
	case tokenInt:
		v, err := parseInt(t.text)
		if err != nil {
			return nil, p.fail("the number %s is too large", t.text)
		}
		p.pos++
		return literal{l, v}, nil
	case tokenFloat:
		v, err := strconv.ParseFloat(t.text, 64)
		if err != nil {
			return nil, p.fail("the number %s is too large", t.text)
		}
		p.pos++
		return literal{l, v}, nil
	}
	switch {
	case p.take(tokenOperator, "("):
		if p.take(tokenOperator, ")") {
			return listExpr{line: l, tuple: true}, nil
		}
		e, err := p.tuple()
		if err == nil {
			err = p.expect(tokenOperator, ")")
		}
		return e, err
	case p.take(tokenOperator, "["):
		items, err := p.items("]")
		return listExpr{line: l, items: items}, err
	case p.take(tokenOperator, "{"):
		return p.dict(l)
	}
	return nil, p.fail("%s is not expected, a value is", t)
}

// items reads expressions with commas up to an end.
func (p *parser) items(end string) (items []expr, err error) {
	for !p.take(tokenOperator, end) {
		if len(items) > 0 {
			if err := p.expect(tokenOperator, ","); err != nil {
				return nil, err
			}
			if p.take(tokenOperator, end) {
				break
			}
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		items = append(items, e)
	}
	return items, nil
}

func (p *parser) dict(l line) (expr, error) {
	d := dictExpr{line: l}
	for !p.take(tokenOperator, "}") {
		if len(d.keys) > 0 {
			if err := p.expect(tokenOperator, ","); err != nil {
				return nil, err
			}
			if p.take(tokenOperator, "}") {
				break
			}
		}
		k, err := p.expression()
		if err != nil {
			return nil, err
		}
		if err := p.expect(tokenOperator, ":"); err != nil {
			return nil, err
		}
		v, err := p.expression()
		if err != nil {
			return nil, err
		}
		d.keys, d.values = append(d.keys, k), append(d.values, v)
	}
	return d, nil
}

func (p *parser) postfix(e expr) (expr, error) {
	for {
		l := p.line()
		var err error
		switch {
		case p.take(tokenOperator, "."):
			if t := p.peek(); t.kind == tokenInt {
				v, err := parseInt(p.next().text)
				if err != nil {
					return nil, p.fail("the number %s is too large", t.text)
				}
				e = indexExpr{l, e, literal{l, v}}
				continue
			}
			var name string
			name, err = p.name()
			e = attrExpr{l, e, name}
		case p.take(tokenOperator, "["):
			e, err = p.subscript(e, l)
		case p.is(tokenOperator, "("):
			e, err = p.call(e)
		default:
			return e, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) subscript(of expr, l line) (expr, error) {
	var parts [3]expr
	colons := 0
	for !p.take(tokenOperator, "]") {
		if p.take(tokenOperator, ":") {
			if colons++; colons > 2 {
				return nil, p.fail("a slice has at most three parts")
			}
			continue
		}
		if parts[colons] != nil {
			return nil, p.fail("%s is not expected, \"]\" is", p.peek())
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		parts[colons] = e
	}
	switch {
	case colons > 0:
		return sliceExpr{l, of, parts[0], parts[1], parts[2]}, nil
	case parts[0] == nil:
		return nil, p.fail("the index is missing")
	}
	return indexExpr{l, of, parts[0]}, nil
}

func (p *parser) call(callee expr) (expr, error) {
	c := callExpr{line: p.line(), callee: callee}
	var err error
	c.args, err = p.arguments()
	return c, err
}

func (p *parser) arguments() (a arguments, err error) {
	if err := p.expect(tokenOperator, "("); err != nil {
		return a, err
	}
	for n := 0; !p.take(tokenOperator, ")"); n++ {
		if n > 0 {
			if err := p.expect(tokenOperator, ","); err != nil {
				return a, err
			}
			if p.take(tokenOperator, ")") {
				break
			}
		}
		if t := p.tokens[min(p.pos+1, len(p.tokens)-1)]; p.peek().kind == tokenName && t.kind == tokenOperator && t.text == "=" {
			a.names = append(a.names, p.next().text)
			p.pos++
			e, err := p.expression()
			if err != nil {
				return a, err
			}
			a.named = append(a.named, e)
			continue
		}
		e, err := p.expression()
		if err != nil {
			return a, err
		}
		a.positional = append(a.positional, e)
	}
	return a, nil
}

func (p *parser) filter(of expr) (expr, error) {
	f := filterExpr{line: p.line(), of: of}
	var err error
	if f.name, err = p.name(); err != nil {
		return nil, err
	}
	if filters[f.name] == nil {
		return nil, at(int(f.line), ErrSyntax, "the filter %q is not supported (known: %s)", f.name, known(filters))
	}
	if p.is(tokenOperator, "(") {
		f.args, err = p.arguments()
	}
	return f, err
}

// noArgument are names that do not begin the argument of a test.
var noArgument = []string{"and", "or", "else", "is", "if", "in", "not"}

func (p *parser) test(of expr) (expr, error) {
	t := testExpr{line: p.line(), of: of, not: p.take(tokenName, "not")}
	var err error
	if t.name, err = p.name(); err != nil {
		return nil, err
	}
	if tests[t.name] == nil {
		return nil, at(int(t.line), ErrSyntax, "the test %q is not supported (known: %s)", t.name, known(tests))
	}
	switch k := p.peek(); {
	case p.is(tokenOperator, "("):
		t.args, err = p.arguments()
	case k.kind == tokenName && !slices.Contains(noArgument, k.text), k.kind == tokenString, k.kind == tokenInt, k.kind == tokenFloat, p.is(tokenOperator, "["), p.is(tokenOperator, "{"):
		var e expr
		if e, err = p.primary(); err == nil {
			e, err = p.postfix(e)
		}
		t.args.positional = []expr{e}
	}
	return t, err
}
