package grad

// A recorded operation is a node: its result, what its backward reads, and the backward
// itself. A closure would be garbage after every step, so the backward is a function that
// captures nothing, beside a struct of its operands:
//
//	type operands struct{ x *Value; a float32 }
//	record(tp, z, nil, operands{x, a}, func(tp *Tape, o *operands, dz []float32) { tp.contribute(o.x, o.a, dz) })
//
// A result that is cheap to make again from what is kept anyway is not kept itself: its
// operation is noted by recordCheap.
//
// The struct lies in memory that the last step's operation at this place of the tape has
// left, if that was of the same kind; a step that does what the last one did allocates
// nothing. Operations that run a few times a step may record a closure, see
// Tape.record.

// node is one recorded operation. Its saved and back outlive it, for the next one at
// its place.
type node struct {
	out   *Value
	saved []*Value
	uses  *Param
	keep  bool   // out's gradient is read again by an operation recorded earlier
	pass  *Value // takes over out's gradient unchanged once back has run
	back  backward
}

// vacate lets go of what the node points to.
func (n *node) vacate() {
	clear(n.saved)
	if n.back != nil {
		n.back.drop()
	}
	*n = node{saved: n.saved[:0], back: n.back}
}

// backward takes the gradient of an operation's result to its operands.
type backward interface {
	run(tp *Tape, dy []float32)
	drop()
}

// call is a function with its operands.
type call[A any] struct {
	operands A
	f        func(tp *Tape, o *A, dy []float32)
	again    func(o *A, dst []float32) // writes the operation's result, nil if that is kept
}

func (c *call[A]) run(tp *Tape, dy []float32) { c.f(tp, &c.operands, dy) }
func (c *call[A]) remake(dst []float32)       { c.again(&c.operands, dst) }
func (c *call[A]) drop()                      { *c = call[A]{} }

// remaker fills a value's data again.
type remaker interface{ remake(dst []float32) }

// filler is a closure that does.
type filler func(dst []float32)

func (f filler) remake(dst []float32) { f(dst) }

// record notes an operation. param, when given, counts as used until back has
// run. saved values keep their data until then.
func record[A any](tp *Tape, out *Value, param *Param, operands A, back func(tp *Tape, o *A, dy []float32), saved ...*Value) {
	note(tp, out, param, operands, back, saved)
}

// recordCheap is record for an operation whose result again can write at any time from
// the operands and the saved values. Backwards of other operations that read the result
// have it made again; they run before this one's, which ends the life of the saved
// values, and before a parameter that it reads is updated.
func recordCheap[A any](tp *Tape, out *Value, param *Param, operands A, again func(o *A, dst []float32), back func(tp *Tape, o *A, dy []float32), saved ...*Value) {
	if c := note(tp, out, param, operands, back, saved); c != nil {
		c.again = again
		tp.cheap(out, c)
	}
}

// cheap lets out's data go after the forward pass. Its operation is the last recorded,
// whose saved values by reads.
func (tp *Tape) cheap(out *Value, by remaker) {
	out.remake, out.from = by, tp.nodes[len(tp.nodes)-1].saved
}

func note[A any](tp *Tape, out *Value, param *Param, operands A, back func(tp *Tape, o *A, dy []float32), saved []*Value) *call[A] {
	n := tp.note(out, param, saved)
	if n == nil {
		return nil
	}
	c, ok := n.back.(*call[A])
	if !ok {
		c = new(call[A])
		n.back = c
	}
	c.operands, c.f = operands, back
	return c
}

// record notes an operation whose backward is a closure.
func (tp *Tape) record(out *Value, param *Param, back func(dy []float32), saved ...*Value) {
	record(tp, out, param, back, func(_ *Tape, back *func(dy []float32), dy []float32) { (*back)(dy) }, saved...)
}

// note counts a use of param and returns the node for an operation's backward, nil if
// it will not run.
func (tp *Tape) note(out *Value, param *Param, saved []*Value) *node {
	if tp.motion != nil && tp.recording {
		tp.motion.note(out, param)
		if tp.motion.forward {
			out.needs = true
			tp.place().out = out
			return nil
		}
	}
	if param != nil && param.Trains() && (tp.recording || tp.counting) && !tp.replay {
		tp.addUse(param)
	}
	if !tp.recording {
		return nil
	}
	out.needs = true
	for _, v := range saved {
		v.saves++
	}
	n := tp.place()
	n.out, n.uses = out, param
	n.saved = append(n.saved, saved...)
	return n
}

// place returns the next node, vacant.
func (tp *Tape) place() *node {
	if n := len(tp.nodes); n < cap(tp.nodes) {
		tp.nodes = tp.nodes[:n+1]
	} else {
		tp.nodes = append(tp.nodes, node{})
	}
	return &tp.nodes[len(tp.nodes)-1]
}
