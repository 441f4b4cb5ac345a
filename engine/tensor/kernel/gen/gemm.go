package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The offsets of kernel.tile's fields.
const (
	tileA, tileB, tileC          = 0, 8, 16
	tileK                        = 24
	tileLDA, tileLDB, tileLDC    = 32, 40, 48
	tileBias                     = 56
	tileAlpha, tileAccumulate    = 64, 68
	tileMask, tileLanes, tileCut = 72, 80, 88
)

// gemm writes the micro-kernels: for each number of rows a function for A whose
// rows lie apart (Row) and one for A whose columns do (Col). Every accumulator
// sums over k in order, so all sizes give the same bits.
func gemm() {
	for rows := 1; rows <= 14; rows++ {
		for _, columns := range []bool{false, true} {
			microKernel(avx512, rows, columns, false)
			microKernel(avx512, rows, columns, true)
		}
	}
	for rows := 1; rows <= 6; rows++ {
		microKernel(avx2, rows, false, false)
		microKernel(avx2, rows, true, false)
	}
}

// micro is the state of one micro-kernel while it is written: a tile of rows × 2
// registers.
type micro struct {
	isa
	rows    int
	columns bool // A's columns lie apart
	pairs   bool // an element is two bfloat16 values along k
	acc     [][2]reg.VecPhysical
	b       [2]reg.VecPhysical
	cast    [2]reg.VecPhysical
	bases   []reg.Register // of A: one for every three rows, or one in all
	args    reg.Register
	lda     reg.Register
	ldb     reg.Register
	pb      reg.Register
}

func microKernel(s isa, rows int, columns, pairs bool) {
	form, what, suffix, of := "Row", "rows lie", "", ""
	if columns {
		form, what = "Col", "columns lie"
	}
	if pairs {
		suffix, of = "Pairs", ", of pairs of bfloat16"
	}
	name := fmt.Sprintf("tile%s%dx%d%s", form, rows, 2*s.lanes(), suffix)
	function(name, "func(t *byte)", fmt.Sprintf(
		"%s computes %d rows by %d columns of C as the tile at t says, where A's %s lda apart%s.", name, rows, 2*s.lanes(), what, of))
	m := newMicro(s, rows, columns)
	m.pairs = pairs
	m.loop()
	m.store()
	VZEROUPPER()
	RET()
}

func newMicro(s isa, rows int, columns bool) *micro {
	m := &micro{isa: s, rows: rows, columns: columns, args: reg.RDI, lda: reg.RAX, ldb: reg.RBX, pb: reg.RSI}
	n := 0
	next := func() reg.VecPhysical { n++; return s.physical(n - 1) }
	m.b = [2]reg.VecPhysical{next(), next()}
	m.cast = [2]reg.VecPhysical{next(), next()}
	for range rows {
		m.acc = append(m.acc, [2]reg.VecPhysical{next(), next()})
	}
	Load(Param("t"), m.args)
	MOVQ(m.field(tileLDA), m.lda)
	MOVQ(m.field(tileLDB), m.ldb)
	MOVQ(m.field(tileB), m.pb)
	m.base()
	m.touch()
	for _, row := range m.acc {
		for _, r := range row {
			m.zero(r)
		}
	}
	return m
}

func (m *micro) field(offset int) Mem { return Mem{Base: m.args, Disp: offset} }

// base sets up pointers into A. Rows r, r+1 and r+2 share one, because an address
// can add lda once or twice.
func (m *micro) base() {
	free := []reg.Register{reg.R8, reg.R9, reg.R10, reg.R11, reg.R12}
	m.bases = []reg.Register{free[0]}
	MOVQ(m.field(tileA), free[0])
	if m.columns {
		return
	}
	for i := 1; 3*i < m.rows; i++ {
		LEAQ(Mem{Base: free[i-1], Index: m.lda, Scale: 1}, free[i])
		LEAQ(Mem{Base: free[i], Index: m.lda, Scale: 2}, free[i])
		m.bases = append(m.bases, free[i])
	}
}

// touch asks for C's lines, which are needed after the loop.
func (m *micro) touch() {
	MOVQ(m.field(tileC), reg.RCX)
	MOVQ(m.field(tileLDC), reg.RDX)
	for r := range m.rows {
		PREFETCHT0(Mem{Base: reg.RCX})
		if m.wide {
			PREFETCHT0(Mem{Base: reg.RCX, Disp: 64})
		}
		if r < m.rows-1 {
			ADDQ(reg.RDX, reg.RCX)
		}
	}
}

// element is the address of A's element in the given row, u steps of k ahead.
func (m *micro) element(row, u int) Mem {
	if m.columns {
		return Mem{Base: m.bases[0], Disp: 4 * row}
	}
	a := Mem{Base: m.bases[row/3], Disp: 4 * u}
	if row%3 > 0 {
		a.Index, a.Scale = m.lda, uint8(row%3)
	}
	return a
}

// step adds one k to every accumulator.
func (m *micro) step(u int) {
	VMOVUPS(Mem{Base: m.pb}, m.b[0])
	VMOVUPS(Mem{Base: m.pb, Disp: m.bytes()}, m.b[1])
	ADDQ(m.ldb, m.pb)
	for r, acc := range m.acc {
		x := m.cast[r%2]
		VBROADCASTSS(m.element(r, u), x)
		m.multiply(x, m.b[0], acc[0])
		m.multiply(x, m.b[1], acc[1])
	}
	if m.columns {
		ADDQ(m.lda, m.bases[0])
	}
}

