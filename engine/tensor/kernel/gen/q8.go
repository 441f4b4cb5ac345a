package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The layout of rows in 8 bits, which rows8 of package kernel describes.
const (
	unitBytes  = 128  // of one row in a unit of four blocks: first halves, then second halves
	gridBytes  = 128  // of one row's grids of sixteen groups: scales, then negated sums
	gridBlocks = 16   // groups that stand together
	q8Ahead    = 4096 // bytes of codes between what is multiplied and what is fetched
)

// q8 writes the products of rows in 8 bits with rows of 4-bit codes, and the rounding of
// rows to 8 bits.
func q8() {
	for _, wide := range []bool{false, true} {
		for rows := 1; rows <= 8; rows++ {
			q8Dots512(rows, wide)
		}
	}
	for rows := 1; rows <= 4; rows++ {
		q8Dots256(rows)
	}
	for _, s := range []isa{avx512, avx2} {
		q8Round(s)
	}
}

// dotBytes is VPDPBUSD, which the generator does not know: every 32-bit lane of acc gains
// the sum of four products of an unsigned byte of u and a signed one of x.
func dotBytes(x Op, u, acc reg.VecVirtual) {
	Instruction(&ir.Instruction{Opcode: "VPDPBUSD", Operands: []Op{x, u, acc}, Inputs: []Op{x, u, acc}, Outputs: []Op{acc}})
}

// q8Name begins a kernel: q4 codes are two to a byte, wide ones a byte each, a unit's first
// halves before its second halves, in a last unit of fewer blocks as well.
func q8Name(s isa, rows int, wide bool, more string) {
	kind, codes := "q8Dots", "4-bit codes"
	if wide {
		kind, codes = "q8Wide", "codes of a byte"
	}
	name := fmt.Sprintf("%s%dx%s", kind, rows, s.suffix)
	function(name, fmt.Sprintf(q8Signature, more),
		fmt.Sprintf("%s multiplies %d rows in 8 bits with n rows of %s; ldo and stride are in bytes.", name, rows, codes))
}

const q8Signature = "func(out *float32, ldo, n int, codes *byte, stride int, scales *uint16, zeros *byte, groups, blocks, perGroup int, x *int8, grid *float32%s)"

// q8Args are the parameters of a kernel in registers.
type q8Args struct {
	out, ldo, n, codes, scales, zeros, x, grid, blocks reg.GPVirtual
}

func q8Load() q8Args {
	a := q8Args{GP64(), GP64(), GP64(), GP64(), GP64(), GP64(), GP64(), GP64(), GP64()}
	Load(Param("out"), a.out)
	Load(Param("ldo"), a.ldo)
	Load(Param("n"), a.n)
	Load(Param("codes"), a.codes)
	Load(Param("scales"), a.scales)
	Load(Param("zeros"), a.zeros)
	return a
}

// addParam adds a parameter to a register.
func addParam(name string, to reg.Register) {
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	ADDQ(p.Addr, to)
}

