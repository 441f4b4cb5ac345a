package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// transcendental writes exp and what is made of it.
func transcendental() {
	for _, s := range both {
		expLoop(s)
		expSum(s)
		attentionGrad(s)
		unary(s, "sigmoid", "sets dst = 1/(1+e⁻ˣ)", (*curve).sigmoid)
		unary(s, "tanh", "sets dst = tanh x", (*curve).tanh)
		unary(s, "relu", "sets dst = max(x, 0), or NaN", (*curve).relu)
		unary(s, "silu", "sets dst = x·sigmoid(x)", (*curve).silu)
		unary(s, "gelu", "sets dst = x·Φ(x)", (*curve).gelu)
		unary(s, "geluTanh", "sets dst to GELU's tanh approximation", (*curve).geluTanh)
		siluMul(s)
		backward(s, "sigmoidBackward", "y", "sets dx = dy·y·(1−y)", (*curve).sigmoidSlope)
		backward(s, "tanhBackward", "y", "sets dx = dy·(1−y²)", (*curve).tanhSlope)
		reluBackward(s)
		backward(s, "siluBackward", "x", "sets dx to dy times SiLU's derivative at x", (*curve).siluSlope)
		backward(s, "geluBackward", "x", "sets dx to dy times GELU's derivative at x", (*curve).geluSlope)
		backward(s, "geluTanhBackward", "x", "sets dx to dy times GELUTanh's derivative at x", (*curve).geluTanhSlope)
		siluMulBackward(s)
	}
}

// curve is a walk with the constants of the functions that it computes, which must
// be readied before the loop.
type curve struct {
	*walk
	known map[float32]Op
	ints  Mem // the exponent's offset, without AVX-512
	held  map[uint32]reg.VecVirtual
}

func newCurve(s isa, name, signature, doc string, slices ...string) *curve {
	return &curve{
		walk:  newWalk(s, name, signature, doc, slices...),
		known: map[float32]Op{},
		held:  map[uint32]reg.VecVirtual{},
	}
}

// need readies numbers that are used from memory where registers are few.
func (c *curve) need(numbers ...float32) {
	for _, f := range numbers {
		if _, ok := c.known[f]; !ok {
			c.known[f] = c.number(f)
		}
	}
}

// hold readies numbers in registers.
func (c *curve) hold(numbers ...float32) {
	for _, f := range numbers {
		b := math.Float32bits(f)
		if _, ok := c.held[b]; !ok {
			c.held[b] = c.bits(b)
		}
	}
}

// k is a needed number.
func (c *curve) k(f float32) Op {
	op, ok := c.known[f]
	if !ok {
		panic("a number was not readied before the loop")
	}
	return op
}

// h is a held number.
func (c *curve) h(f float32) reg.VecVirtual {
	r, ok := c.held[math.Float32bits(f)]
	if !ok {
		panic("a number was not held before the loop")
	}
	return r
}

// horner replaces p by p·x + c for each coefficient.
func (c *curve) horner(p, x reg.VecVirtual, coefficients ...float32) {
	for _, a := range coefficients {
		VFMADD213PS(c.k(a), x, p)
	}
}

// set returns a register with a number.
func (c *curve) set(f float32) reg.VecVirtual {
	r := c.virtual()
	VMOVAPS(c.k(f), r)
	return r
}

// The exponential function: eˣ = 2ⁿ·eʳ with n = round(x/ln 2), r = x − n·ln 2 in
// two parts, the first so short that n times it is exact, and eʳ = 1 + r + r²·q(r)
// for |r| ≤ ln 2/2. q is the minimax polynomial of degree 4 for (eʳ−1−r)/r²
// weighted by r (Remez), which leaves 1.4e-8 of eʳ−1. Below expLow eˣ rounds to 0,
// above expHigh to +Inf.
const (
	expLow, expHigh = -104.5, 89
	logE            = 1.44269504088896341 // 1/ln 2
	ln2High, ln2Low = 0.693359375, -2.12194440054690583e-4
	expQ0, expQ1    = 0.500000006209, 0.16666542794
	expQ2, expQ3    = 0.0416662813794, 0.00836661059194
	expQ4           = 0.00139464984176
)

func (c *curve) needExp() {
	c.need(logE, ln2High, ln2Low, expQ0, expQ1, expQ2, expQ3, expQ4)
	c.hold(1, expLow)
	if !c.wide {
		c.ints = constant(127)
	}
}

// split replaces x by r and returns n.
func (c *curve) split(x reg.VecVirtual) (n reg.VecVirtual) {
	n = c.virtual()
	VMULPS(c.k(logE), x, n)
	if c.wide {
		VRNDSCALEPS(Imm(8), n, n)
	} else {
		VROUNDPS(Imm(8), n, n)
	}
	VFNMADD231PS(c.k(ln2High), n, x)
	VFNMADD231PS(c.k(ln2Low), n, x)
	return n
}

