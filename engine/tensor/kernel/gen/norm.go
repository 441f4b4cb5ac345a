package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/reg"
)

// norm writes the loops of the normalizations and of the rotary embedding.
func norm() {
	for _, s := range both {
		dot3(s)
		rmsApply(s)
		rmsGrad(s, false)
		rmsGrad(s, true)
		squaredDistance(s)
		layerApply(s)
		layerSums(s)
		layerGrad(s, false)
		layerGrad(s, true)
		rope(s)
	}
}

func dot3(s isa) {
	w := newWalk(s, "dotThree", "func(x, y, z []float32) float32", "returns Σ x·y·z", "x", "y", "z")
	acc := w.zeros(4)
	w.run(4, func(u int) {
		x := w.load("x", u)
		VMULPS(w.load("y", u), x, x)
		VFMADD231PS(w.load("z", u), x, acc[u])
	})
	w.giveSum(acc)
}

func rmsApply(s isa) {
	w := newWalk(s, "rmsApply", "func(dst, x, w []float32, rstd float32)", "sets dst = x·rstd·w", "dst", "x", "w")
	rstd := w.scalar("rstd")
	w.run(4, func(u int) {
		x := w.load("x", u)
		VMULPS(rstd, x, x)
		VMULPS(w.load("w", u), x, x)
		w.store(x, "dst", u)
	})
	w.end()
}

func rmsGrad(s isa, weights bool) {
	name, signature, doc := "rmsGrad", "func(dx, dy, x, w []float32, rstd, c float32)", "sets dx = rstd·(dy·w − c·x)"
	slices := []string{"dx", "dy", "x", "w"}
	if weights {
		name, signature = "rmsGradW", "func(dx, dw, dy, x, w []float32, rstd, c float32)"
		doc, slices = "adds dy·x·rstd to dw and "+doc, append(slices, "dw")
	}
	w := newWalk(s, name, signature, doc, slices...)
	rstd, c := w.scalar("rstd"), w.scalar("c")
	w.run(2, func(u int) {
		d, x := w.load("dy", u), w.load("x", u)
		if weights {
			h, dw := w.virtual(), w.load("dw", u)
			VMULPS(rstd, x, h)
			VFMADD231PS(h, d, dw)
			w.store(dw, "dw", u)
		}
		VMULPS(c, x, x)
		VFMSUB231PS(w.load("w", u), d, x)
		VMULPS(rstd, x, x)
		w.store(x, "dx", u)
	})
	w.end()
}

// squaredDistance subtracts before it squares, so that a large mean cancels.
func squaredDistance(s isa) {
	w := newWalk(s, "squaredDistance", "func(x []float32, mean float32) float32", "returns Σ (x−mean)²", "x")
	mean, acc := w.scalar("mean"), w.zeros(4)
	w.run(4, func(u int) {
		x := w.load("x", u)
		VSUBPS(mean, x, x)
		w.inside(x)
		VFMADD231PS(x, x, acc[u])
	})
	w.giveSum(acc)
}

// normal loads register u of x and normalizes it.
func (w *walk) normal(u int, mean, rstd reg.Register) reg.VecVirtual {
	x := w.load("x", u)
	VSUBPS(mean, x, x)
	VMULPS(rstd, x, x)
	return x
}

func layerApply(s isa) {
	w := newWalk(s, "layerApply", "func(dst, x, w []float32, mean, rstd float32)", "sets dst = (x−mean)·rstd·w", "dst", "x", "w")
	mean, rstd := w.scalar("mean"), w.scalar("rstd")
	w.run(4, func(u int) {
		x := w.normal(u, mean, rstd)
		VMULPS(w.load("w", u), x, x)
		w.store(x, "dst", u)
	})
	w.end()
}

func layerSums(s isa) {
	w := newWalk(s, "layerSums", "func(dy, x, w []float32, mean, rstd float32) (sg, sh float32)",
		"returns Σ dy·w and Σ dy·w·(x−mean)·rstd", "dy", "x", "w")
	mean, rstd := w.scalar("mean"), w.scalar("rstd")
	sg, sh := w.zeros(2), w.zeros(2)
	w.run(2, func(u int) {
		g := w.load("dy", u)
		VMULPS(w.load("w", u), g, g)
		VADDPS(g, sg[u], sg[u])
		VFMADD231PS(w.normal(u, mean, rstd), g, sh[u])
	})
	g, h := w.fold(sg, 0, add), w.fold(sh, 1, add)
	VZEROUPPER()
	Store(g, Return("sg"))
	Store(h, Return("sh"))
	RET()
}

func layerGrad(s isa, weights bool) {
	name, signature := "layerGrad", "func(dx, dy, x, w []float32, mean, rstd, cg, ch float32)"
	doc, slices := "sets dx = rstd·(dy·w − cg − ch·h), h = (x−mean)·rstd", []string{"dx", "dy", "x", "w"}
	if weights {
		name, signature = "layerGradW", "func(dx, dw, dy, x, w []float32, mean, rstd, cg, ch float32)"
		doc, slices = doc+", and adds dy·h to dw", append(slices, "dw")
	}
	w := newWalk(s, name, signature, doc, slices...)
	mean, rstd, cg, ch := w.scalar("mean"), w.scalar("rstd"), w.scalar("cg"), w.scalar("ch")
	w.run(2, func(u int) {
		h, d := w.normal(u, mean, rstd), w.load("dy", u)
		if weights {
			dw := w.load("dw", u)
			VFMADD231PS(h, d, dw)
			w.store(dw, "dw", u)
		}
		VFMSUB213PS(cg, w.load("w", u), d)
		VFNMADD231PS(h, ch, d)
		VMULPS(rstd, d, d)
		w.store(d, "dx", u)
	})
	w.end()
}

func rope(s isa) {
	w := newWalk(s, "rope", "func(a, b, cos, sin []float32)", "rotates the pairs (a, b)", "a", "b", "cos", "sin")
	w.run(1, func(u int) {
		a, b, cos, sin := w.load("a", u), w.load("b", u), w.load("cos", u), w.load("sin", u)
		p, q := w.virtual(), w.virtual()
		VMULPS(sin, b, p)
		VFMSUB231PS(cos, a, p)
		VMULPS(sin, a, q)
		VFMADD231PS(cos, b, q)
		w.store(p, "a", u)
		w.store(q, "b", u)
	})
	w.end()
}