// multiply adds the product of x and b, or of both halves of their pairs, to acc.
func (m *micro) multiply(x, b, acc reg.VecPhysical) {
	if m.pairs {
		dotPairs(x, b, acc)
		return
	}
	VFMADD231PS(x, b, acc)
}

// dotPairs is VDPBF16PS on 512-bit registers, which neither the generator nor Go's
// assembler knows: EVEX.512.F3.0F38.W0 52 /r with acc in the register field, b in
// vvvv and x in the r/m field.
func dotPairs(x, b, acc reg.VecPhysical) {
	rm, v, r := uint64(x.PhysicalIndex()), uint64(b.PhysicalIndex()), uint64(acc.PhysicalIndex())
	not := func(n uint64, bit, at uint) uint64 { return (^n >> bit & 1) << at }
	bytes := []uint64{
		0x62,
		not(r, 3, 7) | not(rm, 4, 6) | not(rm, 3, 5) | not(r, 4, 4) | 2,
		(^v&15)<<3 | 1<<2 | 2,
		2<<5 | not(v, 4, 3),
		0x52,
		3<<6 | r&7<<3 | rm&7,
	}
	for _, value := range bytes {
		Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []Op{U8(value)}})
	}
}

// advance moves A's row pointers by u steps of k.
func (m *micro) advance(u int) {
	if m.columns {
		return
	}
	for _, p := range m.bases {
		ADDQ(Imm(uint64(4*u)), p)
	}
}

const unroll = 4

func (m *micro) loop() {
	k := reg.RCX
	MOVQ(m.field(tileK), k)
	SUBQ(Imm(unroll), k)
	JLT(LabelRef("rest"))
	Label("four")
	for u := range unroll {
		m.step(u)
	}
	m.advance(unroll)
	SUBQ(Imm(unroll), k)
	JGE(LabelRef("four"))
	Label("rest")
	ADDQ(Imm(unroll), k)
	JE(LabelRef("done"))
	Label("one")
	m.step(0)
	m.advance(1)
	DECQ(k)
	JNE(LabelRef("one"))
	Label("done")
}

// store writes C = alpha·acc (+ bias) (+ C). Products and sums are rounded one by
// one in this order in full and cut tiles alike.
func (m *micro) store() {
	alpha := m.cast[0]
	VBROADCASTSS(m.field(tileAlpha), alpha)
	m.each(func(r, v int) { VMULPS(alpha, m.acc[r][v], m.acc[r][v]) })
	MOVQ(m.field(tileC), reg.RCX)
	MOVQ(m.field(tileLDC), reg.RDX)
	MOVQ(m.field(tileBias), reg.RSI)
	if m.wide {
		m.storeMasked()
		return
	}
	CMPQ(m.field(tileCut), Imm(0))
	JNE(LabelRef("cut"))
	m.storeVia("", func(a Mem, v int, r reg.VecPhysical) { VMOVUPS(a, r) },
		func(r reg.VecPhysical, v int, a Mem) { VMOVUPS(r, a) })
	VZEROUPPER()
	RET()
	Label("cut")
	MOVQ(m.field(tileLanes), reg.RAX)
	mask := m.cast
	VMOVUPS(Mem{Base: reg.RAX}, mask[0])
	VMOVUPS(Mem{Base: reg.RAX, Disp: m.bytes()}, mask[1])
	m.storeVia("Cut", func(a Mem, v int, r reg.VecPhysical) { VMASKMOVPS(a, mask[v], r) },
		func(r reg.VecPhysical, v int, a Mem) { VMASKMOVPS(r, mask[v], a) })
}

// storeMasked always uses masks, which cost nothing with AVX-512.
func (m *micro) storeMasked() {
	masks := []reg.Register{reg.K1, reg.K2}
	MOVQ(m.field(tileMask), reg.RAX)
	KMOVW(reg.EAX, masks[0])
	SHRQ(Imm(16), reg.RAX)
	KMOVW(reg.EAX, masks[1])
	m.storeVia("", func(a Mem, v int, r reg.VecPhysical) { VMOVUPS_Z(a, masks[v], r) },
		func(r reg.VecPhysical, v int, a Mem) { VMOVUPS(r, masks[v], a) })
}

func (m *micro) storeVia(suffix string, load func(Mem, int, reg.VecPhysical), save func(reg.VecPhysical, int, Mem)) {
	TESTQ(reg.RSI, reg.RSI)
	JE(LabelRef("plain" + suffix))
	for v := range m.b {
		load(Mem{Base: reg.RSI, Disp: v * m.bytes()}, v, m.b[v])
	}
	m.each(func(r, v int) { VADDPS(m.b[v], m.acc[r][v], m.acc[r][v]) })
	Label("plain" + suffix)
	CMPL(m.field(tileAccumulate), Imm(0))
	JE(LabelRef("write" + suffix))
	m.row(reg.R8, func(r int) {
		for v := range m.b {
			load(Mem{Base: reg.R8, Disp: v * m.bytes()}, v, m.b[v])
			VADDPS(m.b[v], m.acc[r][v], m.acc[r][v])
		}
	})
	Label("write" + suffix)
	m.row(reg.R8, func(r int) {
		for v := range m.b {
			save(m.acc[r][v], v, Mem{Base: reg.R8, Disp: v * m.bytes()})
		}
	})
}

// row calls f for each row with p pointing at it.
func (m *micro) row(p reg.Register, f func(r int)) {
	MOVQ(reg.RCX, p)
	for r := range m.rows {
		f(r)
		if r < m.rows-1 {
			ADDQ(reg.RDX, p)
		}
	}
}

func (m *micro) each(f func(r, v int)) {
	for r := range m.acc {
		for v := range m.b {
			f(r, v)
		}
	}
}
