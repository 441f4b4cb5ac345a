package vi

import "tare/engine/grad"

// Func is a program written as a function.
type Func func(t *Trace)

// Trace is one run of a [Func]: it makes the choices, or takes those that are to be
// scored, and gathers the log density.
type Trace struct {
	run   *Run
	given Choices // nil where choices are made
	made  Choices
	logp  *grad.Value
}

// Tape is where the values are.
func (t *Trace) Tape() *grad.Tape { return t.run.tp }

// Rows is how many copies run at once.
func (t *Trace) Rows() int { return t.run.rows }

// Fail ends the estimate with an error.
func (t *Trace) Fail(err error) { t.run.Fail(err) }

// Sample makes the choice addr [rows, d.Cols()].
func (t *Trace) Sample(addr string, d Dist, s Strategy) *grad.Value {
	t.fresh(addr)
	var x, logp *grad.Value
	if t.given == nil {
		x, logp = t.run.choose(addr, d, s)
	} else {
		x = t.take(addr)
		if x.Cols != d.Cols() {
			t.run.failf("choice %q has %d columns, %T has %d: %w", addr, x.Cols, d, d.Cols(), ErrAddress)
		}
		logp = scoreOf(addr, d, t.run.tp, x)
	}
	t.made[addr] = x
	t.score(logp)
	return x
}

// Observe scores a value that is known, x [rows or 1, …]. A distribution with one column
// stands for all of x's.
func (t *Trace) Observe(addr string, d Dist, x *grad.Value) {
	t.fresh(addr)
	t.made[addr] = nil
	t.score(scoreOf(addr, d, t.run.tp, x))
}

// Call runs another program inside this one. Its choices have addresses addr/….
func (t *Trace) Call(addr string, p Program) Choices {
	t.fresh(addr)
	t.made[addr] = nil
	var inner Choices
	var logp *grad.Value
	if t.given == nil {
		inner, logp = p.Simulate(t.run)
	} else {
		inner = t.under(addr + "/")
		logp = p.Density(t.run, inner)
	}
	for a, x := range inner {
		t.made[addr+"/"+a] = x
	}
	t.score(logp)
	return inner
}

// under returns the given choices below a prefix, without it.
func (t *Trace) under(prefix string) Choices {
	inner := Choices{}
	for a, x := range t.given {
		if len(a) > len(prefix) && a[:len(prefix)] == prefix {
			inner[a[len(prefix):]] = x
		}
	}
	return inner
}

func (t *Trace) fresh(addr string) {
	if _, taken := t.made[addr]; taken {
		t.run.failf("choice %q is made twice: %w", addr, ErrAddress)
	}
}

func (t *Trace) take(addr string) *grad.Value {
	x, ok := t.given[addr]
	if !ok {
		t.run.failf("choice %q is not among those to be scored, %q: %w", addr, t.given.addresses(), ErrAddress)
	}
	return x
}

func (t *Trace) score(logp *grad.Value) {
	if t.logp == nil {
		t.logp = logp
	} else {
		t.logp = t.run.tp.Add(t.logp, logp)
	}
}

// result returns the choices and the log density once the program has ended.
func (t *Trace) result() (Choices, *grad.Value) {
	for addr, x := range t.made {
		if x == nil { // what was observed or called is no choice
			delete(t.made, addr)
		}
	}
	for addr := range t.given {
		if _, ok := t.made[addr]; !ok {
			t.run.failf("the program does not make choice %q: %w", addr, ErrAddress)
		}
	}
	if t.logp == nil {
		t.logp = scalar(t.run.tp, 0)
	}
	return t.made, t.logp
}

// Simulate makes the choices of f.
func (f Func) Simulate(r *Run) (Choices, *grad.Value) {
	t := &Trace{run: r, made: Choices{}}
	f(t)
	return t.result()
}

// Density scores c, which must be all that f chooses.
func (f Func) Density(r *Run, c Choices) *grad.Value {
	if c == nil {
		c = Choices{}
	}
	t := &Trace{run: r, given: c, made: Choices{}}
	f(t)
	_, logp := t.result()
	return logp
}