// q8Dots512 handles four blocks, 128 columns, in one register: the low halves of the
// codes are the first sixteen columns of each block, the high halves the others. The 32-bit
// sums of a block fill a quarter of the register, and a permutation of the scales of
// sixteen groups puts each block's beside them.
func q8Dots512(rows int, wide bool) {
	s := avx512
	q8Name(s, rows, wide, ", places *int32")
	a := q8Load()
	low := s.virtual()
	if !wide {
		g := GP32()
		MOVL(U32(0x0f0f0f0f), g)
		VPBROADCASTD(g, low)
	}
	acc, scale := zs[16:16+rows], zs[24:24+rows]
	groups, left, places, at := GP64(), GP64(), GP64(), GP64()

	Label("row")
	for _, v := range acc {
		s.zero(v)
	}
	Load(Param("x"), a.x)
	Load(Param("grid"), a.grid)
	Load(Param("blocks"), a.blocks)
	Load(Param("groups"), groups)
	MOVQ(a.codes, at)

	Label("chunk")
	mask, bits := K(), GP32()
	few := GP64()
	MOVQ(U32(gridBlocks), few)
	CMPQ(groups, few)
	CMOVQLT(groups, few)
	MOVL(U32(0xffff), bits)
	BZHIL(few.As32(), bits, bits)
	KMOVW(bits, mask)
	half, weight, zero, t := YMM(), s.virtual(), s.virtual(), s.virtual()
	VMOVDQU16_Z(Mem{Base: a.scales}, mask, half)
	VCVTPH2PS(half, weight)
	small := XMM()
	VMOVDQU8_Z(Mem{Base: a.zeros}, mask, small)
	VPMOVZXBD(small, zero)
	VCVTDQ2PS(zero, zero)
	for r := range rows { // scale·zero·(−Σ x)
		VMULPS(Mem{Base: a.grid, Disp: r * gridBytes}, weight, scale[r])
		VMULPS(Mem{Base: a.grid, Disp: r*gridBytes + 64}, zero, t)
		VFMADD231PS(t, scale[r], acc[r])
	}
	// The chunk's blocks: those of sixteen groups, or what is left.
	Load(Param("perGroup"), left)
	SHLQ(Imm(4), left)
	CMPQ(left, a.blocks)
	CMOVQGT(a.blocks, left)
	SUBQ(left, a.blocks)
	Load(Param("places"), places)
	first, second, place, sum, by := s.virtual(), s.virtual(), s.virtual(), s.virtual(), s.virtual()
	unit := func(load func(to reg.VecVirtual)) {
		load(second)
		if !wide {
			VPANDD(low, second, first)
			VPSRLW(Imm(4), second, second)
			VPANDD(low, second, second)
		}
		VMOVDQU32(Mem{Base: places}, place)
		for r := range rows {
			s.zero(sum)
			dotBytes(Mem{Base: a.x, Disp: r * unitBytes}, first, sum)
			dotBytes(Mem{Base: a.x, Disp: r*unitBytes + 64}, second, sum)
			VCVTDQ2PS(sum, sum)
			VPERMPS(scale[r], place, by)
			VFMADD231PS(sum, by, acc[r])
		}
		ADDQ(U32(uint32(rows*unitBytes)), a.x)
	}
	SUBQ(Imm(4), left)
	JLT(LabelRef("part"))
	Label("unit")
	PREFETCHT0(Mem{Base: at, Disp: q8Ahead})
	size := 64
	if wide {
		size = 128
		PREFETCHT0(Mem{Base: at, Disp: q8Ahead + 64})
		VMOVDQU32(Mem{Base: at}, first)
	}
	unit(func(to reg.VecVirtual) { VMOVDQU32(Mem{Base: at, Disp: size - 64}, to) })
	ADDQ(U32(uint32(size)), at)
	ADDQ(Imm(64), places)
	SUBQ(Imm(4), left)
	JGE(LabelRef("unit"))
	Label("part")
	ADDQ(Imm(4), left)
	JE(LabelRef("next"))
	lanes, quarters := GP32(), K()
	SHLQ(Imm(2), left) // lanes of 32 bits
	MOVL(U32(0xffff), lanes)
	BZHIL(left.As32(), lanes, lanes)
	KMOVW(lanes, quarters)
	from := Mem{Base: at}
	if wide {
		VMOVDQU32_Z(from, quarters, first)
		from.Index, from.Scale = left, 4
	}
	unit(func(to reg.VecVirtual) { VMOVDQU32_Z(from, quarters, to) })

	Label("next")
	CMPQ(groups, Imm(gridBlocks))
	JLE(LabelRef("last"))
	ADDQ(Imm(2*gridBlocks), a.scales)
	ADDQ(Imm(gridBlocks), a.zeros)
	ADDQ(U32(uint32(rows*gridBytes)), a.grid)
	SUBQ(Imm(gridBlocks), groups)
	JMP(LabelRef("chunk"))

	Label("last")
	addParam("stride", a.codes)
	ADDQ(groups, a.zeros)
	LEAQ(Mem{Base: a.scales, Index: groups, Scale: 2}, a.scales)
	to := GP64()
	MOVQ(a.out, to)
	if rows == 8 {
		s.sumEight(acc, to, a.ldo)
	} else {
		for r := range rows {
			s.sum(acc[r], Mem{Base: to})
			if r < rows-1 {
				ADDQ(a.ldo, to)
			}
		}
	}
	ADDQ(Imm(4), a.out)
	DECQ(a.n)
	JNE(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// sumEight stores the sums of eight registers ldo bytes apart, each added up in the order
// of sum: halves, quarters, then pairs within them.
func (s isa) sumEight(v []reg.VecPhysical, to, ldo reg.GPVirtual) {
	fold := func(a, b reg.VecPhysical, first, second uint64) {
		t := s.virtual()
		VSHUFF64X2(Imm(second), b, a, t)
		VSHUFF64X2(Imm(first), b, a, a)
		VADDPS(t, a, a)
	}
	for i := 0; i < 8; i += 2 { // [a a b b]
		fold(v[i], v[i+1], 0x44, 0xee)
	}
	fold(v[0], v[2], 0x88, 0xdd) // [a b c d]
	fold(v[4], v[6], 0x88, 0xdd)
	t := s.virtual()
	VUNPCKHPS(v[4], v[0], t)
	VUNPCKLPS(v[4], v[0], v[0]) // in each quarter pairs of v[i] and v[i+4]
	VADDPS(t, v[0], v[0])
	VPERMILPS(Imm(0x4e), v[0], t)
	VADDPS(t, v[0], v[0])
	other := GP64()
	LEAQ(Mem{Base: to, Index: ldo, Scale: 4}, other)
	for i := range 4 {
		x := XMM()
		VEXTRACTF32X4(Imm(uint64(i)), v[0], x)
		VMOVSS(x, Mem{Base: to})
		VEXTRACTPS(Imm(1), x, Mem{Base: other})
		if i < 3 {
			ADDQ(ldo, to)
			ADDQ(ldo, other)
		}
	}
}

// q8Dots256 handles two blocks of one group in a register, or one in half of it: products
// of bytes are added in pairs to 16 bits, which two of 15·127 fit many times over.
func q8Dots256(rows int) {
	s := avx2
	q8Name(s, rows, false, "")
	a := q8Load()
	low, ones := s.virtual(), s.virtual()
	VMOVDQU(constant(0x0f0f0f0f), low)
	VMOVDQU(constant(0x00010001), ones)
	acc, sums := make([]reg.VecVirtual, rows), make([]reg.VecVirtual, rows)
	for r := range rows {
		acc[r], sums[r] = s.virtual(), s.virtual()
	}
	left, at := GP64(), GP64()
	place, done := GP64(), GP64() // of the block within its unit, 0 to 3; groups

	Label("row")
	for _, v := range acc {
		s.zero(v)
	}
	Load(Param("x"), a.x)
	Load(Param("grid"), a.grid)
	Load(Param("blocks"), a.blocks)
	MOVQ(a.codes, at)
	XORQ(place, place)
	XORQ(done, done)

	Label("group")
	for _, v := range sums {
		s.zero(v)
	}
	Load(Param("perGroup"), left)
	CMPQ(left, a.blocks)
	CMOVQGT(a.blocks, left)
	SUBQ(left, a.blocks)
	Label("block")
	TESTQ(U32(1), place) // two blocks stand beside one another from an even one on
	JNE(LabelRef("one"))
	CMPQ(left, Imm(2))
	JLT(LabelRef("one"))
	block := func(count int) {
		narrow := func(v reg.VecVirtual) reg.Register {
			if count == 1 {
				return v.AsX()
			}
			return v
		}
		first, second := s.virtual(), s.virtual()
		f, g, l := narrow(first), narrow(second), narrow(low)
		VMOVDQU(Mem{Base: at}, g)
		VPAND(l, g, f)
		VPSRLW(Imm(4), g, g)
		VPAND(l, g, g)
		t, u := s.virtual(), s.virtual()
		for r := range rows {
			VPMADDUBSW(Mem{Base: a.x, Disp: r * unitBytes}, f, narrow(t))
			VPMADDUBSW(Mem{Base: a.x, Disp: r*unitBytes + 64}, g, narrow(u))
			VPADDW(narrow(u), narrow(t), narrow(t))
			VPMADDWD(narrow(ones), narrow(t), narrow(t)) // clears the other half
			VPADDD(t, sums[r], sums[r])
		}
		ADDQ(Imm(uint64(16*count)), at)
		ADDQ(Imm(uint64(16*count)), a.x)
		ADDQ(Imm(uint64(count)), place)
		SUBQ(Imm(uint64(count)), left)
	}
	block(2)
	JMP(LabelRef("moved"))
	Label("one")
	block(1)
	Label("moved")
	CMPQ(place, Imm(4))
	JNE(LabelRef("within"))
	XORQ(place, place)
	ADDQ(U32(uint32(rows*unitBytes-64)), a.x)
	Label("within")
	TESTQ(left, left)
	JNE(LabelRef("block"))

	bits := GP32()
	weight, zero := XMM(), XMM()
	MOVWLZX(Mem{Base: a.scales}, bits)
	VMOVD(bits, weight)
	VCVTPH2PS(weight, weight)
	MOVBLZX(Mem{Base: a.zeros}, bits)
	VMOVD(bits, zero)
	VCVTDQ2PS(zero, zero)
	ADDQ(Imm(2), a.scales)
	INCQ(a.zeros)
	scale, t := s.virtual(), s.virtual()
	for r := range rows { // scale·(Σ code·x + zero·(−Σ x))
		VMULSS(Mem{Base: a.grid, Disp: r * gridBytes}, weight, scale.AsX())
		VBROADCASTSS(scale.AsX(), scale)
		VMULSS(Mem{Base: a.grid, Disp: r*gridBytes + 64}, zero, t.AsX()) // the other lanes are zero
		VCVTDQ2PS(sums[r], sums[r])
		VADDPS(t, sums[r], sums[r])
		VFMADD231PS(sums[r], scale, acc[r])
	}
	ADDQ(Imm(4), a.grid)
	INCQ(done)
	groups, err := Param("groups").Resolve()
	if err != nil {
		panic(err)
	}
	CMPQ(done, groups.Addr)
	JE(LabelRef("last"))
	TESTQ(U32(gridBlocks-1), done)
	JNE(LabelRef("group"))
	ADDQ(U32(uint32(rows*gridBytes-4*gridBlocks)), a.grid)
	JMP(LabelRef("group"))

	Label("last")
	addParam("stride", a.codes)
	to := GP64()
	MOVQ(a.out, to)
	for r := range rows {
		s.sum(acc[r], Mem{Base: to})
		if r < rows-1 {
			ADDQ(a.ldo, to)
		}
	}
	ADDQ(Imm(4), a.out)
	DECQ(a.n)
	JNE(LabelRef("row"))
	VZEROUPPER()
	RET()
}

// q8Round rounds one group of a row to 8 bits: scale = max|x|/127, codes round(x/scale) to
// nearest even. A group below 2⁻¹²⁰ is all zeros. The largest is found among the bits, of
// which a NaN's are the largest, so that the scale is one where an element is.
func q8Round(s isa) {
	name := "q8Round" + s.suffix
	function(name, "func(dst *int8, x *float32, blocks, place, hop int, grid *float32)",
		name+" rounds blocks of 32 numbers, of which the first stands at place 0 to 3 of a unit; the next unit is hop bytes on.")
	dst, x, blocks, place, hop, grid := GP64(), GP64(), GP64(), GP64(), GP64(), GP64()
	Load(Param("dst"), dst)
	Load(Param("x"), x)
	Load(Param("blocks"), blocks)
	Load(Param("place"), place)
	Load(Param("hop"), hop)
	Load(Param("grid"), grid)
	perHalf := 16 / s.lanes()
	sign, top, v := s.virtual(), s.virtual(), s.virtual()
	VBROADCASTSS(constant(0x7fffffff), sign)
	s.zero(top)
	at, left := GP64(), GP64()
	MOVQ(x, at)
	MOVQ(blocks, left)
	Label("largest")
	for i := range 2 * perHalf {
		if s.wide {
			VPANDD(Mem{Base: at, Disp: i * s.bytes()}, sign, v)
		} else {
			VPAND(Mem{Base: at, Disp: i * s.bytes()}, sign, v)
		}
		VPMAXSD(v, top, top)
	}
	ADDQ(U32(128), at)
	DECQ(left)
	JNE(LabelRef("largest"))
	size := s.lowest(top, func(a, b, to Op) { VPMAXSD(a, b, to) })
	bits, inverse, scale, full := GP32(), s.virtual(), XMM(), XMM()
	VMOVD(size, bits)
	s.zero(inverse)
	VXORPS(scale, scale, scale)
	CMPL(bits, U32(7<<23)) // 2⁻¹²⁰
	JLT(LabelRef("tiny"))
	VMOVSS(constant(0x42fe0000), full) // 127
	VDIVSS(size, full, inverse.AsX())
	VBROADCASTSS(inverse.AsX(), inverse)
	VDIVSS(full, size, scale)
	Label("tiny")
	VMOVSS(scale, Mem{Base: grid})

	sum := s.virtual()
	s.zero(sum)
	Label("block")
	for half := range 2 {
		to := Mem{Base: dst, Disp: 64 * half}
		parts := make([]reg.VecVirtual, perHalf)
		for p := range parts {
			parts[p] = s.virtual()
			VMULPS(Mem{Base: x, Disp: 64*half + p*s.bytes()}, inverse, parts[p])
			VCVTPS2DQ(parts[p], parts[p])
			VPADDD(parts[p], sum, sum)
		}
		if s.wide {
			VPMOVDB(parts[0], to)
			continue
		}
		VPACKSSDW(parts[1], parts[0], parts[0])
		VPERMQ(Imm(0xd8), parts[0], parts[0])
		upper := XMM()
		VEXTRACTI128(Imm(1), parts[0], upper)
		VPACKSSWB(upper, parts[0].AsX(), upper)
		VMOVDQU(upper, to)
	}
	ADDQ(U32(128), x)
	ADDQ(Imm(16), dst)
	INCQ(place)
	CMPQ(place, Imm(4))
	JNE(LabelRef("within"))
	XORQ(place, place)
	LEAQ(Mem{Base: dst, Index: hop, Scale: 1, Disp: -64}, dst)
	Label("within")
	DECQ(blocks)
	JNE(LabelRef("block"))
	total := s.lowest(sum, func(a, b, to Op) { VPADDD(a, b, to) })
	VCVTDQ2PS(total, total)
	VXORPS(constant(0x80000000), total, total)
	VMOVSS(total, Mem{Base: grid, Disp: 64})
	VZEROUPPER()
	RET()
}

// lowest combines the lanes of v into the lowest of the register it returns.
func (s isa) lowest(v reg.VecVirtual, op func(a, b, to Op)) reg.VecVirtual {
	half := YMM()
	if s.wide {
		VEXTRACTI64X4(Imm(1), v, half)
		op(v.AsY(), half, half)
	} else {
		VMOVDQA(v, half)
	}
	x, t := XMM(), XMM()
	VEXTRACTI128(Imm(1), half, x)
	op(half.AsX(), x, x)
	VPSHUFD(Imm(0x4e), x, t)
	op(t, x, x)
	VPSHUFD(Imm(0xb1), x, t)
	op(t, x, x)
	return x
}
