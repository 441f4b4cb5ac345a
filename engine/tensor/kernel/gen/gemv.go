package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// gemv writes the products of a few rows with one row of B, in each storage of B,
// and the unpacking of 4-bit codes.
func gemv() {
	lanes := countLanes()
	for _, s := range []isa{avx512, avx2} {
		for _, rows := range []int{1, 2, 4} {
			for _, storage := range []string{"F32", "BF16", "F16"} {
				dots(s, storage, rows)
			}
			dotsQ4(s, rows, lanes)
		}
		unpack(s)
	}
	packQ4()
}

// widen loads one register of B's elements as float32.
func (s isa) widen(storage string, from Mem, to Op) {
	switch storage {
	case "F32":
		VMOVUPS(from, to)
	case "BF16":
		VPMOVZXWD(from, to)
		VPSLLD(Imm(16), to, to)
	case "F16":
		VCVTPH2PS(from, to)
	}
}

// dots writes out[r] = Σ_j x[r, j]·b[j] for k elements, a multiple of 16.
func dots(s isa, storage string, rows int) {
	name := fmt.Sprintf("dots%s%d%s", storage, rows, s.suffix)
	function(name, "func(out, x *float32, ldx int, b *byte, k int)",
		fmt.Sprintf("%s multiplies %d rows of x, ldx bytes apart, with the k elements at b, k a multiple of 16.", name, rows))
	size := 2
	if storage == "F32" {
		size = 4
	}
	x, ldx, b, k := GP64(), GP64(), GP64(), GP64()
	Load(Param("x"), x)
	Load(Param("ldx"), ldx)
	Load(Param("b"), b)
	Load(Param("k"), k)
	at := rowPointers(x, ldx, rows)
	parts := 8 / rows // independent sums a row, to hide the latency of one
	if rows == 1 {
		parts = 4
	}
	acc := make([][]reg.VecVirtual, rows)
	for r := range acc {
		for range parts {
			v := s.virtual()
			s.zero(v)
			acc[r] = append(acc[r], v)
		}
	}
	step := func(n int) {
		for p := range n {
			w := s.virtual()
			s.widen(storage, Mem{Base: b, Disp: p * s.lanes() * size}, w)
			for r := range rows {
				VFMADD231PS(Mem{Base: at[r], Disp: p * s.bytes()}, w, acc[r][p])
			}
		}
		ADDQ(U32(uint32(n*s.lanes()*size)), b)
		for r := range rows {
			ADDQ(U32(uint32(n*s.bytes())), at[r])
		}
		SUBQ(U32(uint32(n*s.lanes())), k)
	}
	Label("many")
	CMPQ(k, U32(uint32(parts*s.lanes())))
	JLT(LabelRef("one"))
	step(parts)
	JMP(LabelRef("many"))
	Label("one")
	CMPQ(k, Imm(0))
	JLE(LabelRef("done"))
	step(1)
	JMP(LabelRef("one"))
	Label("done")
	out := GP64()
	Load(Param("out"), out)
	for r := range rows {
		for p := 1; p < parts; p++ {
			VADDPS(acc[r][p], acc[r][0], acc[r][0])
		}
		s.sum(acc[r][0], Mem{Base: out, Disp: 4 * r})
	}
	VZEROUPPER()
	RET()
}

func rowPointers(x, ldx reg.GPVirtual, rows int) []reg.GPVirtual {
	at := []reg.GPVirtual{x}
	for r := 1; r < rows; r++ {
		p := GP64()
		MOVQ(at[r-1], p)
		ADDQ(ldx, p)
		at = append(at, p)
	}
	return at
}

// summed is a register, allocated or not.
type summed interface {
	reg.Register
	AsX() reg.Register
	AsY() reg.Register
}

// sum stores the sum of v's lanes.
func (s isa) sum(v summed, to Mem) {
	half := YMM()
	if s.wide {
		VEXTRACTF64X4(Imm(1), v, half)
		VADDPS(half, v.AsY(), half)
	} else {
		VMOVAPS(v, half)
	}
	quarter := XMM()
	VEXTRACTF128(Imm(1), half, quarter)
	VADDPS(quarter, half.AsX(), quarter)
	t := XMM()
	VPERMILPS(Imm(0x4e), quarter, t)
	VADDPS(t, quarter, quarter)
	VPERMILPS(Imm(0xb1), quarter, t)
	VADDPS(t, quarter, quarter)
	VMOVSS(quarter, to)
}

