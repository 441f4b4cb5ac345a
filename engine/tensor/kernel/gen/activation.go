package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// relu keeps NaN, the second source.
func (c *curve) relu(x reg.VecVirtual) reg.VecVirtual {
	if x == nil {
		c.hold(0)
		return nil
	}
	VMAXPS(x, c.h(0), x)
	return x
}

func (c *curve) silu(x reg.VecVirtual) reg.VecVirtual {
	if x == nil {
		return c.sigmoid(nil)
	}
	s := c.sigmoid(x)
	VMULPS(x, s, s)
	return s
}

// The constants of GELU's tanh approximation, whose ½(1+tanh u) is sigmoid(2u)
// with 2u = v·(geluA + geluB·v²).
const (
	geluRoot = 0.7978845608028654 // √(2/π)
	geluA    = 2 * geluRoot
	geluB    = geluA * 0.044715
	geluEdge = 14 // beyond ± this, GELU and its approximation are straight
)

func (c *curve) geluTanh(x reg.VecVirtual) reg.VecVirtual {
	if x == nil {
		c.need(geluA, geluB)
		return c.sigmoid(nil)
	}
	u := c.virtual()
	VMULPS(x, x, u)
	VMULPS(c.k(geluB), u, u)
	VADDPS(c.k(geluA), u, u)
	VMULPS(x, u, u)
	s := c.sigmoid(u)
	VMULPS(x, s, s)
	return s
}

// clamp limits x to ±geluEdge, where products with what vanishes stay finite.
func (c *curve) clamp(x reg.VecVirtual) {
	VMINPS(x, c.h(geluEdge), x)
	VMAXPS(x, c.h(-geluEdge), x)
}

// geluTanhSlope is s + v·s(1−s)·(2u)′ with s = sigmoid(2u), (2u)′ = geluA + 3·geluB·v².
func (c *curve) geluTanhSlope(x reg.VecVirtual) reg.VecVirtual {
	if x == nil {
		c.need(geluA, geluB, 3*geluB)
		c.hold(geluEdge, -geluEdge)
		return c.sigmoid(nil)
	}
	c.clamp(x)
	sq, u := c.virtual(), c.virtual()
	VMULPS(x, x, sq)
	VMULPS(c.k(geluB), sq, u)
	VADDPS(c.k(geluA), u, u)
	VMULPS(x, u, u)
	s, slope := c.sigmoidAndSlope(u)
	VMULPS(c.k(3*geluB), sq, sq)
	VADDPS(c.k(geluA), sq, sq)
	VMULPS(x, sq, sq)
	VFMADD231PS(slope, sq, s)
	return s
}

func (c *curve) gelu(x reg.VecVirtual) reg.VecVirtual {
	if x == nil {
		c.needPhi()
		return nil
	}
	p, _ := c.phi(x)
	VMULPS(x, p, p)
	return p
}

// geluSlope is Φ(v) + v·e^(−v²/2)/√(2π).
func (c *curve) geluSlope(x reg.VecVirtual) reg.VecVirtual {
	if x == nil {
		c.needPhi()
		c.need(geluRoot / 2)
		c.hold(geluEdge, -geluEdge)
		return nil
	}
	c.clamp(x)
	p, e := c.phi(x)
	VMULPS(c.k(geluRoot/2), e, e)
	VFMADD231PS(x, e, p)
	return p
}

func (c *curve) sigmoidSlope(y reg.VecVirtual) reg.VecVirtual {
	if y == nil {
		c.hold(1)
		return nil
	}
	d := c.virtual()
	VSUBPS(y, c.h(1), d)
	VMULPS(y, d, d)
	return d
}

func (c *curve) tanhSlope(y reg.VecVirtual) reg.VecVirtual {
	if y == nil {
		c.hold(1)
		return nil
	}
	VFNMADD213PS(c.h(1), y, y)
	return y
}

// siluSlope is s + x·s(1−s).
func (c *curve) siluSlope(x reg.VecVirtual) reg.VecVirtual {
	if x == nil {
		return c.sigmoid(nil)
	}
	s, slope := c.sigmoidAndSlope(x)
	VFMADD231PS(slope, x, s)
	return s
}

func reluBackward(s isa) {
	c := newCurve(s, "reluBackward", "func(dx, dy, x []float32)", "sets dx = dy where x > 0, else 0", "dx", "dy", "x")
	c.hold(0)
	c.run(4, func(u int) {
		d, x := c.load("dy", u), c.load("x", u)
		if c.wide {
			k := K()
			VCMPPS(Imm(30), c.h(0), x, k) // greater, false for NaN
			VMOVAPS_Z(d, k, d)
		} else {
			VCMPPS(Imm(30), c.h(0), x, x)
			VANDPS(x, d, d)
		}
		c.store(d, "dx", u)
	})
	c.end()
}

func siluMul(s isa) {
	c := newCurve(s, "siluMul", "func(dst, gate, up []float32)", "sets dst = SiLU(gate)·up", "dst", "gate", "up")
	c.silu(nil)
	c.run(2, func(u int) {
		y := c.silu(c.load("gate", u))
		VMULPS(c.load("up", u), y, y)
		c.store(y, "dst", u)
	})
	c.end()
}

func siluMulBackward(s isa) {
	c := newCurve(s, "siluMulBackward", "func(dgate, dup, dy, gate, up []float32)",
		"sets dgate and dup to the gradients of SiLU(gate)·up", "dgate", "dup", "dy", "gate", "up")
	c.sigmoid(nil)
	c.run(2, func(u int) {
		g, d := c.load("gate", u), c.load("dy", u)
		s, slope := c.sigmoidAndSlope(g)
		up, du := c.load("up", u), c.virtual()
		VMULPS(s, g, du)
		VMULPS(d, du, du)
		VMULPS(d, up, up)
		VFMADD231PS(slope, g, s)
		VMULPS(up, s, s)
		c.store(s, "dgate", u)
		c.store(du, "dup", u)
	})
	c.end()
}
