package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// walk is a function that goes through slices of one length in step, a register
// at a time. What is left over at the end is one more register with the lanes
// beyond the end masked out, so that every element sees the same arithmetic
// wherever it lies, and nothing outside the slices is touched.
type walk struct {
	isa
	base   map[string]reg.Register
	n      reg.GPVirtual // elements left
	at     reg.GPVirtual // elements done
	tail   bool          // the masked register is being written
	single bool          // one element at a time is being written
	mask   reg.Register  // its lanes in use
}

// newWalk begins function name of set s. The first slice says how many elements
// there are.
func newWalk(s isa, name, signature, doc string, slices ...string) *walk {
	name += s.suffix
	function(name, signature, fmt.Sprintf("%s %s.", name, doc))
	w := &walk{isa: s, base: map[string]reg.Register{}, n: GP64(), at: GP64()}
	for _, p := range slices {
		w.base[p] = Load(Param(p).Base(), GP64())
	}
	Load(Param(slices[0]).Len(), w.n)
	return w
}

// run writes the loops around body, which handles register u of unroll.
func (w *walk) run(unroll int, body func(u int)) {
	many, step := unroll*w.lanes(), w.lanes()
	XORQ(w.at, w.at)
	SUBQ(U32(uint32(many)), w.n)
	JLT(LabelRef("few"))
	Label("many")
	for u := range unroll {
		body(u)
	}
	ADDQ(U32(uint32(many)), w.at)
	SUBQ(U32(uint32(many)), w.n)
	JGE(LabelRef("many"))
	Label("few")
	ADDQ(U32(uint32(many)), w.n)
	if unroll > 1 {
		SUBQ(U32(uint32(step)), w.n)
		JLT(LabelRef("rest"))
		Label("one")
		body(0)
		ADDQ(U32(uint32(step)), w.at)
		SUBQ(U32(uint32(step)), w.n)
		JGE(LabelRef("one"))
		Label("rest")
		ADDQ(U32(uint32(step)), w.n)
	}
	TESTQ(w.n, w.n)
	JE(LabelRef("done"))
	w.setMask()
	w.tail = true
	body(0)
	w.tail = false
	Label("done")
}

// setMask selects the first n lanes.
func (w *walk) setMask() {
	if w.wide {
		bits, k := GP32(), K()
		MOVL(U32(0xffff), bits)
		BZHIL(w.n.As32(), bits, bits)
		KMOVW(bits, k)
		w.mask = k
		return
	}
	table, m := GP64(), YMM()
	LEAQ(laneTable(), table)
	NEGQ(w.n)
	VMOVUPS(Mem{Base: table, Index: w.n, Scale: 4, Disp: w.bytes()}, m)
	w.mask = m
}

// end returns to the caller.
func (w *walk) end() {
	VZEROUPPER()
	RET()
}

// element is the address of register u of a slice whose elements have size bytes.
func (w *walk) element(slice string, u, size int) Mem {
	return Mem{Base: w.base[slice], Index: w.at, Scale: uint8(size), Disp: u * w.lanes() * size}
}

// load reads register u of a slice, with zeros beyond the end.
func (w *walk) load(slice string, u int) reg.VecVirtual {
	r, from := w.virtual(), w.element(slice, u, 4)
	switch {
	case !w.tail:
		VMOVUPS(from, r)
	case w.wide:
		VMOVUPS_Z(from, w.mask, r)
	default:
		VMASKMOVPS(from, w.mask, r)
	}
	return r
}

// loadOr is load with another value beyond the end.
func (w *walk) loadOr(slice string, u int, fill reg.Register) reg.VecVirtual {
	r := w.load(slice, u)
	switch {
	case w.tail && w.wide:
		VBLENDMPS(r, fill, w.mask, r)
	case w.tail:
		VBLENDVPS(w.mask, r, fill, r)
	}
	return r
}

// store writes register u of a slice up to the end.
func (w *walk) store(r reg.Register, slice string, u int) {
	to := w.element(slice, u, 4)
	switch {
	case !w.tail:
		VMOVUPS(r, to)
	case w.wide:
		VMOVUPS(r, w.mask, to)
	default:
		VMASKMOVPS(r, w.mask, to)
	}
}