// codes loads the 32 codes at from as float32 registers, in the order of columns.
func (s isa) codes(from Mem, low reg.VecVirtual) []reg.VecVirtual {
	var out []reg.VecVirtual
	perHalf := 16 / s.lanes()
	for half := range 2 {
		for p := range perHalf {
			v := s.virtual()
			if half == 0 {
				VPMOVZXBD(Mem{Base: from.Base, Disp: from.Disp + p*s.lanes()}, v)
				out = append(out, v)
				continue
			}
			VPSRLD(Imm(4), out[p], v)
			out = append(out, v)
		}
	}
	for i := range perHalf {
		if s.wide {
			VPANDD(low, out[i], out[i])
		} else {
			VPAND(low, out[i], out[i])
		}
	}
	return out
}

// low returns a register with 15 in every lane.
func (s isa) low() reg.VecVirtual {
	v := s.virtual()
	g := GP32()
	MOVL(U32(15), g)
	x := XMM()
	VMOVD(g, x)
	VPBROADCASTD(x, v)
	return v
}

// group loads the scale and the zero point of a group: every lane of scale and zero.
func (s isa) group(scales, zeros reg.GPVirtual, scale, zero reg.VecVirtual) {
	bits := GP32()
	MOVWLZX(Mem{Base: scales}, bits)
	VMOVD(bits, scale.AsX())
	VCVTPH2PS(scale.AsX(), scale.AsX())
	VBROADCASTSS(scale.AsX(), scale)
	MOVBLZX(Mem{Base: zeros}, bits)
	VMOVD(bits, zero.AsX())
	VPBROADCASTD(zero.AsX(), zero)
	ADDQ(Imm(2), scales)
	INCQ(zeros)
}

// dotsQ4 writes the product of rows of x with a row of 4-bit groups. With AVX-512 the
// sixteen values that a group's codes stand for lie in one register, and a permutation
// looks them up; with AVX2 codes are converted and the group's sum is scaled.
func dotsQ4(s isa, rows int, lanes Mem) {
	name := fmt.Sprintf("dotsQ4x%d%s", rows, s.suffix)
	function(name, "func(out, x *float32, ldx int, codes *byte, scales *uint16, zeros *byte, blocks, perGroup int)",
		fmt.Sprintf("%s multiplies %d rows of x, ldx bytes apart, with blocks of 32 codes, perGroup to a scale.", name, rows))
	x, ldx, codes, scales, zeros := GP64(), GP64(), GP64(), GP64(), GP64()
	blocks, n := GP64(), GP64()
	Load(Param("x"), x)
	Load(Param("ldx"), ldx)
	Load(Param("codes"), codes)
	Load(Param("scales"), scales)
	Load(Param("zeros"), zeros)
	Load(Param("blocks"), blocks)
	at := rowPointers(x, ldx, rows)
	scale, zero := s.virtual(), s.virtual()
	var low, steps, table reg.VecVirtual
	parts := 1 // independent sums by row
	if s.wide {
		parts = max(2, 4/rows)
		steps, table = s.virtual(), s.virtual()
		VMOVDQU32(lanes, steps)
	} else {
		low = s.low()
	}
	total, acc := make([]reg.VecVirtual, rows), make([][]reg.VecVirtual, rows)
	for r := range rows {
		for range parts {
			v := s.virtual()
			s.zero(v)
			acc[r] = append(acc[r], v)
		}
		total[r] = acc[r][0]
		if !s.wide {
			total[r] = s.virtual()
			s.zero(total[r])
		}
	}
	Label("group")
	s.group(scales, zeros, scale, zero)
	if s.wide {
		VPSUBD(zero, steps, table)
		VCVTDQ2PS(table, table)
		VMULPS(scale, table, table)
	} else {
		for r := range rows {
			s.zero(acc[r][0])
		}
	}
	Load(Param("perGroup"), n)
	CMPQ(n, blocks)
	CMOVQGT(blocks, n)
	SUBQ(n, blocks)
	block := func(i int) { // number i of the blocks that follow one another
		var values []reg.VecVirtual
		from := Mem{Base: codes, Disp: 16 * i}
		if s.wide {
			values = s.lookUp(from, table)
		} else {
			values = s.codes(from, low)
			for _, v := range values {
				VPSUBD(zero, v, v)
				VCVTDQ2PS(v, v)
			}
		}
		for p, v := range values {
			for r := range rows {
				VFMADD231PS(Mem{Base: at[r], Disp: 128*i + p*s.bytes()}, v, acc[r][(2*i+p)%parts])
			}
		}
	}
	advance := func(count int) {
		ADDQ(U32(uint32(16*count)), codes)
		for r := range rows {
			ADDQ(U32(uint32(128*count)), at[r])
		}
	}
	if s.wide { // two blocks at a time, so that four sums hide the latency of one
		SUBQ(Imm(2), n)
		JLT(LabelRef("last"))
		Label("two")
		block(0)
		block(1)
		advance(2)
		SUBQ(Imm(2), n)
		JGE(LabelRef("two"))
		Label("last")
		ADDQ(Imm(2), n)
		JE(LabelRef("next"))
		block(0)
		advance(1)
		Label("next")
	} else {
		Label("block")
		block(0)
		advance(1)
		DECQ(n)
		JNE(LabelRef("block"))
	}
	if !s.wide {
		for r := range rows {
			VFMADD231PS(acc[r][0], scale, total[r])
		}
	}
	CMPQ(blocks, Imm(0))
	JG(LabelRef("group"))
	out := GP64()
	Load(Param("out"), out)
	for r := range rows {
		for _, v := range acc[r][1:] {
			VADDPS(v, acc[r][0], acc[r][0])
		}
		s.sum(total[r], Mem{Base: out, Disp: 4 * r})
	}
	VZEROUPPER()
	RET()
}

