package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// convert writes the changes of storage type. A masked register ends them with
// AVX-512; AVX2 has no masks for 16-bit elements and ends one by one, by the same
// instructions on the lowest lane.
func convert() {
	for _, s := range both {
		widening(s, "fromBFloat", "widens bfloat16", func(w *walk, u int) reg.Register {
			x := w.loadWords("src", u)
			VPSLLD(Imm(16), x, x)
			return x
		})
		widening(s, "fromHalf", "widens half precision", (*walk).loadHalves)
		toBF16(s)
		toF16(s)
	}
}

func widening(s isa, name, doc string, read func(w *walk, u int) reg.Register) {
	w := newWalk(s, name, "func(dst []float32, src []uint16)", doc, "dst", "src")
	w.runWords(func(u int) {
		x := read(w, u)
		if w.single {
			VMOVSS(x, w.element("dst", u, 4))
			return
		}
		w.store(x, "dst", u)
	})
	w.end()
}

// runWords is run for slices with 16-bit elements.
func (w *walk) runWords(body func(u int)) {
	if w.wide {
		w.run(4, body)
		return
	}
	step := U32(uint32(w.lanes()))
	XORQ(w.at, w.at)
	SUBQ(step, w.n)
	JLT(LabelRef("rest"))
	Label("eight")
	body(0)
	ADDQ(step, w.at)
	SUBQ(step, w.n)
	JGE(LabelRef("eight"))
	Label("rest")
	ADDQ(step, w.n)
	JE(LabelRef("done"))
	w.single = true
	Label("one")
	body(0)
	INCQ(w.at)
	DECQ(w.n)
	JNE(LabelRef("one"))
	w.single = false
	Label("done")
}

// lane is a register for the floats of one step.
func (w *walk) lane() reg.VecVirtual {
	if w.single {
		return XMM()
	}
	return w.virtual()
}

// loadWords reads 16-bit elements into 32-bit lanes.
func (w *walk) loadWords(slice string, u int) reg.VecVirtual {
	r, from := w.lane(), w.element(slice, u, 2)
	switch {
	case w.single:
		w.loadWord(from, r)
	case w.tail:
		VPMOVZXWD_Z(from, w.mask, r)
	default:
		VPMOVZXWD(from, r)
	}
	return r
}

func (w *walk) loadWord(from Mem, r reg.Register) {
	word := GP32()
	MOVWLZX(from, word)
	VMOVD(word, r)
}

// loadHalves reads half-precision elements as float32.
func (w *walk) loadHalves(u int) reg.Register {
	r, from := w.lane(), w.element("src", u, 2)
	switch {
	case w.single:
		w.loadWord(from, r)
		VCVTPH2PS(r, r)
	case w.tail:
		VCVTPH2PS_Z(from, w.mask, r)
	default:
		VCVTPH2PS(from, r)
	}
	return r
}

// loadFloats reads float32 elements.
func (w *walk) loadFloats(u int) reg.VecVirtual {
	if !w.single {
		return w.load("src", u)
	}
	r := XMM()
	VMOVSS(w.element("src", u, 4), r)
	return r
}

// toBF16 rounds by adding half of the dropped part's unit, less one where the kept
// part is even. NaN keeps its upper half and is made quiet.
func toBF16(s isa) {
	w := newWalk(s, "toBFloat", "func(dst []uint16, src []float32)", "rounds to bfloat16, ties to even", "dst", "src")
	one, almost, quiet := w.bits(1), w.bits(0x7fff), w.bits(0x40)
	w.runWords(func(u int) {
		one, almost, quiet := w.view(one), w.view(almost), w.view(quiet)
		x, upper, sum := w.loadFloats(u), w.lane(), w.lane()
		VPSRLD(Imm(16), x, upper)
		VANDPS(one, upper, sum)
		VPADDD(almost, sum, sum)
		VPADDD(x, sum, sum)
		VPSRLD(Imm(16), sum, sum)
		if w.wide {
			k, to := K(), w.element("dst", u, 2)
			VCMPPS(Imm(3), x, x, k)
			VPORD(quiet, upper, k, sum)
			if w.tail {
				VPMOVDW(sum, w.mask, to)
			} else {
				VPMOVDW(sum, to)
			}
			return
		}
		VCMPPS(Imm(3), x, x, x)
		VORPS(quiet, upper, upper)
		VBLENDVPS(x, upper, sum, sum)
		w.storeWords(sum, u)
	})
	w.end()
}

// view is r as wide as the registers of this step.
func (w *walk) view(r reg.VecVirtual) reg.Register {
	if w.single {
		return r.AsX()
	}
	return r
}

// storeWords writes 32-bit lanes below 65536 as 16-bit elements, without AVX-512.
func (w *walk) storeWords(r reg.VecVirtual, u int) {
	to := w.element("dst", u, 2)
	if w.single {
		w.storeWord(r, to)
		return
	}
	upper := XMM()
	VEXTRACTI128(Imm(1), r, upper)
	VPACKUSDW(upper, r.AsX(), upper)
	VMOVDQU(upper, to)
}

func (w *walk) storeWord(r reg.Register, to Mem) {
	word := GP32()
	VMOVD(r, word)
	MOVW(word.As16(), to)
}

// toF16 names round to nearest in the instruction, whatever the mode.
func toF16(s isa) {
	w := newWalk(s, "toHalf", "func(dst []uint16, src []float32)", "rounds to half precision, ties to even", "dst", "src")
	w.runWords(func(u int) {
		x, to := w.loadFloats(u), w.element("dst", u, 2)
		switch {
		case w.single:
			VCVTPS2PH(Imm(0), x, x)
			w.storeWord(x, to)
		case w.tail:
			VCVTPS2PH(Imm(0), x, w.mask, to)
		default:
			VCVTPS2PH(Imm(0), x, to)
		}
	})
	w.end()
}