// inside clears the lanes of r beyond the end.
func (w *walk) inside(r reg.Register) {
	switch {
	case w.tail && w.wide:
		VMOVAPS_Z(r, w.mask, r)
	case w.tail:
		VANDPS(w.mask, r, r)
	}
}

// scalar spreads a parameter over all lanes.
func (w *walk) scalar(name string) reg.VecVirtual {
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	r := w.virtual()
	VBROADCASTSS(p.Addr, r)
	return r
}

// zeros are n cleared registers.
func (w *walk) zeros(n int) []reg.VecVirtual {
	acc := make([]reg.VecVirtual, n)
	for i := range acc {
		acc[i] = w.virtual()
		w.zero(acc[i])
	}
	return acc
}

// number is a constant in all lanes, to be an instruction's first operand: a
// register with AVX-512, which has enough of them, else memory. It must be asked
// for before the loop.
func (w *walk) number(f float32) Op {
	if w.wide {
		return w.fixed(f)
	}
	return constant(math.Float32bits(f))
}

// fixed is a constant in a register.
func (w *walk) fixed(f float32) reg.VecVirtual { return w.bits(math.Float32bits(f)) }

// bits is a bit pattern in all lanes of a register.
func (w *walk) bits(pattern uint32) reg.VecVirtual {
	r := w.virtual()
	VBROADCASTSS(constant(pattern), r)
	return r
}

// constant is a bit pattern eight times over in memory.
func constant(pattern uint32) Mem {
	m, ok := constants[pattern]
	if !ok {
		m = GLOBL(fmt.Sprintf("c%08x", pattern), attr.RODATA|attr.NOPTR)
		for i := range 8 {
			DATA(4*i, U32(pattern))
		}
		constants[pattern] = m
	}
	return m
}

var constants = map[uint32]Mem{}

// laneTable holds eight full lanes, then eight empty ones.
func laneTable() Mem {
	if lanes.Symbol.Name == "" {
		lanes = GLOBL("lanes", attr.RODATA|attr.NOPTR)
		for i := range 16 {
			v := uint32(0)
			if i < 8 {
				v = 0xffffffff
			}
			DATA(4*i, U32(v))
		}
	}
	return lanes
}

var lanes Mem

// fold combines the accumulators and then the lanes of the result pairwise, and
// leaves the result in the lowest lane of physical register at.
func (w *walk) fold(acc []reg.VecVirtual, at int, op func(a, b, dst Op)) reg.Register {
	for len(acc) > 1 {
		h := len(acc) / 2
		for i := range h {
			op(acc[i+h], acc[i], acc[i])
		}
		acc = acc[:h]
	}
	y, x := ys[at], xs[at]
	other := acc[0].AsX()
	if w.wide {
		half := acc[0].AsY()
		upper := YMM()
		VEXTRACTF64X4(Imm(1), acc[0], upper)
		op(upper, half, y)
		VEXTRACTF128(Imm(1), y, xs[15])
	} else {
		VEXTRACTF128(Imm(1), acc[0], xs[15])
		VMOVAPS(other, x)
	}
	op(xs[15], x, x)
	VPERMILPS(Imm(0x0e), x, xs[15])
	op(xs[15], x, x)
	VPERMILPS(Imm(0x01), x, xs[15])
	op(xs[15], x, x)
	return x
}

var xs = []reg.VecPhysical{
	reg.X0, reg.X1, reg.X2, reg.X3, reg.X4, reg.X5, reg.X6, reg.X7,
	reg.X8, reg.X9, reg.X10, reg.X11, reg.X12, reg.X13, reg.X14, reg.X15,
}

// The operations that reductions fold with.
func add(a, b, dst Op)     { VADDPS(a, b, dst) }
func maximum(a, b, dst Op) { VMAXPS(a, b, dst) }
func largest(a, b, dst Op) { VPMAXSD(a, b, dst) } // as integers
