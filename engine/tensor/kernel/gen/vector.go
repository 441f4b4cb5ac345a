package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// both are the instruction sets that every loop is written for.
var both = []isa{avx512, avx2}

// vector writes plain arithmetic and the reductions.
func vector() {
	for _, s := range both {
		dot(s)
		sum(s)
		sumSquares(s)
		extreme(s)
		absMax(s)
		axpy(s)
		scale(s)
		pairwise(s, "add", "sets dst = x + y", func(x, y, z Op) { VADDPS(y, x, z) })
		pairwise(s, "sub", "sets dst = x − y", func(x, y, z Op) { VSUBPS(y, x, z) })
		pairwise(s, "mul", "sets dst = x·y", func(x, y, z Op) { VMULPS(y, x, z) })
		mulAdd(s)
	}
}

// giveSum folds the accumulators into the function's result.
func (w *walk) giveSum(acc []reg.VecVirtual) {
	x := w.fold(acc, 0, add)
	VZEROUPPER()
	Store(x, ReturnIndex(0))
	RET()
}

func dot(s isa) {
	w := newWalk(s, "dot", "func(x, y []float32) float32", "returns Σ x·y", "x", "y")
	acc := w.zeros(4)
	w.run(4, func(u int) { VFMADD231PS(w.load("y", u), w.load("x", u), acc[u]) })
	w.giveSum(acc)
}

func sum(s isa) {
	w := newWalk(s, "sum", "func(x []float32) float32", "returns Σ x", "x")
	acc := w.zeros(4)
	w.run(4, func(u int) { VADDPS(w.load("x", u), acc[u], acc[u]) })
	w.giveSum(acc)
}

func sumSquares(s isa) {
	w := newWalk(s, "sumSquares", "func(x []float32) float32", "returns Σ x²", "x")
	acc := w.zeros(4)
	w.run(4, func(u int) {
		x := w.load("x", u)
		VFMADD231PS(x, x, acc[u])
	})
	w.giveSum(acc)
}

// extreme writes Max. The maximum instruction drops NaN, so the largest magnitude
// is found beside it as an integer, where NaN is above infinity.
func extreme(s isa) {
	w := newWalk(s, "max", "func(x []float32) float32", "returns the largest element, or NaN", "x")
	least, magnitude := w.fixed(float32(math.Inf(-1))), w.bits(1<<31-1)
	top, size := w.zeros(4), w.zeros(4)
	for _, r := range top {
		VMOVAPS(least, r)
	}
	w.run(4, func(u int) {
		x := w.loadOr("x", u, least)
		VMAXPS(x, top[u], top[u])
		VANDPS(magnitude, x, x)
		VPMAXSD(x, size[u], size[u])
	})
	x, y := w.fold(top, 0, maximum), w.fold(size, 1, largest)
	VZEROUPPER()
	bits := GP32()
	VMOVD(y, bits)
	CMPL(bits, U32(0x7f800000))
	JLE(LabelRef("ordered"))
	VMOVAPS(y, x)
	Label("ordered")
	Store(x, ReturnIndex(0))
	RET()
}

func absMax(s isa) {
	w := newWalk(s, "absMax", "func(x []float32) float32", "returns the largest magnitude, or NaN", "x")
	magnitude, size := w.bits(1<<31-1), w.zeros(4)
	w.run(4, func(u int) {
		x := w.load("x", u)
		VANDPS(magnitude, x, x)
		VPMAXSD(x, size[u], size[u])
	})
	x := w.fold(size, 0, largest)
	VZEROUPPER()
	Store(x, ReturnIndex(0))
	RET()
}

func axpy(s isa) {
	w := newWalk(s, "axpy", "func(alpha float32, x, y []float32)", "adds alpha·x to y", "x", "y")
	alpha := w.scalar("alpha")
	w.run(4, func(u int) {
		y := w.load("y", u)
		VFMADD231PS(w.load("x", u), alpha, y)
		w.store(y, "y", u)
	})
	w.end()
}

func scale(s isa) {
	w := newWalk(s, "scale", "func(alpha float32, x []float32)", "multiplies x by alpha", "x")
	alpha := w.scalar("alpha")
	w.run(4, func(u int) {
		x := w.load("x", u)
		VMULPS(alpha, x, x)
		w.store(x, "x", u)
	})
	w.end()
}

func pairwise(s isa, name, doc string, op func(x, y, z Op)) {
	w := newWalk(s, name, "func(dst, x, y []float32)", doc, "dst", "x", "y")
	w.run(4, func(u int) {
		x := w.load("x", u)
		op(x, w.load("y", u), x)
		w.store(x, "dst", u)
	})
	w.end()
}

func mulAdd(s isa) {
	w := newWalk(s, "mulAdd", "func(dst, x, y []float32)", "adds x·y to dst", "dst", "x", "y")
	w.run(4, func(u int) {
		d := w.load("dst", u)
		VFMADD231PS(w.load("y", u), w.load("x", u), d)
		w.store(d, "dst", u)
	})
	w.end()
}