// countLanes writes the numbers 0 to 15 as constants.
func countLanes() Mem {
	m := GLOBL("lane_count", attr.RODATA|attr.NOPTR)
	for i := range 16 {
		DATA(4*i, U32(uint32(i)))
	}
	return m
}

// lookUp returns the 32 values of a block: a permutation reads only the low four bits of
// each lane.
func (s isa) lookUp(codes Mem, table reg.VecVirtual) []reg.VecVirtual {
	first, second := s.virtual(), s.virtual()
	VPMOVZXBD(codes, first)
	VPSRLD(Imm(4), first, second)
	VPERMPS(table, first, first)
	VPERMPS(table, second, second)
	return []reg.VecVirtual{first, second}
}

// packQ4 rounds blocks of 32 values of one group to codes.
func packQ4() {
	s := avx512
	function("packQ4x512", "func(codes *byte, w *float32, scale float32, zero int32, blocks int)",
		"packQ4x512 writes round(w/scale) + zero, kept within 0 to 15, blocks at least 1.")
	codes, w, blocks := GP64(), GP64(), GP64()
	Load(Param("codes"), codes)
	Load(Param("w"), w)
	Load(Param("blocks"), blocks)
	x, scale, zero, g := XMM(), s.virtual(), s.virtual(), GP32()
	Load(Param("scale"), x)
	VBROADCASTSS(x, scale)
	Load(Param("zero"), g)
	y := XMM()
	VMOVD(g, y)
	VPBROADCASTD(y, zero)
	top, bottom := s.low(), s.virtual()
	s.zero(bottom)
	Label("block")
	var v [2]reg.VecVirtual
	for i := range v {
		v[i] = s.virtual()
		VMOVUPS(Mem{Base: w, Disp: 64 * i}, v[i])
		VDIVPS(scale, v[i], v[i])
		VCVTPS2DQ(v[i], v[i])
		VPADDD(zero, v[i], v[i])
		VPMAXSD(bottom, v[i], v[i])
		VPMINSD(top, v[i], v[i])
	}
	VPSLLD(Imm(4), v[1], v[1])
	VPORD(v[1], v[0], v[0])
	VPMOVDB(v[0], Mem{Base: codes})
	ADDQ(Imm(16), codes)
	ADDQ(U32(128), w)
	DECQ(blocks)
	JNE(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// unpack writes blocks of 32 codes as (code − zero)·scale.
func unpack(s isa) {
	name := "unpackQ4x" + s.suffix
	function(name, "func(dst *float32, codes *byte, scale float32, zero int32, blocks int)",
		name+" writes 32 floats a block, blocks at least 1.")
	dst, codes, blocks := GP64(), GP64(), GP64()
	Load(Param("dst"), dst)
	Load(Param("codes"), codes)
	Load(Param("blocks"), blocks)
	x, scale, zero := XMM(), s.virtual(), s.virtual()
	Load(Param("scale"), x)
	VBROADCASTSS(x, scale)
	g := GP32()
	Load(Param("zero"), g)
	y := XMM()
	VMOVD(g, y)
	VPBROADCASTD(y, zero)
	low := s.low()
	Label("block")
	for p, v := range s.codes(Mem{Base: codes}, low) {
		VPSUBD(zero, v, v)
		VCVTDQ2PS(v, v)
		VMULPS(scale, v, v)
		VMOVUPS(v, Mem{Base: dst, Disp: p * s.bytes()})
	}
	ADDQ(Imm(16), codes)
	ADDQ(U32(128), dst)
	DECQ(blocks)
	JNE(LabelRef("block"))
	VZEROUPPER()
	RET()
}