// exp returns eˣ for x ≤ expHigh, destroying x. The maximum keeps its second
// source, here x, where either is NaN.
func (c *curve) exp(x reg.VecVirtual) reg.VecVirtual {
	VMAXPS(x, c.h(expLow), x)
	n := c.split(x)
	p := c.set(expQ4)
	c.horner(p, x, expQ3, expQ2, expQ1, expQ0)
	VFMADD213PS(c.h(1), x, p)
	VFMADD213PS(c.h(1), x, p)
	c.scaleBy(n, p)
	return p
}

// scaleBy multiplies p by 2ⁿ, n down to where that is 0 and up to 128. Without the
// instruction for it, in two steps of n/2, because 2ⁿ alone may not be normal.
func (c *curve) scaleBy(n, p reg.VecVirtual) {
	if c.wide {
		VSCALEFPS(n, p, p)
		return
	}
	half := c.virtual()
	VCVTPS2DQ(n, n)
	VPSRAD(Imm(1), n, half)
	VPSUBD(half, n, n)
	for _, e := range []reg.VecVirtual{half, n} {
		VPADDD(c.ints, e, e)
		VPSLLD(Imm(23), e, e)
		VMULPS(e, p, p)
	}
}

func expLoop(s isa) {
	c := newCurve(s, "exp", "func(dst, x []float32)", "sets dst = eˣ", "dst", "x")
	c.needExp()
	c.hold(expHigh)
	c.run(2, func(u int) {
		x := c.load("x", u)
		VMINPS(x, c.h(expHigh), x)
		c.store(c.exp(x), "dst", u)
	})
	c.end()
}

func expSum(s isa) {
	c := newCurve(s, "expSum", "func(dst, x []float32, shift float32) float32",
		"sets dst = e^(x−shift), 0 where x is −Inf, and returns its sum", "dst", "x")
	c.needExp()
	c.hold(expHigh, float32(math.Inf(-1)))
	shift, acc := c.scalar("shift"), c.zeros(2)
	c.run(2, func(u int) {
		x, d := c.load("x", u), c.virtual()
		VSUBPS(shift, x, d)
		VMINPS(d, c.h(expHigh), d)
		e := c.exp(d)
		c.unlessEqual(x, c.h(float32(math.Inf(-1))), e)
		c.store(e, "dst", u)
		c.inside(e)
		VADDPS(e, acc[u], acc[u])
	})
	c.giveSum(acc)
}

// unlessEqual clears e where x equals y.
func (c *curve) unlessEqual(x, y, e reg.VecVirtual) {
	if c.wide {
		k := K()
		VCMPPS(Imm(4), y, x, k)
		VMOVAPS_Z(e, k, e)
		return
	}
	m := c.virtual()
	VCMPPS(Imm(4), y, x, m)
	VANDPS(m, e, e)
}

func attentionGrad(s isa) {
	c := newCurve(s, "attentionGrad", "func(ds, p []float32, delta, scale float32)", "sets ds = scale·p·(ds−delta)", "ds", "p")
	delta, scale := c.scalar("delta"), c.scalar("scale")
	c.run(4, func(u int) {
		d, p := c.load("ds", u), c.load("p", u)
		VSUBPS(delta, d, d)
		VMULPS(scale, p, p)
		VMULPS(p, d, d)
		c.store(d, "ds", u)
	})
	c.end()
}

// unary writes dst = f(x). f may destroy x; called with nil it readies numbers.
func unary(s isa, name, doc string, f func(c *curve, x reg.VecVirtual) reg.VecVirtual) {
	c := newCurve(s, name, "func(dst, x []float32)", doc, "dst", "x")
	f(c, nil)
	c.run(2, func(u int) { c.store(f(c, c.load("x", u)), "dst", u) })
	c.end()
}

// backward writes dx = dy·f(at), f being a derivative in terms of x or of y.
func backward(s isa, name, at, doc string, f func(c *curve, x reg.VecVirtual) reg.VecVirtual) {
	c := newCurve(s, name, "func(dx, dy, "+at+" []float32)", doc, "dx", "dy", at)
	f(c, nil)
	c.run(2, func(u int) {
		d := f(c, c.load(at, u))
		VMULPS(c.load("dy", u), d, d)
		c.store(d, "dx", u)
	})
	c.end()
}

// negative is the pattern of the sign bit.
var negative = math.Float32frombits(1 << 31)

