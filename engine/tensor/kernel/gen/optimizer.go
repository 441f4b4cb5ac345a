package main

import (
	. "github.com/mmcloughlin/avo/build"
)

// optimizer writes the update rules that are bound by memory.
func optimizer() {
	for _, s := range both {
		adamW(s)
	}
}

func adamW(s isa) {
	w := newWalk(s, "adamW", "func(w, g, m, v []float32, step, beta1, beta2, eps, keep, root float32)",
		"does one AdamW step; its parameters are those of adamWGo", "w", "g", "m", "v")
	step, beta1, beta2 := w.scalar("step"), w.scalar("beta1"), w.scalar("beta2")
	eps, keep, root := w.scalar("eps"), w.scalar("keep"), w.scalar("root")
	one, rest1, rest2 := w.fixed(1), w.virtual(), w.virtual()
	VSUBPS(beta1, one, rest1)
	VSUBPS(beta2, one, rest2)
	w.run(2, func(u int) {
		g, m, v := w.load("g", u), w.virtual(), w.virtual()
		// m = beta1·m + (1−beta1)·g; v = beta2·v + (1−beta2)·g²
		VMULPS(rest1, g, m)
		VFMADD231PS(w.load("m", u), beta1, m)
		VMULPS(rest2, g, v)
		VMULPS(g, v, v)
		VFMADD231PS(w.load("v", u), beta2, v)
		w.store(m, "m", u)
		w.store(v, "v", u)
		// w = w·keep − step·m/(√v·root + eps)
		VSQRTPS(v, v)
		VFMADD213PS(eps, root, v)
		VMULPS(step, m, m)
		VDIVPS(v, m, m)
		x := w.load("w", u)
		VFMSUB213PS(m, keep, x)
		w.store(x, "w", u)
	})
	w.end()
}