// sigmoid is 1/(1+z) for x ≥ 0 and z/(1+z) below, z = e^−|x|, which neither
// overflows nor cancels.
func (c *curve) sigmoid(x reg.VecVirtual) reg.VecVirtual {
	if x == nil {
		c.needExp()
		c.hold(negative)
		return nil
	}
	z, s := c.decay(x), c.virtual()
	c.choose(x, z, c.h(1), s)
	VADDPS(c.h(1), z, z)
	VDIVPS(z, s, s)
	return s
}

// decay returns e^−|x|.
func (c *curve) decay(x reg.VecVirtual) reg.VecVirtual {
	a := c.virtual()
	VORPS(c.h(negative), x, a)
	return c.exp(a)
}

// sigmoidAndSlope returns s = sigmoid(x) and s·(1−s) = z/(1+z)², which does not
// cancel.
func (c *curve) sigmoidAndSlope(x reg.VecVirtual) (s, slope reg.VecVirtual) {
	z, d := c.decay(x), c.virtual()
	s = c.virtual()
	VADDPS(c.h(1), z, d)
	VDIVPS(d, c.h(1), d)
	VMULPS(d, z, z)
	c.choose(x, z, d, s)
	VMULPS(d, z, z)
	return s, z
}

// choose sets dst to a where x's sign is set, else to b.
func (c *curve) choose(x, a, b, dst reg.VecVirtual) {
	if c.wide {
		k := K()
		VPMOVD2M(x, k)
		VBLENDMPS(a, b, k, dst)
		return
	}
	VBLENDVPS(x, a, b, dst)
}

// tanh is −e/(2+e) with the sign of x, e = exp(−2|x|) − 1 = 2ⁿ·(eʳ−1) + (2ⁿ−1),
// which is exact to a rounding or two also near 0.
func (c *curve) tanh(x reg.VecVirtual) reg.VecVirtual {
	if x == nil {
		c.needExp()
		c.need(2)
		c.hold(negative, -40)
		return nil
	}
	y, sq := c.virtual(), c.virtual()
	VORPS(c.h(negative), x, y)
	VADDPS(y, y, y)
	VMAXPS(y, c.h(-40), y)
	n := c.split(y)
	p := c.set(expQ4)
	c.horner(p, y, expQ3, expQ2, expQ1, expQ0)
	VMULPS(y, y, sq)
	VFMADD213PS(y, sq, p) // eʳ − 1
	power := c.power(n)
	e := c.virtual()
	VSUBPS(c.h(1), power, e)
	VFMADD231PS(power, p, e)
	VADDPS(c.k(2), e, y)
	VDIVPS(y, e, e)
	VANDPS(c.h(negative), x, x)
	VANDNPS(e, c.h(negative), e)
	VORPS(x, e, e)
	return e
}

// power returns 2ⁿ for n from −126 to 127, destroying n.
func (c *curve) power(n reg.VecVirtual) reg.VecVirtual {
	if c.wide {
		VSCALEFPS(n, c.h(1), n)
		return n
	}
	VCVTPS2DQ(n, n)
	VPADDD(c.ints, n, n)
	VPSLLD(Imm(23), n, n)
	return n
}

// The normal distribution function: for v ≤ 0, Φ(v) = ½·e^(−v²/2)·E(|v|/√2) with E
// the scaled complementary error function, here t·P(t), t = 1/(1+0.4·z), P the
// polynomial of degree 8 with least relative error for 0 ≤ z ≤ 10 (Remez): 6.2e-8.
// The factor ½ is in the coefficients, 0.4/√2 in phiT.
const phiT = 0.4 / math.Sqrt2

var phiP = []float32{
	0.0412528520684 / 2, -0.140318355687 / 2, 0.083985524067 / 2, 0.087966297465 / 2, 0.0797551777589 / 2,
	0.193393750043 / 2, 0.201887456731 / 2, 0.226443129158 / 2, 0.225634230172 / 2,
}

func (c *curve) needPhi() {
	c.needExp()
	c.need(phiP...)
	c.need(phiT, -0.5)
	c.hold(negative)
}

// phi returns Φ(v) and e^(−v²/2).
func (c *curve) phi(v reg.VecVirtual) (p, e reg.VecVirtual) {
	t, y, q := c.virtual(), c.virtual(), c.virtual()
	VANDNPS(v, c.h(negative), t)
	VFMADD213PS(c.h(1), c.set(phiT), t)
	VDIVPS(t, c.h(1), t)
	p = c.set(phiP[0])
	c.horner(p, t, phiP[1:]...)
	VMULPS(t, p, p)
	VMULPS(v, v, y)
	VMULPS(c.k(-0.5), y, y)
	e = c.exp(y)
	VMULPS(e, p, p)
	VSUBPS(p, c.h(1), q)
	c.choose(v, p, q, p)
	return p, e
}
